use std::sync::atomic::AtomicI32;

use super::services::with_collection;
use super::*;

/// A collection of the documents from 1 on, in batches of this size, each of which takes a while.
fn numbers(
    last: i32,
    size: i32,
) -> impl Fn(&ServiceCall, &Document) -> Reply + Send + Sync + 'static {
    let next = AtomicI32::new(1);
    move |call, _| {
        if call.operation == "closeCursor" {
            return Reply::Value(Bson::Null);
        }
        let from = next.fetch_add(size, Ordering::SeqCst);
        let batch: Vec<_> = (from..from + size)
            .filter(|n| *n <= last)
            .map(|n| doc! { "n": n })
            .collect();
        let cursor = (from + size <= last).then_some(7);
        Reply::Late(
            Duration::from_millis(2),
            doc! { "batch": batch, "cursor": cursor }.into(),
        )
    }
}

fn operations(asked: &[(String, Document)]) -> Vec<&str> {
    asked.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_asked_for_at_once_are_all_given() {
    for (body, expected) in [
        (
            "const c = coll.find(); const all = await Promise.all([c.next(), c.next(), c.next(), c.next(), c.next(), c.next()]); return all.map((d) => d?.n ?? null);",
            ::bson::bson!([1, 2, 3, 4, 5, null]),
        ),
        (
            "const c = coll.find(); const all = await Promise.all([c.tryNext(), c.next(), c.hasNext(), c.hasNext(), c.tryNext()]); return [...all.map((d) => d.n ?? d), (await c.next()).n];",
            ::bson::bson!([1, 2, true, true, 3, 4]),
        ),
        (
            "const c = coll.find().map(async (d) => d.n * 2); return Promise.all([c.next(), c.next(), c.next(), c.next()]);",
            ::bson::bson!([2, 4, 6, 8]),
        ),
        (
            "const c = coll.find(); const first = c.next(); const rest = await c.toArray(); return [(await first).n, ...rest.map((d) => d.n)];",
            ::bson::bson!([1, 2, 3, 4, 5]),
        ),
    ] {
        let (outcome, asked) = with_collection(body, numbers(5, 2)).await;
        assert_eq!(returned(&outcome), Some(expected), "{body}");
        assert_eq!(operations(&asked)[..2], ["find", "getMore"], "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_cursor_and_each_document_is_given_to_one() {
    let expected: Vec<i32> = (1..=304).collect();
    for worker in [
        "for (let d; (d = await c.next()); ) { seen.push(d.n); }",
        "for (let d; (d = await c.tryNext()); await undefined) { seen.push(d.n); await c.hasNext(); }",
        "while (await c.hasNext()) { const d = await c.next(); if (d) seen.push(d.n); }",
        "for await (const d of c) seen.push(d.n);",
        "await c.forEach((d) => { seen.push(d.n); });",
    ] {
        let body = format!(
            "const c = coll.find().batchSize(20); const seen = []; const work = async () => {{ {worker} }};
             await Promise.all([work(), work(), work(), work()]);
             return [seen.sort((a, b) => a - b), c.closed];"
        );
        let (outcome, asked) = with_collection(&body, numbers(304, 20)).await;
        let expected = vec![Bson::from(expected.clone()), true.into()];
        assert_eq!(returned(&outcome), Some(expected.into()), "{worker}");
        assert_eq!(asked.len(), 16, "{worker}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_closed_while_documents_come_gives_none_and_leaves_none_open() {
    // Its number is not known yet.
    let (outcome, asked) = with_collection(
        "const c = coll.find(); const both = [c.next(), c.hasNext()]; await c.close(); return [(await both[0]) === undefined, await both[1], (await c.next()) === undefined, c.closed];",
        numbers(5, 2),
    )
    .await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!([true, false, true, true]))
    );
    assert_eq!(operations(&asked), ["find", "closeCursor"]);
    assert_eq!(asked[1].1.get("cursor"), Some(&Bson::Int32(7)));

    let (outcome, asked) = with_collection(
        "const c = coll.find(); await c.next(); await c.next(); const third = c.next(); await c.close(); return (await third) === undefined;",
        numbers(5, 2),
    )
    .await;
    assert_eq!(returned(&outcome), Some(true.into()));
    assert_eq!(operations(&asked), ["find", "getMore", "closeCursor"]);

    // Nothing is open any more where all came with the first batch.
    let (outcome, asked) = with_collection(
        "const c = coll.find(); const first = c.next(); await c.close(); return (await first) === undefined;",
        numbers(2, 2),
    )
    .await;
    assert_eq!(returned(&outcome), Some(true.into()));
    assert_eq!(operations(&asked), ["find"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_told_to_all_who_wait_and_closes_the_cursor() {
    let error = || {
        Reply::Error(ServiceError {
            name: "MongoServerError".to_owned(),
            message: "lost".to_owned(),
            code: Some(43),
            labels: vec![],
            is_transient: false,
        })
    };
    let body = "const c = coll.find(); const told = (e) => e.message;
        const first = c.next().then((d) => d.n, told);
        const second = c.next().then((d) => d.n, told);
        const others = [c.next(), c.hasNext(), c.tryNext()].map((p) => p.catch(told));
        return [await first, await second, ...(await Promise.all(others)), (await c.next()) === undefined, await c.hasNext(), c.closed];";
    let (outcome, asked) = with_collection(body, move |call, _| match call.operation.as_str() {
        "find" => {
            let first = doc! { "batch": [{ "n": 1 }, { "n": 2 }], "cursor": 7 };
            Reply::Late(Duration::from_millis(2), first.into())
        }
        _ => error(),
    })
    .await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!([
            1, 2, "lost", "lost", "lost", true, false, true
        ]))
    );
    assert_eq!(operations(&asked), ["find", "getMore"]);
    let (outcome, asked) = with_collection(body, move |_, _| error()).await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!([
            "lost", "lost", "lost", "lost", "lost", true, false, true
        ]))
    );
    assert_eq!(operations(&asked), ["find"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_is_left_closes_its_cursor() {
    for body in [
        "for await (const d of coll.find()) { if (d.n === 2) return d.n; }",
        "let n; await coll.find().forEach((d) => { n = d.n; return n < 2; }); return n;",
        "let n; try { await coll.find().forEach((d) => { n = d.n; if (n === 2) throw new Error(); }); } catch { return n; }",
    ] {
        let (outcome, asked) = with_collection(body, numbers(5, 2)).await;
        assert_eq!(returned(&outcome), Some(Bson::Int32(2)), "{body}");
        assert_eq!(operations(&asked), ["find", "closeCursor"], "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_refined_by_stages_in_the_order_of_the_calls() {
    let empty =
        |_: &ServiceCall, _: &Document| Reply::Value(doc! { "batch": [], "cursor": null }.into());
    let (outcome, asked) = with_collection(
        "const pipeline = [{ $match: { a: 1 } }];
         await coll.aggregate(pipeline, { comment: 'x' }).sort({ b: -1 }).skip(1).limit(5).project({ b: 1 }).sort('b', 1).batchSize(2).toArray();
         await context.services.get('mongodb-atlas').db('shop').aggregate().limit(1).toArray();
         return pipeline.length;",
        empty,
    )
    .await;
    assert_eq!(returned(&outcome), Some(Bson::Int32(1)), "{outcome:?}");
    let pipeline = vec![
        doc! { "$match": { "a": 1 } },
        doc! { "$sort": { "b": -1 } },
        doc! { "$skip": 1 },
        doc! { "$limit": 5 },
        doc! { "$project": { "b": 1 } },
        doc! { "$sort": { "b": 1 } },
    ];
    assert_eq!(
        asked[0].1,
        doc! {
            "db": "shop", "coll": "orders", "pipeline": pipeline,
            "options": { "comment": "x", "batchSize": 2 },
        }
    );
    assert_eq!(
        asked[1].1,
        doc! { "db": "shop", "pipeline": [{ "$limit": 1 }] }
    );
    for (body, message) in [
        (
            "const c = coll.aggregate([]); await c.next(); c.limit(1);",
            "a cursor that was read from takes no limit",
        ),
        (
            "coll.aggregate({ $match: {} }).limit(1);",
            "the pipeline is no array",
        ),
    ] {
        let (outcome, _) = with_collection(body, empty).await;
        assert_eq!(failed(&outcome).message, message);
    }
}
