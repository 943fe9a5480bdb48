//! Looking at the bucket of a lake, and setting what is off of it. What was set is read back by requests
//! of our own, which moto answers without a signature.

use bson::doc;
use reqwest::Method;
use serde_json::{Value, json};
use tributary_testkit::{S3Server, unique_name};

use crate::storage::Store;
use crate::support::{Fixture, Run};

async fn request(server: &S3Server, method: Method, path: &str, body: &str) -> (u16, String) {
    let url = format!("{}{path}", server.endpoint());
    let sent = reqwest::Client::new()
        .request(method, url)
        .body(body.to_owned())
        .send()
        .await
        .unwrap();
    (sent.status().as_u16(), sent.text().await.unwrap())
}

/// A setting of the store's bucket, as the server has it.
async fn setting(server: &S3Server, store: &Store, name: &str) -> String {
    let path = format!("/{}?{name}", bucket(store));
    request(server, Method::GET, &path, "").await.1
}

fn bucket(store: &Store) -> &str {
    store.lake.split('/').nth(2).unwrap()
}

/// A bucket that may take the logs of others.
async fn log_bucket(server: &S3Server) -> String {
    let name = unique_name("logs");
    server.create_bucket(&name).await.unwrap();
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Service": "logging.s3.amazonaws.com" },
        "Action": ["s3:PutObject"],
        "Resource": format!("arn:aws:s3:::{name}/*"),
    }] });
    let path = format!("/{name}?policy");
    let (status, text) = request(server, Method::PUT, &path, &policy.to_string()).await;
    assert!(status < 300, "{status}: {text}");
    name
}

async fn some(name: &str) -> Fixture {
    let fixture = Fixture::new(name).await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    fixture
}

fn check(store: &Store, fixture: &Fixture, arguments: &[&str]) -> Run {
    store.run(&[&["check", &fixture.uri(), &store.lake], arguments].concat())
}

fn report(store: &Store, fixture: &Fixture, arguments: &[&str]) -> Value {
    let run = check(store, fixture, &[arguments, &["--output", "json"]].concat()).ok();
    serde_json::from_str::<Value>(run.stdout.trim()).unwrap()["target"].clone()
}

#[track_caller]
fn says(run: &Run, words: &[&str]) {
    for word in words {
        assert!(run.stdout.contains(word), "no `{word}` in {run:#?}");
    }
    assert!(!run.stderr.contains("panicked"), "{run:#?}");
}

#[tokio::test]
async fn settings_of_a_bucket_that_are_off_are_told_and_left_alone() {
    let (server, store) = Store::s3().await;
    let fixture = some("bucketoff").await;

    let run = check(&store, &fixture, &[]).ok();
    says(
        &run,
        &[
            "can be written",
            "warning: versioning of the bucket is off",
            "warning: the bucket does not encrypt by default",
            "warning: access to the bucket is not logged",
            "--log-bucket",
        ],
    );
    assert!(!run.stdout.contains("nothing is wrong"), "{run:#?}");
    assert!(!run.stdout.contains("changed"), "{run:#?}");

    let target = report(&store, &fixture, &[]);
    assert_eq!(target["bucket"]["versioning"]["known"], "off");
    assert_eq!(target["bucket"]["encryption"], json!({ "known": null }));
    assert_eq!(target["findings"].as_array().unwrap().len(), 3);
    assert_eq!(target["changed"], json!([]));
    assert!(
        !setting(&server, &store, "versioning")
            .await
            .contains("Enabled")
    );
    assert!(
        !setting(&server, &store, "encryption")
            .await
            .contains("AES256")
    );
}

#[tokio::test]
async fn settings_of_a_bucket_are_set_once() {
    let (server, store) = Store::s3().await;
    let fixture = some("bucketfix").await;

    let first = check(&store, &fixture, &["--fix"]).ok();
    says(
        &first,
        &[
            "changed: versioning",
            "AES256",
            "versioning          enabled",
            // Where logs go has not been said.
            "warning: access to the bucket is not logged",
        ],
    );
    assert!(!first.stdout.contains("changed: access"), "{first:#?}");
    let versioning = setting(&server, &store, "versioning").await;
    assert!(
        versioning.contains("<Status>Enabled</Status>"),
        "{versioning}"
    );
    let encryption = setting(&server, &store, "encryption").await;
    assert!(
        encryption.contains("<SSEAlgorithm>AES256</SSEAlgorithm>"),
        "{encryption}"
    );

    let logs = log_bucket(&server).await;
    let place = format!("s3://{logs}/of/lake");
    let key = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-0000-4000-8000-0123456789ab";
    let wished = ["--fix", "--log-bucket", &place, "--kms-key", key];
    let target = report(&store, &fixture, &wished);
    assert_eq!(target["changed"].as_array().unwrap().len(), 2, "{target}");
    assert_eq!(target["findings"], json!([]), "{target}");
    let logging = setting(&server, &store, "logging").await;
    assert!(
        logging.contains(&format!("<TargetBucket>{logs}</TargetBucket>")),
        "{logging}"
    );
    assert!(
        logging.contains("<TargetPrefix>of/lake/</TargetPrefix>"),
        "{logging}"
    );
    let encryption = setting(&server, &store, "encryption").await;
    assert!(
        encryption.contains("aws:kms") && encryption.contains(key),
        "{encryption}"
    );

    let again = check(&store, &fixture, &wished).ok();
    says(&again, &["changed: nothing", "nothing is wrong"]);
    // What was set beyond what every bucket should have stays when it is not asked for.
    let target = report(&store, &fixture, &["--fix"]);
    assert_eq!(target["changed"], json!([]), "{target}");
    assert_eq!(target["bucket"]["encryption"]["known"]["kmsKey"], key);
    assert_eq!(target["bucket"]["accessLogs"]["known"]["bucket"], logs);
}

#[tokio::test]
async fn a_place_that_can_take_no_logs_is_told() {
    let (server, store) = Store::s3().await;
    let fixture = some("nologs").await;
    let lake = format!("s3://{}/logs", bucket(&store));
    check(&store, &fixture, &["--fix", "--log-bucket", &lake]).fails(2, &["logs of itself"]);
    check(&store, &fixture, &["--log-bucket", "logs/of"]).fails(2, &["s3://bucket/prefix"]);

    let refused = check(
        &store,
        &fixture,
        &["--fix", "--log-bucket", "s3://no-such-bucket-here"],
    );
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    says(
        &refused,
        &[
            "changed: versioning",
            "error: cannot have access logged",
            "s3://no-such-bucket-here/",
            "logging.s3.amazonaws.com",
        ],
    );
    let logging = setting(&server, &store, "logging").await;
    assert!(!logging.contains("TargetBucket"), "{logging}");
}

#[tokio::test]
async fn of_a_bucket_that_is_not_there_one_error_is_told() {
    let (_server, mut store) = Store::s3().await;
    let fixture = some("nobucket").await;
    store.lake = "s3://no-such-bucket-anywhere/lake".to_owned();
    let run = check(&store, &fixture, &["--fix"]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    says(
        &run,
        &["CANNOT be written", "create the bucket", "changed: nothing"],
    );
    assert_eq!(run.stdout.matches("error:").count(), 1, "{run:#?}");
}

#[tokio::test]
async fn other_targets_have_no_bucket() {
    let fixture = some("nobucketatall").await;
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let run = crate::support::run(&["check", &uri, &lake, "--fix"]).ok();
    says(&run, &["changed: nothing", "nothing is wrong"]);
    crate::support::run(&["check", &uri, &lake, "--kms-key", "k"])
        .fails(2, &["no bucket of S3", "--kms-key"]);
}

/// A server that asks for keys, and a user of it who may do what `policy` says.
async fn strict(policy: Value) -> (S3Server, Store) {
    let server = S3Server::start().await.unwrap();
    let name = unique_name("strict");
    server.create_bucket(&name).await.unwrap();
    let iam = async |form: &[(&str, &str)]| {
        let scope = "AWS4-HMAC-SHA256 Credential=testkit/20260101/us-east-1/iam/aws4_request, \
                     SignedHeaders=host, Signature=none";
        let mut encoded = reqwest::Url::parse("http://form/").unwrap();
        encoded
            .query_pairs_mut()
            .extend_pairs(form.iter().chain(&[("Version", "2010-05-08")]));
        let sent = reqwest::Client::new()
            .post(server.endpoint())
            .header("authorization", scope)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(encoded.query().unwrap().to_owned())
            .send()
            .await
            .unwrap();
        let (status, text) = (sent.status(), sent.text().await.unwrap());
        assert!(status.is_success(), "{status}: {text}");
        text
    };
    iam(&[("Action", "CreateUser"), ("UserName", "lake")]).await;
    iam(&[
        ("Action", "PutUserPolicy"),
        ("UserName", "lake"),
        ("PolicyName", "lake"),
        ("PolicyDocument", &policy.to_string()),
    ])
    .await;
    let keys = iam(&[("Action", "CreateAccessKey"), ("UserName", "lake")]).await;
    let part = |tag: &str| {
        let (_, rest) = keys.split_once(&format!("<{tag}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let (status, text) = request(&server, Method::POST, "/moto-api/reset-auth", "0").await;
    assert_eq!(status, 200, "{text}");
    let mut environment = server.env();
    for (name, value) in &mut environment {
        match name.as_str() {
            "AWS_ACCESS_KEY_ID" => *value = part("AccessKeyId"),
            "AWS_SECRET_ACCESS_KEY" => *value = part("SecretAccessKey"),
            _ => {}
        }
    }
    let lake = format!("s3://{name}/lake");
    (server, Store { environment, lake })
}

#[tokio::test]
async fn privileges_that_setting_takes_are_named_together() {
    // The server knows the action on default encryption by the name of another.
    let (_server, store) = strict(json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:*", "Resource": "*" },
        { "Effect": "Deny", "Action": ["s3:PutBucketVersioning", "s3:CreateBucket"], "Resource": "*" },
    ] }))
    .await;
    let fixture = some("refused").await;
    let run = check(&store, &fixture, &["--fix"]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    says(
        &run,
        &[
            "can be written",
            "changed: nothing",
            "s3:PutBucketVersioning",
            "s3:PutEncryptionConfiguration",
        ],
    );
    assert_eq!(run.stdout.matches("error:").count(), 1, "{run:#?}");
}

#[tokio::test]
async fn what_may_not_be_seen_is_told_and_not_set() {
    let (_server, store) = strict(json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:*", "Resource": "*" },
        { "Effect": "Deny", "Action": ["s3:GetBucketVersioning", "s3:GetBucketLogging"], "Resource": "*" },
    ] }))
    .await;
    let fixture = some("unseen").await;
    let run = check(&store, &fixture, &["--fix"]).ok();
    says(
        &run,
        &[
            "may not see",
            "s3:GetBucketVersioning, s3:GetBucketLogging",
            "may not be seen",
        ],
    );
    assert!(!run.stdout.contains("changed: versioning"), "{run:#?}");
}

#[tokio::test]
async fn wrong_keys_are_told_once_and_not_shown() {
    let (_server, mut store) = strict(json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:*", "Resource": "*" },
    ] }))
    .await;
    let fixture = some("wrongkeys").await;
    for (name, value) in &mut store.environment {
        if name == "AWS_SECRET_ACCESS_KEY" {
            *value = "not-the-secret".to_owned();
        }
    }
    let run = check(&store, &fixture, &["--fix"]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    says(
        &run,
        &[
            "CANNOT be written",
            "AWS_SECRET_ACCESS_KEY",
            "changed: nothing",
        ],
    );
    assert_eq!(run.stdout.matches("error:").count(), 1, "{run:#?}");
    assert!(!run.stdout.contains("not-the-secret"), "{run:#?}");
}
