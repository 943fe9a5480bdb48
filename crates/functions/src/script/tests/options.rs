use super::services::{asked, with_collection};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn options_are_taken_in_the_forms_of_the_driver() {
    let majority = doc! { "writeConcern": { "w": "majority" } };
    for (statement, options) in [
        (
            "coll.insertOne({}, { writeConcern: { w: 'majority', wtimeout: 5, j: undefined } })",
            doc! { "writeConcern": { "w": "majority", "wtimeout": 5 } },
        ),
        (
            "coll.updateOne({}, {}, { w: 'majority' })",
            majority.clone(),
        ),
        (
            "coll.deleteMany({}, { writeConcern: 'majority' })",
            majority.clone(),
        ),
        (
            "coll.bulkWrite([], { writeConcern: { w: 1 }, j: true, wtimeoutMS: 5, ordered: 0 })",
            doc! { "ordered": 0, "writeConcern": { "j": true, "wtimeoutMS": 5, "w": 1 } },
        ),
        ("coll.insertOne({}, { writeConcern: {} })", doc! {}),
        (
            "coll.findOne({}, { readConcern: 'majority', readPreference: 'nearest' })",
            doc! { "readConcern": { "level": "majority" }, "readPreference": "nearest" },
        ),
        (
            "coll.count({}, { readPreference: { preference: 'secondary', tags: [{ a: 'b' }] } })",
            doc! { "readPreference": { "tags": [{ "a": "b" }], "mode": "secondary" } },
        ),
        (
            "coll.aggregate([], { cursor: { batchSize: 10 } }).next()",
            doc! { "batchSize": 10 },
        ),
        ("coll.aggregate([], { cursor: {} }).next()", doc! {}),
        (
            "coll.findOne({}, {}, { limit: 1, batchSize: 1, projection: { a: 1 } })",
            doc! { "projection": { "a": 1 } },
        ),
        (
            "coll.find({}, { a: 1 }, { limit: 1, noCursorTimeout: true }).next()",
            doc! { "limit": 1, "noCursorTimeout": true, "projection": { "a": 1 } },
        ),
        // Nothing in a document has such a name.
        (
            "coll.find({}, { noCursorTimeout: true, showRecordId: 1 }).next()",
            doc! { "noCursorTimeout": true, "showRecordId": 1 },
        ),
        (
            "coll.find({}, { min: { a: 1 }, max: { a: 2 }, hint: ['a'], returnKey: true }).next()",
            doc! { "min": { "a": 1 }, "max": { "a": 2 }, "hint": { "a": 1 }, "returnKey": true },
        ),
        (
            "coll.findOne({}, { min: 1, max: 1 })",
            doc! { "projection": { "min": 1, "max": 1 } },
        ),
        (
            "coll.updateOne({}, {}, { upsert: 1, comment: null })",
            doc! { "upsert": 1, "comment": null },
        ),
        (
            "coll.find().sort({ a: 1 }).limit(2).count()",
            doc! { "limit": 2 },
        ),
        (
            "coll.findOneAndDelete({}, { returnNewDocument: undefined, sort: 'a' })",
            doc! { "sort": { "a": 1 } },
        ),
    ] {
        let (outcome, asked) = with_collection(&format!("await {statement};"), |_, _| {
            Reply::Value(doc! { "batch": [] }.into())
        })
        .await;
        assert!(outcome.result.is_ok(), "{statement}: {outcome:?}");
        assert!(outcome.console.is_empty(), "{statement}: {outcome:?}");
        let given = asked[0].1.get_document("options").cloned();
        assert_eq!(given.unwrap_or_default(), options, "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_is_given_in_any_form_of_the_driver() {
    for (sort, expected) in [
        ("'a'", doc! { "a": 1 }),
        ("['b', 'a']", doc! { "b": 1, "a": 1 }),
        ("['b', -1]", doc! { "b": -1 }),
        ("['b', 'descending']", doc! { "b": -1 }),
        (
            "[['b', 1], ['2', 'desc'], ['1']]",
            doc! { "b": 1, "2": -1, "1": 1 },
        ),
        (
            "{ a: 'desc', b: 'ascending', c: '-1' }",
            doc! { "a": -1, "b": 1, "c": -1 },
        ),
        (
            "{ a: BSON.Int32(-1), b: BSON.Long.fromNumber(1) }",
            doc! { "a": -1, "b": 1 },
        ),
        (
            "new Map([['b', 'asc'], ['a', -1]])",
            doc! { "b": 1, "a": -1 },
        ),
        (
            "{ score: { $meta: 'textScore' } }",
            doc! { "score": { "$meta": "textScore" } },
        ),
    ] {
        for statement in [
            format!("coll.findOneAndUpdate({{}}, {{}}, {{ sort: {sort} }})"),
            format!("coll.updateOne({{}}, {{}}, {{ sort: {sort} }})"),
        ] {
            let (_, arguments) = asked(&statement).await;
            let given = arguments.get_document("options").unwrap();
            assert_eq!(given.to_string(), doc! { "sort": &expected }.to_string());
        }
        let (_, arguments) = asked(&format!(
            "coll.bulkWrite([{{ updateOne: {{ filter: {{}}, update: {{}}, sort: {sort} }} }}])"
        ))
        .await;
        let operations = arguments.get_array("operations").unwrap();
        let operation = operations[0].as_document().unwrap();
        let body = operation.get_document("updateOne").unwrap();
        assert_eq!(
            body.get_document("sort").unwrap().to_string(),
            expected.to_string()
        );
        for cursor in [
            format!("coll.find().sort({sort})"),
            format!("coll.find({{}}, {{ sort: {sort} }})"),
            format!("coll.aggregate([]).sort({sort})"),
        ] {
            let (outcome, asked) = with_collection(&format!("await {cursor}.next();"), |_, _| {
                Reply::Value(doc! { "batch": [] }.into())
            })
            .await;
            assert!(outcome.result.is_ok(), "{cursor}: {outcome:?}");
            let arguments = &asked[0].1;
            let given = match arguments.get_array("pipeline") {
                Ok(stages) => stages[0].as_document().unwrap().get_document("$sort"),
                Err(_) => arguments
                    .get_document("options")
                    .unwrap()
                    .get_document("sort"),
            };
            assert_eq!(given.unwrap().to_string(), expected.to_string(), "{cursor}");
        }
    }
    for (sort, message) in [
        ("{ a: 'up' }", "'up' is no order to sort in"),
        ("{ a: 0 }", "'0' is no order to sort in"),
        (
            "[{ a: 1 }]",
            "a sort is a document, or names, or pairs of a name and an order",
        ),
        (
            "5",
            "a sort is a document, or names, or pairs of a name and an order",
        ),
    ] {
        for statement in [
            format!("await coll.find().sort({sort}).next();"),
            format!("await coll.findOneAndDelete({{}}, {{ sort: {sort} }});"),
        ] {
            let (outcome, asked) = with_collection(&statement, |_, _| Reply::Never).await;
            let failure = failed(&outcome);
            assert_eq!(
                (failure.name.as_str(), failure.message.as_str()),
                ("TypeError", message),
                "{statement}"
            );
            assert!(asked.is_empty(), "{statement}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_that_is_unknown_is_left_out_and_the_console_says_so_once() {
    let fake = Fake::idle();
    let text = "exports = async () => {
        const coll = context.services.get('mongodb-atlas').db('d').collection('c');
        for (let n = 0; n < 3; n += 1) {
            await coll.updateOne({}, {}, { multi: true, upsert: true, new: true, returnNewDocument: true });
        }
        await coll.updateMany({}, {}, { multi: true, other: undefined });
        await coll.insertOne({}, { writeConcern: { w: 0, fsync: true } });
        await coll.findOne({}, {}, { promoteLongs: false, readPreference: { mode: 'nearest', hedge: { enabled: true } } });
        await coll.bulkWrite([{ deleteOne: { filter: {}, upsert: true } }, { deleteOne: { filter: {}, upsert: true } }], { w: 1, multi: 1 });
        context.services.get('mongodb-atlas').startSession({ defaultTransactionOptions: { isolation: 1 } });
    };";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    let expected = [
        "updateOne has no option 'multi', which is left out",
        "updateOne has no option 'new', which is left out",
        "updateOne has no option 'returnNewDocument', which is left out",
        "updateMany has no option 'multi', which is left out",
        "insertOne has no option 'writeConcern.fsync', which is left out",
        "insertOne has no option 'writeConcern.w: 0', which is left out",
        "findOne has no option 'readPreference.hedge', which is left out",
        "findOne has no option 'promoteLongs', which is left out",
        "bulkWrite has no option 'deleteOne.upsert', which is left out",
        "bulkWrite has no option 'multi', which is left out",
        "startSession has no option 'isolation', which is left out",
    ];
    // Every run is told.
    for _ in 0..2 {
        let outcome = isolate.run(call("f", vec![])).await;
        assert!(outcome.result.is_ok(), "{outcome:?}");
        let lines: Vec<_> = outcome
            .console
            .iter()
            .map(|line| (line.level, line.text.as_str()))
            .collect();
        assert_eq!(lines, expected.map(|text| ("warn", text)));
    }
    let asked = fake.asked();
    assert_eq!(
        asked[0].1.get_document("options").unwrap(),
        &doc! { "upsert": true }
    );
    assert_eq!(asked[4].1, doc! { "db": "d", "coll": "c", "document": {} });
    assert_eq!(
        asked[6].1,
        doc! {
            "db": "d", "coll": "c",
            "operations": [{ "deleteOne": { "filter": {} } }, { "deleteOne": { "filter": {} } }],
            "options": { "writeConcern": { "w": 1 } },
        }
    );
}
