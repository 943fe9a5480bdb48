//! `aws`, against moto, and against a receiver where what is sent matters.

use std::sync::Arc;
use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use serde_json::{Value, json};
use tributary_functions::services::{
    AwsClient, AwsSettings, BusEvent, HttpLimits, ServiceScope, ServiceSettings,
};
use tributary_testkit::{HttpReceiver, S3Server, unique_name};

use super::{call, document, run};

fn settings(endpoint: &str) -> AwsSettings {
    AwsSettings {
        region: Some("us-east-1".to_owned()),
        access_key_id: Some("testkit".to_owned()),
        secret_access_key: Some("hunter2".into()),
        session_token: None,
        endpoint: Some(endpoint.to_owned()),
        role_arn: None,
    }
}

fn client(endpoint: &str) -> AwsClient {
    AwsClient::new(settings(endpoint), HttpLimits::default()).unwrap()
}

fn aws(endpoint: &str) -> Arc<dyn ServiceScope> {
    run([("aws", ServiceSettings::Aws(settings(endpoint)))])
}

async fn act(run: &Arc<dyn ServiceScope>, action: &str, args: Document) -> Document {
    document(run, &format!("aws/{action}"), doc! { "args": args }).await
}

fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

#[tokio::test]
async fn records_are_put_into_a_stream_and_read_back() {
    let server = S3Server::shared().await.unwrap();
    let run = aws(server.endpoint());
    let stream = unique_name("stream");
    act(
        &run,
        "kinesis.CreateStream",
        doc! { "StreamName": &stream, "ShardCount": 1.0 },
    )
    .await;
    let record = doc! { "StreamName": &stream, "PartitionKey": "k", "Data": "{\"a\":\"é\"}" };
    let put = act(&run, "kinesis.PutRecord", record).await;
    let shard = put.get_str("ShardId").unwrap().to_owned();
    assert!(put.get_str("SequenceNumber").is_ok(), "{put}");
    let records = doc! {
        "StreamName": &stream,
        "Records": [
            { "PartitionKey": "k", "Data": binary(&[0, 254, 255]) },
            { "PartitionKey": "k", "Data": "two" },
        ],
    };
    let put = act(&run, "kinesis.PutRecords", records).await;
    assert_eq!(put.get_i32("FailedRecordCount").unwrap(), 0);
    let from =
        doc! { "StreamName": &stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON" };
    let from = act(&run, "kinesis.GetShardIterator", from).await;
    let from = from.get_str("ShardIterator").unwrap();
    let read = act(
        &run,
        "kinesis.GetRecords",
        doc! { "ShardIterator": from, "Limit": 10_i64 },
    )
    .await;
    let records = read.get_array("Records").unwrap();
    let data: Vec<&Bson> = records
        .iter()
        .map(|record| record.as_document().unwrap().get("Data").unwrap())
        .collect();
    let expected = [
        binary("{\"a\":\"é\"}".as_bytes()),
        binary(&[0, 254, 255]),
        binary(b"two"),
    ];
    assert_eq!(data, expected.iter().collect::<Vec<_>>());
    let first = records[0].as_document().unwrap();
    assert!(
        first.get_datetime("ApproximateArrivalTimestamp").is_ok(),
        "{first}"
    );

    let error = doc! { "args": { "StreamName": "none", "PartitionKey": "k", "Data": "" } };
    let error = call(&run, "aws/kinesis.PutRecord", error)
        .await
        .unwrap_err();
    assert_eq!(error.name, "ResourceNotFoundException");
    assert!(
        error.message.contains("none") && !error.is_transient,
        "{error:?}"
    );
}

#[tokio::test]
async fn other_services_that_speak_json_are_reached_by_their_names() {
    let server = S3Server::shared().await.unwrap();
    let run = aws(server.endpoint());
    let queue = act(
        &run,
        "sqs.CreateQueue",
        doc! { "QueueName": unique_name("queue") },
    )
    .await;
    let queue = queue.get_str("QueueUrl").unwrap();
    let attributes = doc! { "B": { "DataType": "Binary", "BinaryValue": binary(&[0, 255]) } };
    let message =
        doc! { "QueueUrl": queue, "MessageBody": "hello", "MessageAttributes": attributes };
    let sent = act(&run, "sqs.SendMessage", message).await;
    let receive = doc! { "QueueUrl": queue, "MessageAttributeNames": ["All"] };
    let received = act(&run, "sqs.ReceiveMessage", receive).await;
    let message = received.get_array("Messages").unwrap()[0]
        .as_document()
        .unwrap();
    assert_eq!(message.get_str("Body").unwrap(), "hello");
    assert_eq!(message.get("MessageId"), sent.get("MessageId"));
    let attributes = message.get_document("MessageAttributes").unwrap();
    let attribute = attributes.get_document("B").unwrap();
    assert_eq!(attribute.get("BinaryValue"), Some(&binary(&[0, 255])));

    let table = unique_name("table");
    let create = doc! {
        "TableName": &table,
        "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
        "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
        "BillingMode": "PAY_PER_REQUEST",
    };
    let created = act(&run, "dynamodb.CreateTable", create).await;
    let description = created.get_document("TableDescription").unwrap();
    assert!(
        description.get_datetime("CreationDateTime").is_ok(),
        "{description}"
    );
    let item = doc! { "id": { "S": "1" }, "B": { "B": binary(b"bytes") }, "n": { "N": "5" } };
    let put = doc! { "TableName": &table, "Item": item.clone() };
    act(&run, "dynamodb.PutItem", put).await;
    let key = doc! { "TableName": &table, "Key": { "id": { "S": "1" } } };
    let got = act(&run, "dynamodb.GetItem", key).await;
    assert_eq!(got.get_document("Item").unwrap(), &item);

    let name = unique_name("secret");
    let secret = doc! { "Name": &name, "SecretString": "hunter2" };
    act(&run, "secretsmanager.CreateSecret", secret).await;
    let got = act(
        &run,
        "secretsmanager.GetSecretValue",
        doc! { "SecretId": &name },
    )
    .await;
    assert_eq!(got.get_str("SecretString").unwrap(), "hunter2");
    assert!(got.get_datetime("CreatedDate").is_ok(), "{got}");

    let topic = client(server.endpoint());
    let queue = topic
        .call_json("sqs", "ListQueues", json!({}))
        .await
        .unwrap();
    assert!(queue["QueueUrls"].is_array(), "{queue}");
}

#[tokio::test]
async fn a_delivery_stream_takes_records() {
    let server = S3Server::shared().await.unwrap();
    let run = aws(server.endpoint());
    let bucket = unique_name("bucket");
    server.create_bucket(&bucket).await.unwrap();
    let stream = unique_name("delivery");
    let create = doc! {
        "DeliveryStreamName": &stream,
        "ExtendedS3DestinationConfiguration": {
            "RoleARN": "arn:aws:iam::123456789012:role/firehose",
            "BucketARN": format!("arn:aws:s3:::{bucket}"),
        },
    };
    act(&run, "firehose.CreateDeliveryStream", create).await;
    let put = doc! { "DeliveryStreamName": &stream, "Record": { "Data": "one line\n" } };
    let put = act(&run, "firehose.PutRecord", put).await;
    assert!(put.get_str("RecordId").is_ok(), "{put}");
    let records = [doc! { "Data": "a" }, doc! { "Data": binary(b"b") }];
    let put = doc! { "DeliveryStreamName": &stream, "Records": records.to_vec() };
    let put = act(&run, "firehose.PutRecordBatch", put).await;
    assert_eq!(put.get_i32("FailedPutCount").unwrap(), 0);
    let mut written = Vec::new();
    for key in server.keys(&bucket, "").await.unwrap() {
        let got = act(&run, "s3.GetObject", doc! { "Bucket": &bucket, "Key": key }).await;
        written.push(got.get_binary_generic("Body").unwrap().clone());
    }
    written.sort();
    assert_eq!(written, [b"ab".to_vec(), b"one line\n".to_vec()]);
}

#[tokio::test]
async fn objects_are_written_read_listed_and_removed() {
    let server = S3Server::shared().await.unwrap();
    let run = aws(server.endpoint());
    let bucket = unique_name("bucket");
    server.create_bucket(&bucket).await.unwrap();
    let key = "a dir/é+&?#%.txt";
    let put = doc! {
        "Bucket": &bucket,
        "Key": key,
        "Body": "héllo",
        "ContentType": "text/plain",
        "CacheControl": "no-cache",
        "Metadata": { "Owner": "me" },
        "Tagging": "a=1",
        "ACL": "public-read",
        "ServerSideEncryption": "AES256",
    };
    let put = act(&run, "s3.PutObject", put).await;
    let tag = put.get_str("ETag").unwrap().to_owned();
    let got = act(&run, "s3.GetObject", doc! { "Bucket": &bucket, "Key": key }).await;
    assert_eq!(got.get("Body"), Some(&binary("héllo".as_bytes())));
    assert_eq!(got.get_str("ContentType").unwrap(), "text/plain");
    assert_eq!(got.get_i64("ContentLength").unwrap(), 6);
    assert_eq!(got.get_str("CacheControl").unwrap(), "no-cache");
    assert_eq!(got.get_str("ETag").unwrap(), tag.as_str());
    assert_eq!(
        got.get_document("Metadata").unwrap(),
        &doc! { "owner": "me" }
    );
    assert_eq!(got.get_i64("TagCount").unwrap(), 1);
    assert!(got.get_datetime("LastModified").is_ok(), "{got}");
    let part = doc! { "Bucket": &bucket, "Key": key, "Range": "bytes=0-0" };
    let part = act(&run, "s3.GetObject", part).await;
    assert_eq!(part.get("Body"), Some(&binary(b"h")));
    let head = act(
        &run,
        "s3.HeadObject",
        doc! { "Bucket": &bucket, "Key": key },
    )
    .await;
    assert_eq!(
        (head.get("Body"), head.get_i64("ContentLength").unwrap()),
        (None, 6)
    );
    let bytes = doc! { "Bucket": &bucket, "Key": "b", "Body": binary(&[0, 255]) };
    act(&run, "s3.PutObject", bytes).await;

    let listed = act(
        &run,
        "s3.ListObjectsV2",
        doc! { "Bucket": &bucket, "Prefix": "a dir/" },
    )
    .await;
    let object = listed.get_array("Contents").unwrap()[0]
        .as_document()
        .unwrap();
    assert_eq!(
        (
            object.get_str("Key").unwrap(),
            object.get_i64("Size").unwrap()
        ),
        (key, 6)
    );
    assert!(object.get_datetime("LastModified").is_ok(), "{object}");
    let listed = act(
        &run,
        "s3.ListObjectsV2",
        doc! { "Bucket": &bucket, "Delimiter": "/" },
    )
    .await;
    let prefixes = listed.get_array("CommonPrefixes").unwrap();
    assert_eq!(prefixes, &[Bson::Document(doc! { "Prefix": "a dir/" })]);
    assert_eq!(listed.get_array("Contents").unwrap().len(), 1);

    act(
        &run,
        "s3.DeleteObject",
        doc! { "Bucket": &bucket, "Key": key },
    )
    .await;
    for (action, name) in [("GetObject", "NoSuchKey"), ("HeadObject", "NotFound")] {
        let gone = doc! { "args": { "Bucket": &bucket, "Key": key } };
        let error = call(&run, &format!("aws/s3.{action}"), gone)
            .await
            .unwrap_err();
        assert_eq!((error.name.as_str(), error.is_transient), (name, false));
    }
    for (args, part) in [
        (
            doc! { "Bucket": &bucket, "Key": "a/../b" },
            "a part `.` or `..`",
        ),
        (doc! { "Bucket": "a/b", "Key": "k" }, "no name of a bucket"),
        (
            doc! { "Bucket": &bucket, "Key": "k", "Bodies": "" },
            "`Bodies` is not known",
        ),
        (
            doc! { "Bucket": &bucket, "Key": "k", "Body": { "a": 1 } },
            "no string or binary",
        ),
        (doc! { "Bucket": &bucket }, "`Key` is missing"),
        (
            doc! { "Bucket": &bucket, "Key": "k", "Metadata": { "a": "é" } },
            "x-amz-meta-a cannot have its value",
        ),
    ] {
        let error = call(&run, "aws/s3.PutObject", doc! { "args": args })
            .await
            .unwrap_err();
        assert!(error.message.contains(part), "{error:?}");
    }
}

#[tokio::test]
async fn a_presigned_url_reads_an_object_without_credentials() {
    let server = S3Server::shared().await.unwrap();
    let run = aws(server.endpoint());
    let bucket = unique_name("bucket");
    server.create_bucket(&bucket).await.unwrap();
    let put = doc! { "Bucket": &bucket, "Key": "k", "Body": "signed" };
    act(&run, "s3.PutObject", put).await;
    let args = doc! { "Bucket": &bucket, "Key": "k", "Method": "GET", "ExpirationMS": 60_000 };
    let url = call(&run, "aws/s3.PresignURL", doc! { "args": args })
        .await
        .unwrap();
    let url = url.as_str().unwrap();
    for part in [
        "X-Amz-Signature=",
        "X-Amz-Expires=60",
        "X-Amz-Credential=testkit",
    ] {
        assert!(url.contains(part), "{url}");
    }
    let read = document(&run, "/get", doc! { "args": { "url": url } }).await;
    assert_eq!(read.get("body"), Some(&binary(b"signed")));
    let args = doc! { "Bucket": &bucket, "Key": "k", "ExpirationMS": 1_000_000_000_000_i64 };
    let error = call(&run, "aws/s3.PresignURL", doc! { "args": args })
        .await
        .unwrap_err();
    assert!(error.message.contains("seven days"), "{error:?}");
}

#[tokio::test]
async fn mails_and_notifications_are_sent() {
    let server = S3Server::shared().await.unwrap();
    let run = aws(server.endpoint());
    let identity = doc! {
        "scheme": "http",
        "host": server.endpoint().strip_prefix("http://").unwrap(),
        "path": "/v2/email/identities",
        "headers": {
            "Content-Type": "application/json",
            "Authorization": "AWS4-HMAC-SHA256 Credential=testkit/20260101/us-east-1/ses/aws4_request, SignedHeaders=host, Signature=0",
        },
        "body": json!({ "EmailIdentity": "from@example.com" }).to_string(),
    };
    let made = document(&run, "/post", doc! { "args": identity }).await;
    assert_eq!(made.get_i32("statusCode").unwrap(), 200, "{made}");
    let mail = doc! {
        "Source": "from@example.com",
        "Destination": { "ToAddresses": ["to@example.com"] },
        "Message": {
            "Subject": { "Data": "Hi", "Charset": "UTF-8" },
            "Body": { "Text": { "Data": "text" } },
        },
    };
    let sent = act(&run, "ses.SendEmail", mail).await;
    assert!(!sent.get_str("MessageId").unwrap().is_empty());
    let stranger = doc! {
        "Source": "stranger@example.net",
        "Destination": { "ToAddresses": ["to@example.com"] },
        "Message": { "Subject": { "Data": "Hi" }, "Body": { "Text": { "Data": "text" } } },
    };
    let error = call(&run, "aws/ses.SendEmail", doc! { "args": stranger })
        .await
        .unwrap_err();
    assert_eq!(error.name, "MessageRejected");

    let none = doc! { "TopicArn": "arn:aws:sns:us-east-1:123456789012:none", "Message": "a" };
    let error = call(&run, "aws/sns.Publish", doc! { "args": none })
        .await
        .unwrap_err();
    assert_eq!(error.name, "NotFound");
    let phone = doc! {
        "PhoneNumber": "+15550001111",
        "Message": "a & b",
        "MessageAttributes": { "k": { "DataType": "String", "StringValue": "v" } },
    };
    let sent = act(&run, "sns.Publish", phone).await;
    assert!(!sent.get_str("MessageId").unwrap().is_empty());
}

#[tokio::test]
async fn a_lambda_is_called_with_its_payload() {
    let receiver = HttpReceiver::start().await.unwrap();
    let headers = [
        ("X-Amz-Executed-Version", "7"),
        ("X-Amz-Function-Error", "Unhandled"),
    ];
    receiver.answer_with(200, &headers, r#"{"ok":true}"#);
    let run = aws(&receiver.url());
    let invoke = doc! {
        "FunctionName": "arn:aws:lambda:us-east-1:1:function:f",
        "InvocationType": "RequestResponse",
        "Qualifier": "live",
        "Payload": { "a": 1, "when": bson::DateTime::from_millis(0) },
    };
    let result = act(&run, "lambda.Invoke", invoke).await;
    let expected = doc! {
        "StatusCode": 200,
        "FunctionError": "Unhandled",
        "ExecutedVersion": "7",
        "Payload": binary(b"{\"ok\":true}"),
    };
    assert_eq!(result, expected);
    for payload in [Bson::String("[1]".to_owned()), binary(b"[1]")] {
        act(
            &run,
            "lambda.Invoke",
            doc! { "FunctionName": "f", "Payload": payload },
        )
        .await;
    }
    let came = receiver.requests();
    assert_eq!(
        came[0].path,
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af/invocations?Qualifier=live"
    );
    assert_eq!(
        came[0].header("x-amz-invocation-type"),
        Some("RequestResponse")
    );
    let body: Value = serde_json::from_slice(&came[0].body).unwrap();
    assert_eq!(
        body,
        json!({ "a": 1, "when": { "$date": "1970-01-01T00:00:00Z" } })
    );
    let authorization = came[0].header("authorization").unwrap();
    assert!(
        authorization.contains("/us-east-1/lambda/aws4_request"),
        "{authorization}"
    );
    assert!(came[0].header("x-amz-date").is_some());
    assert_eq!(came[1].path, "/2015-03-31/functions/f/invocations");
    assert_eq!(
        (came[1].body.as_slice(), came[2].body.as_slice()),
        (&b"[1]"[..], &b"[1]"[..])
    );
}

#[tokio::test]
async fn a_call_goes_to_the_region_that_it_names() {
    let receiver = HttpReceiver::start().await.unwrap();
    receiver.answer_with(200, &[], "{}");
    let run = aws(&receiver.url());
    let arguments = doc! { "args": {}, "region": "eu-central-1" };
    call(&run, "aws/kinesis.ListStreams", arguments)
        .await
        .unwrap();
    let came = receiver.requests().remove(0);
    assert_eq!(
        came.header("x-amz-target"),
        Some("Kinesis_20131202.ListStreams")
    );
    assert_eq!(
        came.header("content-type"),
        Some("application/x-amz-json-1.1")
    );
    let authorization = came.header("authorization").unwrap();
    assert!(
        authorization.contains("/eu-central-1/kinesis/aws4_request"),
        "{authorization}"
    );
}

#[tokio::test]
async fn what_is_throttled_is_tried_again_and_what_is_wrong_is_not() {
    let receiver = HttpReceiver::start().await.unwrap();
    let client = client(&receiver.url());
    let throttled = r#"{"__type":"ProvisionedThroughputExceededException","message":"slowly"}"#;
    for (status, body) in [(400, throttled), (500, "{}"), (429, "{}")] {
        receiver.answer_with(status, &[], body);
        let before = receiver.requests().len();
        let error = client
            .call_json("kinesis", "PutRecord", json!({}))
            .await
            .unwrap_err();
        assert!(error.is_transient, "{error:?}");
        assert_eq!(error.status, Some(status));
        assert_eq!(receiver.requests().len() - before, 4);
    }
    receiver.answer_with(
        400,
        &[],
        r#"{"__type":"ValidationException","message":"no"}"#,
    );
    let before = receiver.requests().len();
    let error = client
        .call_json("kinesis", "PutRecord", json!({}))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.is_transient),
        ("ValidationException", false)
    );
    assert_eq!(receiver.requests().len() - before, 1);

    receiver.answer_with(503, &[], "{}");
    let before = receiver.requests().len();
    let recovered = async {
        receiver.wait_for(before + 1, Duration::from_secs(10)).await;
        receiver.answer_with(200, &[], r#"{"ShardId":"s"}"#);
    };
    let (answer, ()) = tokio::join!(
        client.call_json("kinesis", "PutRecord", json!({})),
        recovered
    );
    assert_eq!(answer.unwrap(), json!({ "ShardId": "s" }));
}

#[tokio::test]
async fn what_is_not_known_names_what_is() {
    let run = aws("http://127.0.0.1:1");
    for (action, part) in [
        ("kinetic.PutRecord", "there are kinesis, firehose"),
        ("s3.PutObjects", "there are PutObject, GetObject"),
        ("lambda.Create", "there are Invoke"),
        ("ses.Send", "there are SendEmail"),
        ("sns.Subscribe", "there are Publish"),
        ("kinesis", "<service>.<Action>"),
    ] {
        let error = call(&run, &format!("aws/{action}"), doc! {})
            .await
            .unwrap_err();
        assert_eq!(error.name, "InvalidParameter");
        assert!(error.message.contains(part), "{error:?}");
    }
    let error = call(&run, "aws/sqs.ListQueues", doc! {}).await.unwrap_err();
    assert!(
        error.name == "RequestError" && error.is_transient,
        "{error:?}"
    );
    assert!(!format!("{error:?}").contains("hunter2"));
    let shown = format!("{:?}", ServiceSettings::Aws(settings("http://127.0.0.1:1")));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_role_is_assumed_with_the_keys_that_are_given() {
    let receiver = HttpReceiver::start().await.unwrap();
    let assumed = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
        <AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/b</Arn></AssumedRoleUser>
        <Credentials><AccessKeyId>ASSUMED</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
        <SessionToken>the token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
        </AssumeRoleResult></AssumeRoleResponse>"#;
    receiver.answer_with(200, &[("content-type", "text/xml")], assumed);
    let settings = AwsSettings {
        role_arn: Some("arn:aws:iam::123456789012:role/r".to_owned()),
        ..settings(&receiver.url())
    };
    let client = AwsClient::new(settings, HttpLimits::default()).unwrap();
    for _ in 0..2 {
        let error = client
            .call_json("kinesis", "ListStreams", json!({}))
            .await
            .unwrap_err();
        assert_eq!(error.code, "SerializationError");
    }
    let came = receiver.requests();
    assert_eq!(came.len(), 3);
    let asked = String::from_utf8_lossy(&came[0].body);
    assert!(
        asked.contains("Action=AssumeRole") && asked.contains("role%2Fr"),
        "{asked}"
    );
    assert!(
        came[0]
            .header("authorization")
            .unwrap()
            .contains("Credential=testkit/")
    );
    for request in &came[1..] {
        assert!(
            request
                .header("authorization")
                .unwrap()
                .contains("Credential=ASSUMED/")
        );
        assert_eq!(request.header("x-amz-security-token"), Some("the token"));
    }
}

#[tokio::test]
async fn the_events_of_a_trigger_are_put_on_a_bus() {
    let server = S3Server::shared().await.unwrap();
    let event = doc! {
        "_id": { "_data": "82" },
        "operationType": "insert",
        "fullDocument": { "_id": bson::oid::ObjectId::from_bytes([1; 12]), "n": 5_i64 },
    };
    let event = event.to_vec().unwrap();
    let bus_event = |bus| BusEvent {
        bus,
        source: "tributary/app/trigger",
        database: "shop",
        collection: Some("orders"),
        document: &event,
        is_canonical: false,
    };
    let on_moto = client(server.endpoint());
    let id = on_moto.put_event(bus_event(None)).await.unwrap();
    assert!(!id.is_empty());

    let receiver = HttpReceiver::start().await.unwrap();
    receiver.answer_with(
        200,
        &[],
        r#"{"FailedEntryCount":0,"Entries":[{"EventId":"e1"}]}"#,
    );
    let client = client(&receiver.url());
    assert_eq!(
        client.put_event(bus_event(Some("mine"))).await.unwrap(),
        "e1"
    );
    let canonical = BusEvent {
        is_canonical: true,
        collection: None,
        ..bus_event(None)
    };
    client.put_event(canonical).await.unwrap();
    let entry = |index: usize| {
        let body: Value = serde_json::from_slice(&receiver.requests()[index].body).unwrap();
        body["Entries"][0].clone()
    };
    let detail = |entry: &Value| -> Value {
        serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap()
    };
    let first = entry(0);
    assert_eq!(first["EventBusName"], "mine");
    assert_eq!(first["Source"], "tributary/app/trigger");
    assert_eq!(
        first["DetailType"],
        "MongoDB Database Trigger for shop.orders"
    );
    let id = json!({ "$oid": "010101010101010101010101" });
    assert_eq!(detail(&first)["fullDocument"], json!({ "_id": id, "n": 5 }));
    let second = entry(1);
    assert_eq!(second.get("EventBusName"), None);
    assert_eq!(second["DetailType"], "MongoDB Database Trigger for shop");
    assert_eq!(
        detail(&second)["fullDocument"]["n"],
        json!({ "$numberLong": "5" })
    );

    let refused = r#"{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException","ErrorMessage":"slowly"}]}"#;
    receiver.answer_with(200, &[], refused);
    let error = client.put_event(bus_event(None)).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("ThrottlingException", "slowly")
    );
    assert!(error.is_transient);
    let broken = BusEvent {
        document: b"no BSON",
        ..bus_event(None)
    };
    assert_eq!(
        client.put_event(broken).await.unwrap_err().code,
        "InvalidParameter"
    );
}
