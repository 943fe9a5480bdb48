use reqwest::StatusCode;

use super::*;
use crate::services::aws::AwsSettings;
use crate::services::web::HttpLimits;

fn of(signing: &'static str, bucket: Option<&'static str>, path: &str) -> AwsRequest<'static> {
    AwsRequest {
        service: Service {
            signing,
            host: signing,
            id: signing,
            errors: Errors::Json,
        },
        region: None,
        method: Method::GET,
        bucket,
        path: path.to_owned(),
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}

#[test]
fn services_are_at_their_own_hosts_unless_an_endpoint_is_named() {
    let is = |request: &AwsRequest<'_>, region: &str, endpoint: Option<&str>, expected: &str| {
        assert_eq!(url(request, region, endpoint).unwrap().as_str(), expected);
    };
    let kinesis = of("kinesis", None, "/");
    is(
        &kinesis,
        "us-east-1",
        None,
        "https://kinesis.us-east-1.amazonaws.com/",
    );
    is(
        &kinesis,
        "cn-north-1",
        None,
        "https://kinesis.cn-north-1.amazonaws.com.cn/",
    );
    is(&kinesis, "us-east-1", Some("http://a:1/"), "http://a:1/");
    let object = of("s3", Some("bucket"), "/a/b%20c");
    is(
        &object,
        "us-east-1",
        None,
        "https://bucket.s3.us-east-1.amazonaws.com/a/b%20c",
    );
    is(
        &object,
        "us-east-1",
        Some("http://a:1"),
        "http://a:1/bucket/a/b%20c",
    );
    let dotted = of("s3", Some("a.b"), "/k");
    is(
        &dotted,
        "us-east-1",
        None,
        "https://s3.us-east-1.amazonaws.com/a.b/k",
    );
    let mut query = of("s3", Some("b"), "/");
    query.query.push(("prefix".to_owned(), "a b+/".to_owned()));
    is(
        &query,
        "r",
        Some("http://a:1"),
        "http://a:1/b/?prefix=a%20b%2B%2F",
    );
    assert!(url(&kinesis, "r", Some("no url")).is_err());
}

#[tokio::test]
async fn a_request_is_signed_as_version_4_wants_it() {
    let settings = AwsSettings {
        region: Some("us-east-1".to_owned()),
        access_key_id: Some("AKID".to_owned()),
        secret_access_key: Some("hunter2".into()),
        session_token: Some("of the session".into()),
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        role_arn: None,
    };
    let client = AwsClient::new(settings, HttpLimits::default()).unwrap();
    let mut request = of("s3", Some("b"), "/k");
    request.header("x-amz-acl", "private").unwrap();
    let (region, url) = client.place(&request).await.unwrap();
    let mut headers = request.headers.clone();
    client
        .sign(&request, &region, &url, &mut headers)
        .await
        .unwrap();
    let authorization = headers["authorization"].to_str().unwrap();
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"),
        "{authorization}"
    );
    assert!(
        authorization.contains("/us-east-1/s3/aws4_request"),
        "{authorization}"
    );
    assert!(
        authorization.contains(
            "SignedHeaders=host;x-amz-acl;x-amz-content-sha256;x-amz-date;x-amz-security-token"
        ),
        "{authorization}"
    );
    assert_eq!(headers["x-amz-security-token"], "of the session");
    assert!(!format!("{headers:?}").contains("of the session"));
}

fn answer(
    status: u16,
    headers: &[(&'static str, &'static str)],
    body: &'static str,
) -> WebResponse {
    WebResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[test]
fn what_a_service_refuses_is_told_in_its_own_words() {
    let is = |errors: Errors, response: WebResponse, code: &str, message: &str, again: bool| {
        let error = refusal(errors, &response);
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            (code, message)
        );
        assert_eq!(error.is_transient, again, "{code}");
    };
    let body = r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no queue"}"#;
    is(
        Errors::Json,
        answer(400, &[], body),
        "QueueDoesNotExist",
        "no queue",
        false,
    );
    let body = r#"{"Message":"slowly"}"#;
    let header = [(
        "x-amzn-errortype",
        "ThrottlingException:http://internal.amazon.com/",
    )];
    is(
        Errors::Json,
        answer(400, &header, body),
        "ThrottlingException",
        "slowly",
        true,
    );
    let body = r#"{"__type":"ProvisionedThroughputExceededException","message":"rate"}"#;
    is(
        Errors::Json,
        answer(400, &[], body),
        "ProvisionedThroughputExceededException",
        "rate",
        true,
    );
    is(
        Errors::Json,
        answer(503, &[], "<html>"),
        "ServiceUnavailable",
        "503 Service Unavailable",
        true,
    );
    is(
        Errors::Json,
        answer(429, &[], ""),
        "TooManyRequests",
        "429 Too Many Requests",
        true,
    );
    let body =
        "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>a &lt; b</Message></Error>";
    is(
        Errors::Xml,
        answer(404, &[], body),
        "NoSuchKey",
        "a < b",
        false,
    );
    is(
        Errors::Xml,
        answer(404, &[], ""),
        "NotFound",
        "404 Not Found",
        false,
    );
    let body = "<Error><Code>SlowDown</Code></Error>";
    is(
        Errors::Xml,
        answer(400, &[], body),
        "SlowDown",
        "400 Bad Request",
        true,
    );
}
