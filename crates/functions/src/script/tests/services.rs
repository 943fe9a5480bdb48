use super::*;

/// Runs a function whose `coll` is a collection, and says what it returned and what was asked.
pub(super) async fn with_collection(
    body: &str,
    answering: impl Fn(&ServiceCall, &Document) -> Reply + Send + Sync + 'static,
) -> (Outcome, Vec<(String, Document)>) {
    let fake = Fake::new(answering);
    let text = format!(
        "exports = async () => {{ const coll = context.services.get('mongodb-atlas').db('shop').collection('orders'); {body} }};"
    );
    let isolate = start(program(&[("f", &text)]), short(), &fake);
    let outcome = isolate.run(call("f", vec![])).await;
    (outcome, fake.asked())
}

/// What a statement on a collection asks for.
pub(super) async fn asked(statement: &str) -> (String, Document) {
    let (outcome, mut asked) = with_collection(&format!("await {statement};"), |_, _| {
        Reply::Value(Bson::Null)
    })
    .await;
    assert!(outcome.result.is_ok(), "{statement}: {outcome:?}");
    assert_eq!(asked.len(), 1, "{statement}");
    let (operation, mut arguments) = asked.remove(0);
    assert_eq!(arguments.remove("db"), Some("shop".into()), "{statement}");
    assert_eq!(
        arguments.remove("coll"),
        Some("orders".into()),
        "{statement}"
    );
    (operation, arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_on_collections_are_asked_of_the_service() {
    for (statement, operation, arguments) in [
        (
            "coll.findOne({ a: 1 })",
            "findOne",
            doc! { "filter": { "a": 1 } },
        ),
        ("coll.findOne()", "findOne", doc! { "filter": {} }),
        (
            "coll.findOne({}, { a: 1 })",
            "findOne",
            doc! { "filter": {}, "options": { "projection": { "a": 1 } } },
        ),
        (
            "coll.findOne({}, { limit: 1 })",
            "findOne",
            doc! { "filter": {}, "options": { "projection": { "limit": 1 } } },
        ),
        (
            "coll.findOne({}, { sort: { a: -1 } })",
            "findOne",
            doc! { "filter": {}, "options": { "sort": { "a": -1 } } },
        ),
        (
            "coll.findOne({}, { projection: { a: 1 }, skip: 1 })",
            "findOne",
            doc! { "filter": {}, "options": { "projection": { "a": 1 }, "skip": 1 } },
        ),
        (
            "coll.findOne({}, { a: 1 }, { skip: 2 })",
            "findOne",
            doc! { "filter": {}, "options": { "skip": 2, "projection": { "a": 1 } } },
        ),
        (
            "coll.findOneAndUpdate({ a: 1 }, { $inc: { n: 1 } }, { returnNewDocument: true, upsert: true })",
            "findOneAndUpdate",
            doc! { "filter": { "a": 1 }, "update": { "$inc": { "n": 1 } }, "options": { "upsert": true, "returnDocument": "after" } },
        ),
        (
            "coll.findOneAndReplace({}, { b: 1 })",
            "findOneAndReplace",
            doc! { "filter": {}, "replacement": { "b": 1 } },
        ),
        (
            "coll.findOneAndDelete({ a: 1 }, { sort: { a: 1 } })",
            "findOneAndDelete",
            doc! { "filter": { "a": 1 }, "options": { "sort": { "a": 1 } } },
        ),
        (
            "coll.insertOne({ a: 1.5 })",
            "insertOne",
            doc! { "document": { "a": 1.5 } },
        ),
        (
            "coll.insertMany([{ a: 1 }], { ordered: false })",
            "insertMany",
            doc! { "documents": [{ "a": 1 }], "options": { "ordered": false } },
        ),
        (
            "coll.updateOne({}, [{ $set: { a: 1 } }])",
            "updateOne",
            doc! { "filter": {}, "update": [{ "$set": { "a": 1 } }] },
        ),
        (
            "coll.updateMany({}, { $set: { a: 1 } }, { upsert: true })",
            "updateMany",
            doc! { "filter": {}, "update": { "$set": { "a": 1 } }, "options": { "upsert": true } },
        ),
        (
            "coll.replaceOne({ a: 1 }, { b: 2 })",
            "replaceOne",
            doc! { "filter": { "a": 1 }, "replacement": { "b": 2 } },
        ),
        (
            "coll.deleteOne({ a: 1 })",
            "deleteOne",
            doc! { "filter": { "a": 1 } },
        ),
        ("coll.deleteMany({})", "deleteMany", doc! { "filter": {} }),
        // Within documents `undefined` is null: a filter without it would match more than was meant.
        (
            "coll.deleteMany({ a: undefined, b: { $in: [undefined] } })",
            "deleteMany",
            doc! { "filter": { "a": null, "b": { "$in": [null] } } },
        ),
        (
            "coll.deleteMany(new Map([['a', undefined]]))",
            "deleteMany",
            doc! { "filter": { "a": null } },
        ),
        (
            "coll.insertOne({ a: undefined, b: [undefined, , 1], c: { d: undefined } })",
            "insertOne",
            doc! { "document": { "a": null, "b": [null, null, 1], "c": { "d": null } } },
        ),
        (
            "coll.updateMany({ a: 1 }, { $set: { b: undefined } }, { arrayFilters: [{ 'x.y': undefined }] })",
            "updateMany",
            doc! {
                "filter": { "a": 1 }, "update": { "$set": { "b": null } },
                "options": { "arrayFilters": [{ "x.y": null }] },
            },
        ),
        (
            "coll.bulkWrite([{ deleteMany: { filter: { a: undefined } } }])",
            "bulkWrite",
            doc! { "operations": [{ "deleteMany": { "filter": { "a": null } } }] },
        ),
        // Except for the `_id` of a document that is inserted.
        (
            "coll.insertOne({ _id: undefined, a: undefined })",
            "insertOne",
            doc! { "document": { "a": null } },
        ),
        (
            "coll.insertOne(new Map([['_id', undefined], ['a', 1]]))",
            "insertOne",
            doc! { "document": { "a": 1 } },
        ),
        (
            "coll.insertOne({ _id: null, a: { _id: undefined } })",
            "insertOne",
            doc! { "document": { "_id": null, "a": { "_id": null } } },
        ),
        (
            "coll.insertMany([{ _id: undefined, a: 1 }, { _id: 2 }])",
            "insertMany",
            doc! { "documents": [{ "a": 1 }, { "_id": 2 }] },
        ),
        (
            "coll.bulkWrite([{ insertOne: { document: { _id: undefined, a: 1 } } }, { insertOne: { _id: undefined, document: { a: 1 } } }, { insertOne: { document: 1 } }, { insertOne: { name: 'x', document: {} } }])",
            "bulkWrite",
            doc! { "operations": [
                { "insertOne": { "document": { "a": 1 } } },
                { "insertOne": { "document": { "document": { "a": 1 } } } },
                { "insertOne": { "document": 1 } },
                { "insertOne": { "document": { "name": "x", "document": {} } } },
            ] },
        ),
        (
            "coll.replaceOne({}, { _id: undefined }, { upsert: true })",
            "replaceOne",
            doc! { "filter": {}, "replacement": { "_id": null }, "options": { "upsert": true } },
        ),
        // What is not given is absent.
        (
            "coll.deleteMany(undefined)",
            "deleteMany",
            doc! { "filter": {} },
        ),
        ("coll.updateOne(undefined, undefined)", "updateOne", doc! {}),
        (
            "coll.updateOne({}, { $set: { a: 1 } }, { upsert: undefined, other: undefined })",
            "updateOne",
            doc! { "filter": {}, "update": { "$set": { "a": 1 } } },
        ),
        (
            "coll.findOne({ a: { $gt: BSON.MinKey, $lt: BSON.MaxKey, $ne: BSON.MaxKey() } })",
            "findOne",
            doc! { "filter": { "a": { "$gt": Bson::MinKey, "$lt": Bson::MaxKey, "$ne": Bson::MaxKey } } },
        ),
        (
            "coll.count({ a: 1 })",
            "count",
            doc! { "filter": { "a": 1 } },
        ),
        (
            "coll.countDocuments()",
            "countDocuments",
            doc! { "filter": {} },
        ),
        (
            "coll.estimatedDocumentCount()",
            "estimatedDocumentCount",
            doc! {},
        ),
        (
            "coll.distinct('a', { b: 1 })",
            "distinct",
            doc! { "field": "a", "filter": { "b": 1 } },
        ),
        (
            "coll.bulkWrite([{ insertOne: { document: { a: 1 } } }])",
            "bulkWrite",
            doc! { "operations": [{ "insertOne": { "document": { "a": 1 } } }] },
        ),
    ] {
        assert_eq!(
            asked(statement).await,
            (operation.to_owned(), arguments),
            "{statement}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_reads_batch_after_batch() {
    let answering = |call: &ServiceCall, arguments: &Document| match call.operation.as_str() {
        "getMore" => {
            assert_eq!(arguments.get("cursor"), Some(&Bson::Int32(7)));
            Reply::Value(doc! { "batch": [{ "n": 3 }], "cursor": null }.into())
        }
        "closeCursor" => Reply::Value(Bson::Null),
        _ => Reply::Value(doc! { "batch": [{ "n": 1 }, { "n": 2 }], "cursor": 7 }.into()),
    };
    for body in [
        "return (await coll.find({}).toArray()).map((d) => d.n);",
        "return coll.find({}).map((d) => d.n).toArray();",
        "return (await coll.aggregate([{ $match: {} }]).toArray()).map((d) => d.n);",
        "const all = []; for await (const d of coll.find()) all.push(d.n); return all;",
        "const all = []; await coll.find().forEach((d) => { all.push(d.n); }); return all;",
        "const all = []; const c = coll.find(); while (await c.hasNext()) all.push((await c.next()).n); return (await c.next()) === undefined && (await c.tryNext()) === null ? all : 0;",
        "const all = []; const c = coll.find(); for (let d; (d = await c.next());) all.push(d.n); return all;",
    ] {
        let (outcome, _) = with_collection(body, answering).await;
        assert_eq!(returned(&outcome), Some(::bson::bson!([1, 2, 3])), "{body}");
    }
    let (outcome, asked) =
        with_collection("for await (const d of coll.find()) return d.n;", answering).await;
    assert_eq!(returned(&outcome), Some(Bson::Int32(1)));
    assert_eq!(
        asked.last().map(|(operation, _)| operation.as_str()),
        Some("closeCursor")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_refined_before_it_is_read() {
    let empty =
        |_: &ServiceCall, _: &Document| Reply::Value(doc! { "batch": [], "cursor": null }.into());
    let (outcome, asked) = with_collection(
        "return coll.find({ a: 1 }, { b: 1 }).sort({ a: -1 }).limit(5).skip(2).batchSize(3).toArray();",
        empty,
    )
    .await;
    assert_eq!(returned(&outcome), Some(Bson::Array(vec![])));
    assert_eq!(
        asked[0].1.get_document("options").unwrap(),
        &doc! { "projection": { "b": 1 }, "sort": { "a": -1 }, "limit": 5, "skip": 2, "batchSize": 3 }
    );
    let (outcome, _) = with_collection(
        "const c = coll.find(); await c.toArray(); c.sort({ a: 1 });",
        empty,
    )
    .await;
    assert_eq!(
        failed(&outcome).message,
        "a cursor that was read from takes no sort"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_run_commands_and_pipelines() {
    let (outcome, asked) = with_collection(
        "const db = context.services.get('mongodb-atlas').db('shop'); await db.runCommand({ ping: 1 }); await db.aggregate([{ $documents: [] }]).toArray();",
        |call, _| match call.operation.as_str() {
            "aggregate" => Reply::Value(doc! { "batch": [] }.into()),
            _ => Reply::Value(doc! { "ok": 1 }.into()),
        },
    )
    .await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    assert_eq!(
        asked[0],
        (
            "runCommand".to_owned(),
            doc! { "db": "shop", "command": { "ping": 1 } }
        )
    );
    assert_eq!(
        asked[1],
        (
            "aggregate".to_owned(),
            doc! { "db": "shop", "pipeline": [{ "$documents": [] }] }
        )
    );
    let (outcome, _) = with_collection("coll.watch();", |_, _| Reply::Never).await;
    assert!(failed(&outcome).message.contains("not supported"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_refuses_is_thrown_at_the_function() {
    let refuse = |_: &ServiceCall, _: &Document| {
        Reply::Error(ServiceError {
            name: "MongoError".to_owned(),
            message: "duplicate key".to_owned(),
            code: Some(11000),
            labels: vec!["RetryableWriteError".to_owned()],
            is_transient: false,
        })
    };
    let (outcome, _) = with_collection(
        "try { await coll.insertOne({}); } catch (e) { return [e instanceof Error, e.name, e.message, e.code, e.errorLabels, e.hasErrorLabel('RetryableWriteError'), e.stack.startsWith('MongoError: duplicate key\\n    at ')]; }",
        refuse,
    )
    .await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!([
            true,
            "MongoError",
            "duplicate key",
            11000,
            ["RetryableWriteError"],
            true,
            true
        ]))
    );
    let (outcome, _) = with_collection("\n\nawait coll.insertOne({});", refuse).await;
    let failure = failed(&outcome);
    assert_eq!(
        (failure.kind, failure.name.as_str()),
        (FailureKind::Thrown, "MongoError")
    );
    assert_eq!(
        failure.place,
        Some(("functions/f.js".to_owned(), 3)),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_bson_is_not_asked_of_a_service() {
    let (outcome, asked) =
        with_collection("const a = {}; a.a = a; await coll.insertOne(a);", |_, _| {
            Reply::Never
        })
        .await;
    assert_eq!(failed(&outcome).name, "TypeError");
    assert!(
        failed(&outcome)
            .message
            .contains("the value contains itself"),
        "{outcome:?}"
    );
    assert!(asked.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_and_symbols_are_not_asked_of_a_database() {
    for (statement, message) in [
        (
            "coll.deleteMany({ at: { $lt: Date.now } })",
            "a function is no value that MongoDB can be given, at filter.at.$lt",
        ),
        (
            "coll.aggregate([{ $match: { a: BSON.ObjectId } }]).toArray()",
            "a function is no value that MongoDB can be given, at pipeline[0].$match.a",
        ),
        (
            "coll.insertOne({ a: [Symbol('x')] })",
            "a symbol is no value that MongoDB can be given, at document.a[0]",
        ),
    ] {
        let (outcome, asked) =
            with_collection(&format!("await {statement};"), |_, _| Reply::Never).await;
        let failure = failed(&outcome);
        assert_eq!(
            (failure.name.as_str(), failure.message.as_str()),
            ("TypeError", message)
        );
        assert!(asked.is_empty(), "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_services_are_not_given_is_left_out() {
    let fake = Fake::idle();
    let text = "exports = () => context.services.get('cloud').kinesis().PutRecord({ Data: 'x', ExplicitHashKey: undefined, f() {} });";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    let outcome = isolate.run(call("f", vec![])).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    let (_, arguments) = fake.asked().remove(0);
    assert_eq!(arguments, doc! { "args": { "Data": "x" } });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_an_unknown_name_is_undefined_and_the_console_says_so() {
    let isolate = isolate("exports = () => context.services.get('nobody') === undefined;");
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(returned(&outcome), Some(true.into()));
    let line = &outcome.console[0];
    assert_eq!(
        (line.level, line.text.as_str()),
        ("warn", "there is no service 'nobody'")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_panics_answers_with_an_error() {
    let fake = Fake::new(|_, _| panic!("the fake service panics"));
    let text = "exports = () => context.services.get('mongodb-atlas').db('d').collection('c').findOne({});";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    assert_eq!(
        failed(&isolate.run(call("f", vec![])).await).message,
        "the service gave no answer"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_of_other_services_are_asked_by_name() {
    let fake = Fake::idle();
    let text = "exports = async () => {
        const aws = context.services.get('cloud');
        await aws.kinesis('eu-west-1').PutRecord({ Data: 'x' });
        await aws.s3().PutObject({ Body: BSON.Binary.fromText('hi') });
        await (await aws.anything()).Whatever();
        await context.services.get('phone').send({ to: '1' });
        await context.http.get({ url: 'http://a' });
        await context.services.get('web').post({ url: 'http://a', body: { n: 1, id: BSON.ObjectId('0123456789abcdef01234567') }, encodeBodyAsJSON: true });
        await context.http.put({ url: 'http://a', body: 'text' });
        await context.http.get('http://b');
    };";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    let outcome = isolate.run(call("f", vec![])).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    let calls: Vec<_> = fake
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(|(call, arguments)| {
            (
                call.service.clone(),
                call.operation.clone(),
                arguments.clone(),
            )
        })
        .collect();
    let binary = ::bson::Binary {
        subtype: ::bson::spec::BinarySubtype::Generic,
        bytes: b"hi".to_vec(),
    };
    let body = "{\"n\":{\"$numberInt\":\"1\"},\"id\":{\"$oid\":\"0123456789abcdef01234567\"}}";
    let expected = [
        (
            "cloud",
            "kinesis.PutRecord",
            doc! { "args": { "Data": "x" }, "region": "eu-west-1" },
        ),
        ("cloud", "s3.PutObject", doc! { "args": { "Body": binary } }),
        ("cloud", "anything.Whatever", doc! { "args": {} }),
        ("phone", "send", doc! { "args": { "to": "1" } }),
        ("", "get", doc! { "args": { "url": "http://a" } }),
        (
            "web",
            "post",
            doc! { "args": { "url": "http://a", "body": body, "encodeBodyAsJSON": true } },
        ),
        (
            "",
            "put",
            doc! { "args": { "url": "http://a", "body": "text" } },
        ),
        ("", "get", doc! { "args": { "url": "http://b" } }),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(service, operation, arguments)| {
            (service.to_owned(), operation.to_owned(), arguments)
        })
        .collect();
    assert_eq!(calls, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_response_has_its_text() {
    let fake = Fake::new(|_, _| {
        let body = ::bson::Binary {
            subtype: ::bson::spec::BinarySubtype::Generic,
            bytes: "grüß".into(),
        };
        Reply::Value(doc! { "statusCode": 200, "headers": { "A": ["b"] }, "body": body }.into())
    });
    let text = "exports = async () => { const r = await context.http.get({ url: 'http://a' }); return [r.statusCode, r.headers.A[0], r.body.text()]; };";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    assert_eq!(
        returned(&isolate.run(call("f", vec![])).await),
        Some(::bson::bson!([200, "b", "grüß"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_is_of_one_run_and_closed_with_it() {
    let fake = Fake::new(|_, _| Reply::Value(Bson::Null));
    let text = "exports = async () => { const c = context.services.get('mongodb-atlas').db('d').collection('c'); await c.findOne(); await c.findOne(); };";
    let isolate = start(
        program(&[("f", text), ("g", "exports = () => 1;")]),
        short(),
        &fake,
    );
    assert!(isolate.run(call("f", vec![])).await.result.is_ok());
    until("the scope is closed", || fake.open() == 0).await;
    assert_eq!(fake.operations().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_asks_for_and_does_not_await_is_done_all_the_same() {
    let fake = Fake::new(|_, _| Reply::Late(Duration::from_millis(50), Bson::Null));
    let text = "exports = () => { const c = context.services.get('mongodb-atlas').db('d').collection('c'); c.insertOne({ a: 1 }).then(() => c.deleteOne({ a: 1 })); return 'done'; };";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(returned(&outcome), Some("done".into()));
    assert_eq!(fake.operations(), ["insertOne", "deleteOne"]);
    assert!(outcome.duration >= Duration::from_millis(100));
    until("the scope is closed", || fake.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_does_not_await_is_given_up_at_its_deadline() {
    let fake = Fake::new(|_, _| Reply::Never);
    let text = "exports = async () => { context.http.get('http://a'); return 'done'; };";
    let isolate = start(program(&[("f", text)]), hasty(), &fake);
    let run = isolate.run(call("f", vec![]));
    fn is_send<T: Send>(run: T) -> T {
        run
    }
    let outcome = is_send(run).await;
    assert_eq!(returned(&outcome), Some("done".into()));
    assert_eq!(
        outcome.console[0].text,
        "1 calls of services were given up: the function had not waited for them"
    );
}
