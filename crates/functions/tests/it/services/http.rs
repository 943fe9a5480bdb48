//! `http` and `context.http`.

use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use tributary_functions::services::{Reach, ReachSettings, ServiceSettings, Services as _};
use tributary_testkit::HttpReceiver;

use super::{call, document, run};

fn binary(bytes: &[u8]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}

#[tokio::test]
async fn an_answer_has_the_shape_that_atlas_gives_it() {
    let receiver = HttpReceiver::start().await.unwrap();
    let run = run([("web", ServiceSettings::Http)]);
    let headers = [
        ("x-request-id", "1"),
        ("Set-Cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=x=y"),
    ];
    receiver.answer_with(404, &headers, "gone");
    for service in ["/get", "web/get"] {
        let answer = document(&run, service, doc! { "args": { "url": receiver.url() } }).await;
        let expected = doc! {
            "status": "404 Not Found",
            "statusCode": 404,
            "contentLength": 4,
            "headers": {
                "Connection": ["close"],
                "Content-Length": ["4"],
                "X-Request-Id": ["1"],
                "Set-Cookie": ["a=1; Path=/", "b=x=y"],
            },
            "cookies": { "a": "1", "b": "x=y" },
            "body": binary(b"gone"),
        };
        assert_eq!(answer, expected);
    }
    let head = document(&run, "/head", doc! { "args": { "url": receiver.url() } }).await;
    assert_eq!(head.get_i32("contentLength").unwrap(), 4);
    assert_eq!(head.get("body"), Some(&binary(b"").into()));
    for status in [429, 500] {
        receiver.answer_with(status, &[], "later");
        let answer = document(&run, "/get", doc! { "args": { "url": receiver.url() } }).await;
        assert_eq!(answer.get_i32("statusCode").unwrap(), i32::from(status));
    }
    assert_eq!(receiver.requests().len(), 5);
}

#[tokio::test]
async fn a_request_is_what_the_function_described() {
    let receiver = HttpReceiver::start().await.unwrap();
    let run = run([]);
    let url = receiver.url();
    let (scheme, host) = url.split_once("://").unwrap();
    let args = doc! {
        "scheme": scheme,
        "host": host,
        "path": "/a b/c",
        "query": { "q": ["1", "a b"], "n": 5 },
        "fragment": "part",
        "username": "user",
        "password": "p:w",
        "headers": { "X-Many": ["1", "2"], "X-One": "3", "Content-Length": ["99"] },
        "cookies": { "a": "1", "b": "2" },
        "body": "{\"a\":1}",
        "encodeBodyAsJSON": true,
    };
    call(&run, "/post", doc! { "args": args }).await.unwrap();
    let received = receiver.requests().remove(0);
    assert_eq!(
        (received.method.as_str(), received.path.as_str()),
        ("POST", "/a%20b/c?q=1&q=a+b&n=5")
    );
    assert_eq!(received.body, b"{\"a\":1}");
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_eq!(received.header("content-length"), Some("7"));
    assert_eq!(received.header("authorization"), Some("Basic dXNlcjpwOnc="));
    assert_eq!(received.header("cookie"), Some("a=1; b=2"));
    assert_eq!(received.header("x-one"), Some("3"));
    let many = received.headers.iter().filter(|(name, _)| name == "x-many");
    assert_eq!(
        many.map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
        ["1", "2"]
    );

    let with_login = url.replacen("://", "://me:p%40w@", 1);
    let args = doc! { "url": with_login, "body": binary(&[0, 1, 255]) };
    call(&run, "/put", doc! { "args": args }).await.unwrap();
    let args = doc! { "url": &url, "form": { "a": "1 2", "b": ["x", "y"], "n": 3 } };
    call(&run, "/patch", doc! { "args": args }).await.unwrap();
    let multipart = doc! { "Content-Type": ["multipart/form-data"] };
    let args = doc! { "url": &url, "form": { "a\"": "1\r\n2" }, "headers": multipart };
    call(&run, "/post", doc! { "args": args }).await.unwrap();
    call(&run, "/delete", doc! { "args": { "url": &url } })
        .await
        .unwrap();
    let received = receiver.requests();
    let methods: Vec<_> = received.iter().map(|r| r.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PUT", "PATCH", "POST", "DELETE"]);
    assert_eq!(received[1].header("authorization"), Some("Basic bWU6cEB3"));
    assert_eq!(received[1].body, [0, 1, 255]);
    assert_eq!(received[2].body, b"a=1+2&b=x&b=y&n=3");
    assert_eq!(
        received[2].header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    let kind = received[3].header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"a%22\"\r\n\r\n1\r\n2\r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8_lossy(&received[3].body), expected);
}

#[tokio::test]
async fn redirects_are_followed_where_that_is_asked_for() {
    let first = HttpReceiver::start().await.unwrap();
    let second = HttpReceiver::start().await.unwrap();
    first.answer_with(302, &[("Location", &second.url())], "");
    let run = run([]);
    let args = doc! { "url": first.url() };
    let answer = document(&run, "/get", doc! { "args": args }).await;
    assert_eq!(answer.get_i32("statusCode").unwrap(), 302);
    assert!(second.requests().is_empty());
    let args = doc! { "url": first.url(), "followRedirects": true };
    let answer = document(&run, "/get", doc! { "args": args }).await;
    assert_eq!(answer.get_str("status").unwrap(), "200 OK");
    assert_eq!(second.requests().len(), 1);
    first.answer_with(302, &[("Location", "http://169.254.169.254/latest")], "");
    let args = doc! { "url": first.url(), "followRedirects": true };
    let error = call(&run, "/get", doc! { "args": args }).await.unwrap_err();
    assert_eq!(error.name, "HTTPError");
    assert!(error.message.contains("169.254.169.254"), "{error:?}");
    assert!(
        error.message.contains("add its address to the hosts"),
        "{error:?}"
    );
}

#[tokio::test]
async fn cookies_of_an_authorizing_url_go_with_the_request() {
    let doors = HttpReceiver::start().await.unwrap();
    let house = HttpReceiver::start().await.unwrap();
    doors.answer_with(200, &[("Set-Cookie", "session=abc; HttpOnly")], "");
    let run = run([]);
    let args = doc! { "url": house.url(), "authUrl": doors.url(), "cookies": { "a": "1" } };
    call(&run, "/get", doc! { "args": args }).await.unwrap();
    assert_eq!(
        house.requests()[0].header("cookie"),
        Some("a=1; session=abc")
    );
    doors.answer_with(401, &[], "");
    let args = doc! { "url": house.url(), "authUrl": doors.url() };
    let error = call(&run, "/get", doc! { "args": args }).await.unwrap_err();
    assert!(
        error.message.contains("`authUrl` answered 401"),
        "{error:?}"
    );
    assert_eq!(house.requests().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_sent_says_why_and_tells_no_secret() {
    let run = run([]);
    let url = "http://127.0.0.1:1/";
    for (args, part) in [
        (doc! {}, "give a `url`"),
        (
            doc! { "url": "not a url hunter2" },
            "the URL cannot be read",
        ),
        (doc! { "url": "data:text/plain,hunter2" }, "names no host"),
        (
            doc! { "url": "ftp://user:hunter2@127.0.0.1/" },
            "use http or https",
        ),
        (doc! { "host": "a.example/../hunter2" }, "give a `url`"),
        (doc! { "url": url, "body": { "a": 1 } }, "encodeBodyAsJSON"),
        (
            doc! { "url": url, "body": "a", "form": {} },
            "either `body` or `form`",
        ),
        (
            doc! { "url": url, "digestAuth": true },
            "digest authentication is not supported",
        ),
        (
            doc! { "url": url, "headers": { "a b": ["hunter2"] } },
            "no name of a header",
        ),
        (
            doc! { "url": url, "headers": { "a": ["hunter2\n"] } },
            "a value that it cannot have",
        ),
        (doc! { "url": url, "headers": { "a": {} } }, "no string"),
        (
            doc! { "url": url, "cookies": { "a": "hunter2;b" } },
            "no cookie",
        ),
        (doc! { "url": url, "followRedirects": "yes" }, "no boolean"),
        (
            doc! { "url": "http://user:hunter2@127.0.0.1:1/?token=hunter2" },
            "cannot connect to http://127.0.0.1:1",
        ),
        (
            doc! { "url": "http://hunter3:hunter2@8.8.8.8/?token=hunter2" },
            "8.8.8.8 at port 80 are not allowed; add it",
        ),
    ] {
        let error = call(&run, "/post", doc! { "args": args })
            .await
            .unwrap_err();
        assert!(error.message.contains(part), "{part}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }
    let error = call(&run, "/trace", doc! { "args": { "url": url } })
        .await
        .unwrap_err();
    assert!(error.message.contains("get, post, put"), "{error:?}");
    let error = call(&run, "/get", doc! { "args": 5 }).await.unwrap_err();
    assert_eq!(error.name, "TypeError");
}

#[tokio::test]
async fn this_machine_is_not_reached_unless_it_is_allowed() {
    let receiver = HttpReceiver::start().await.unwrap();
    let open = Reach::new(ReachSettings::default()).unwrap().scope(0);
    let by_name = receiver.url().replace("127.0.0.1", "localhost");
    for url in [receiver.url(), by_name] {
        let error = call(&open, "/get", doc! { "args": { "url": url } }).await;
        let error = error.unwrap_err();
        assert!(
            error.message.contains("it is this machine itself"),
            "{error:?}"
        );
        assert!(!error.is_transient);
    }
    assert!(receiver.requests().is_empty());
    let error = call(&open, "/get", Document::new()).await.unwrap_err();
    assert_eq!(error.name, "TypeError");
}
