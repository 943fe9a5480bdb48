//! The functions of `examples/triggers`, as they are there.

use bson::oid::ObjectId;
use bson::{DateTime, Decimal128, Document, doc};
use serde_json::{Value, json};
use tributary_convert::extjson;
use tributary_functions::app::Validation;
use tributary_functions::script::FailureKind;
use tributary_testkit::ReceivedRequest;

use super::changes::{events, with_pre_images};
use super::stage::Stage;
use super::table::{Expected, returns};
use super::{example, fixture};

const DAY: i64 = 24 * 60 * 60 * 1000;

async fn stage() -> Stage {
    let secrets = [
        ("synapse_url", "{receiver}/api/changes"),
        ("synapse_key", "azure key"),
        ("summary_key", "summary key"),
    ];
    let answered = fixture().join("functions/webhooks/answered.js");
    let functions = [("answered", answered.as_path())];
    let stage = Stage::start_with(&example("triggers"), "", &secrets, &functions).await;
    assert_eq!(stage.app.findings, []);
    stage
}

fn decimal(text: &str) -> Decimal128 {
    text.parse().unwrap()
}

fn assert_all_right(stage: &Stage) {
    assert!(stage.wrong.is_empty(), "{}", stage.wrong.join("\n"));
}

/// A body of Extended JSON.
fn posted(request: &ReceivedRequest) -> Document {
    let body = std::str::from_utf8(&request.body).unwrap();
    let document = extjson::parse_document(body).unwrap();
    Document::from_reader(document.as_slice()).unwrap()
}

/// An insert, an update and a delete of one order.
async fn changes_of_an_order(stage: &Stage, id: ObjectId) -> Vec<Document> {
    let shop = stage.mongodb().await.database("shop");
    let orders = with_pre_images(&shop, "orders").await;
    let act = async {
        let order = doc! {
            "_id": id,
            "customer": "ada",
            "total": decimal("9.90"),
            "placed": DateTime::from_millis(1_700_000_000_123),
        };
        orders.insert_one(order).await.unwrap();
        let update = doc! { "$set": { "customer": "bob" } };
        let order = doc! { "_id": id };
        orders.update_one(order.clone(), update).await.unwrap();
        orders.delete_one(order).await.unwrap();
        3
    };
    events(&orders, true, act).await
}

#[tokio::test]
async fn the_example_puts_the_document_of_each_change_into_a_stream() {
    let mut stage = stage().await;
    let stream = json!({ "StreamName": "orders", "ShardCount": 1 });
    stage.aws("kinesis", "CreateStream", stream).await;
    let id = ObjectId::new();
    let orders = stage.mongodb().await.database("shop").collection("orders");
    let act = async {
        let order = doc! { "_id": id, "customer": "ada", "lines": ["tea", "jam"] };
        orders.insert_one(order).await.unwrap();
        let order = doc! { "customer": "bob", "lines": [] };
        let filter = doc! { "_id": id };
        orders.replace_one(filter, order).await.unwrap();
        2
    };
    let came = events(&orders, true, act).await;
    for event in &came {
        let outcome = stage.call_with("orderToKinesis", event.clone()).await;
        outcome.result.unwrap();
    }
    let ids = came.iter().map(|event| {
        let id = event.get_document("_id").unwrap();
        id.get_str("_data").unwrap().to_owned()
    });
    let records = stage.records("orders").await;
    let records: Vec<(Value, String)> = records
        .into_iter()
        .map(|(data, key)| (serde_json::from_str(&data).unwrap(), key))
        .collect();
    let id = id.to_hex();
    let expected = [
        json!({ "_id": id, "customer": "ada", "lines": ["tea", "jam"] }),
        json!({ "_id": id, "customer": "bob", "lines": [] }),
    ];
    let expected: Vec<(Value, String)> = ids
        .zip(expected)
        .map(|(event, document)| (json!({ "event": event, "document": document }), id.clone()))
        .collect();
    assert_eq!(records, expected);

    // A stream that is not there is a run that failed, and is tried again.
    let none = json!({ "StreamName": "orders" });
    stage.aws("kinesis", "DeleteStream", none).await;
    let outcome = stage.call_with("orderToKinesis", came[0].clone()).await;
    let failure = outcome.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Thrown);
    assert_eq!(failure.name, "ResourceNotFoundException");
}

#[tokio::test]
async fn the_example_posts_each_change_event_as_it_is() {
    let mut stage = stage().await;
    let changes = changes_of_an_order(&stage, ObjectId::new()).await;
    stage.receiver.answer_with(202, &[], "");
    for event in &changes {
        let outcome = stage.call_with("changeToSynapse", event.clone()).await;
        outcome.result.unwrap();
    }
    let came = stage.receiver.requests();
    // There are no whole numbers in these, so nothing is lost on the way to JSON and back.
    let bodies: Vec<Document> = came.iter().map(posted).collect();
    assert_eq!(bodies, changes);
    let before = bodies[1].get_document("fullDocumentBeforeChange").unwrap();
    assert_eq!(before.get_str("customer").unwrap(), "ada");
    for request in &came {
        assert_eq!(request.method, "POST");
        assert_eq!(request.path, "/api/changes");
        assert_eq!(request.header("x-functions-key"), Some("azure key"));
        assert_eq!(request.header("content-type"), Some("application/json"));
    }

    stage.receiver.answer_with(503, &[], "busy");
    let outcome = stage.call_with("changeToSynapse", changes[0].clone()).await;
    let failure = outcome.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Thrown);
    assert_eq!(
        failure.message,
        "the Azure function answered 503 Service Unavailable"
    );
}

#[tokio::test]
async fn the_example_sums_up_a_day_and_answers_for_it() {
    let mut stage = stage().await;
    let shop = stage.mongodb().await.database("shop");
    // The same on each day, as midnight may pass.
    let today = DateTime::now().timestamp_millis() / DAY;
    let orders = (today - 2..=today).flat_map(|day| {
        [
            ("ada", "1.10", 0),
            ("bob", "2.20", DAY / 2),
            ("ada", "3.30", DAY - 1),
        ]
        .map(|(customer, total, time)| {
            doc! {
                "customer": customer,
                "total": decimal(total),
                "placed": DateTime::from_millis(day * DAY + time),
            }
        })
    });
    let orders: Vec<Document> = orders.collect();
    let collection = shop.collection::<Document>("orders");
    collection.insert_many(orders).await.unwrap();
    for _ in 0..2 {
        let outcome = stage.call("dailySummary", "[]").await;
        outcome.result.unwrap();
        assert!(outcome.console[0].text.ends_with(": 3 orders"));
    }

    let summaries = shop.collection::<Document>("summaries");
    let summary = summaries.find_one(doc! {}).await.unwrap().unwrap();
    let day = summary.get_str("_id").unwrap().to_owned();
    let yesterday = |today: i64| {
        let midnight = DateTime::from_millis((today - 1) * DAY);
        midnight.try_to_rfc3339_string().unwrap()[..10].to_owned()
    };
    assert!(day == yesterday(today) || day == yesterday(today + 1));
    let last = DateTime::now().timestamp_millis() / DAY;
    let days = u64::try_from(last - today + 1).unwrap();
    assert!((1..=days).contains(&summaries.count_documents(doc! {}).await.unwrap()));

    let row = returns("answered", "", "");
    let sums = r#""orders": 3, "total": "6.60", "customers": 2"#;
    let expected = [
        (
            day.as_str(),
            format!(r#"{{ "headers": {{}}, "result": {{ "day": "{day}", {sums} }} }}"#),
        ),
        (
            "1999-12-31",
            r#"{ "headers": {}, "code": 404, "result": { "error": "there is no summary of 1999-12-31" } }"#
                .to_owned(),
        ),
        (
            "today",
            r#"{ "headers": {}, "code": 400, "result": { "error": "day is a date, such as 2026-01-31" } }"#
                .to_owned(),
        ),
    ];
    for (day, expected) in expected {
        let arguments =
            format!(r#"["summary", {{ "query": {{ "day": "{day}" }}, "headers": {{}} }}]"#);
        let outcome = stage.call("answered", &arguments).await;
        let row = super::table::Row {
            expected: Expected::Value(expected.leak()),
            ..row
        };
        stage.note(row.judge(&outcome));
    }
    assert_all_right(&stage);

    let endpoint = &stage.app.endpoints[0];
    assert_eq!(endpoint.function, "summary");
    assert!(
        matches!(&endpoint.validation, Validation::SecretAsHeader(key) if key.as_str() == "summary key")
    );
}
