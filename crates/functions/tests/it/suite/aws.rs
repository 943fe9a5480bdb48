//! The AWS service.

use serde_json::{Value, json};

use super::stage::Stage;
use super::table::{Row, returns};

const ROWS: &[Row] = &[
    returns(
        "aws/toStream",
        r#"[{
            "operationType": "insert",
            "documentKey": { "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" } },
            "fullDocument": { "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" }, "item": "tea", "quantity": 2 }
        }]"#,
        r#"{ "sequence": "string", "shard": "shardId-000000000000" }"#,
    ),
    returns("aws/toStreamBatch", r#"[["a", "é"]]"#, "[0, 2]"),
    returns(
        "aws/archive",
        r#"["2024/a b.json", { "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" }, "n": 1 }]"#,
        r#"{
            "tagged": true,
            "text": "{\"_id\":{\"$oid\":\"64b0c0ffee64b0c0ffee64b0\"},\"n\":{\"$numberInt\":\"1\"}}",
            "kind": "application/json"
        }"#,
    ),
    returns("aws/enqueue", r#"[{ "item": "tea" }]"#, "true"),
    returns("aws/mail", r#"["ada@example.com"]"#, "true"),
    returns("aws/deliver", r#"["one line"]"#, "true"),
    returns("aws/announce", r#"["aws", { "order": 7 }]"#, "[0, 1]"),
    returns("aws/refused", "[]", r#"{ "isError": true, "named": true }"#),
];

const ANNOUNCED: Row = returns("aws/announce", r#"["compute", { "order": 7 }]"#, "[0, 1]");

const INVOKED: Row = returns(
    "aws/invoke",
    r#"[{ "item": "tea" }]"#,
    r#"{ "$numberDecimal": "9.90" }"#,
);

pub(super) async fn run(stage: &mut Stage) {
    prepare(stage).await;
    stage.rows(ROWS).await;

    let record = |data: &str, key: &str| (data.to_owned(), key.to_owned());
    let expected = vec![
        record(
            r#"{"_id":"64b0c0ffee64b0c0ffee64b0","item":"tea","quantity":2}"#,
            "64b0c0ffee64b0c0ffee64b0",
        ),
        record("a", "a"),
        record("é", "é"),
    ];
    let records = stage.records("orders").await;
    stage.expect("the records of the stream", records, expected);

    let objects = stage.aws.keys("archive", "").await.unwrap();
    let expected = vec!["2024/a b.json".to_owned()];
    stage.expect("the objects of the bucket", objects, expected);
    let text = object(stage, "archive/2024/a%20b.json").await;
    let expected = r#"{"_id":{"$oid":"64b0c0ffee64b0c0ffee64b0"},"n":{"$numberInt":"1"}}"#;
    stage.expect("the object", text.as_str(), expected);

    let messages = bodies(stage, "orders").await;
    stage.expect("the queue", messages, vec![json!({ "item": "tea" })]);

    let sent = ses(stage, &[("Action", "GetSendQuota")]).await;
    let is_sent = sent.contains("<SentLast24Hours>1");
    stage.expect(&format!("the mail: {sent}"), is_sent, true);

    let delivered = stage.aws.keys("delivered", "").await.unwrap();
    stage.expect("deliveries", delivered.len(), 1);
    for key in delivered {
        let text = object(stage, &format!("delivered/{key}")).await;
        stage.expect("the delivery", text.as_str(), "one line\n");
    }

    // The stand-in tells nobody what is on its bus.
    let answer = r#"{"FailedEntryCount":0,"Entries":[{"EventId":"e1"}]}"#;
    let came = stage.row_answered(ANNOUNCED, 200, &[], answer).await;
    let came: Vec<_> = came
        .iter()
        .map(|request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            (request.header("x-amz-target"), body)
        })
        .collect();
    let detail = r#"{"order":7}"#;
    let entry = json!({ "Source": "shop", "DetailType": "order placed", "Detail": detail });
    let expected = vec![(Some("AWSEvents.PutEvents"), json!({ "Entries": [entry] }))];
    stage.expect("the bus", came, expected);

    let answer = r#"{"price":{"$numberDecimal":"9.90"}}"#;
    let came = stage.row_answered(INVOKED, 200, &[], answer).await;
    let came: Vec<_> = came
        .iter()
        .map(|request| {
            (
                request.path.as_str(),
                String::from_utf8_lossy(&request.body).into_owned(),
            )
        })
        .collect();
    let expected = vec![(
        "/2015-03-31/functions/price/invocations",
        r#"{"item":"tea"}"#.to_owned(),
    )];
    stage.expect("the Lambda function", came, expected);
}

/// Makes what the functions write to.
async fn prepare(stage: &Stage) {
    let stream = json!({ "StreamName": "orders", "ShardCount": 1 });
    stage.aws("kinesis", "CreateStream", stream).await;
    let queue = json!({ "QueueName": "orders" });
    stage.aws("sqs", "CreateQueue", queue).await;
    for bucket in ["archive", "delivered"] {
        stage.aws.create_bucket(bucket).await.unwrap();
    }
    let delivery = json!({
        "DeliveryStreamName": "lines",
        "ExtendedS3DestinationConfiguration": {
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "BucketARN": "arn:aws:s3:::delivered",
        },
    });
    stage
        .aws("firehose", "CreateDeliveryStream", delivery)
        .await;
    ses(
        stage,
        &[
            ("Action", "VerifyEmailIdentity"),
            ("EmailAddress", "shop@example.com"),
        ],
    )
    .await;
}

/// The bodies of the messages in a queue, as JSON.
async fn bodies(stage: &Stage, queue: &str) -> Vec<Value> {
    let receive = json!({
        "QueueUrl": format!("{}/123456789012/{queue}", stage.aws.endpoint()),
        "MaxNumberOfMessages": 10,
    });
    let received = stage.aws("sqs", "ReceiveMessage", receive).await;
    let messages = received["Messages"].as_array().cloned().unwrap_or_default();
    messages
        .iter()
        .map(|message| serde_json::from_str(message["Body"].as_str().unwrap()).unwrap())
        .collect()
}

async fn object(stage: &Stage, path: &str) -> String {
    let url = format!("{}/{path}", stage.aws.endpoint());
    let asked = reqwest::Client::new().get(url);
    let got = asked.header("authorization", signed("s3")).send().await;
    let got = got.unwrap().error_for_status().unwrap();
    got.text().await.unwrap()
}

/// What the stand-in tells its services apart by; it looks at no signature.
fn signed(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=testkit/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

/// Asks SES, which speaks no JSON, for something.
async fn ses(stage: &Stage, parameters: &[(&str, &str)]) -> String {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    let asked = reqwest::Client::new()
        .post(stage.aws.endpoint())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", signed("ses"))
        .body(body)
        .send()
        .await
        .unwrap();
    assert!(asked.status().is_success(), "{parameters:?}: {asked:?}");
    asked.text().await.unwrap()
}
