use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use futures::FutureExt as _;
use reqwest::dns::{Addrs, Name, Resolving};
use reqwest::header::HeaderValue;
use tributary_testkit::HttpReceiver;

use super::*;

/// Names that resolve to what the test wants.
struct Names(HashMap<&'static str, IpAddr>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0.get(name.as_str()).copied();
        async move {
            let found = found.ok_or("no such name")?;
            Ok(Box::new(std::iter::once(SocketAddr::new(found, 0))) as Addrs)
        }
        .boxed()
    }
}

fn rules(allowed: &[&str]) -> OutboundRules {
    let allowed: Vec<String> = allowed.iter().map(|p| (*p).to_owned()).collect();
    OutboundRules::parse(&allowed).unwrap()
}

fn web(allowed: &[&str], names: &[(&'static str, &str)], limits: HttpLimits) -> Web {
    guarded(rules(allowed), names, limits)
}

fn guarded(rules: OutboundRules, names: &[(&'static str, &str)], limits: HttpLimits) -> Web {
    let rules = Arc::new(rules);
    let names = names.iter().map(|(name, at)| (*name, at.parse().unwrap()));
    Web::guarded(rules, Arc::new(Names(names.collect())), limits).unwrap()
}

fn get(url: &str) -> WebRequest {
    WebRequest {
        method: Method::GET,
        url: Url::parse(url).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        follows_redirects: true,
    }
}

fn port(receiver: &HttpReceiver) -> u16 {
    Url::parse(&receiver.url()).unwrap().port().unwrap()
}

async fn error(web: &Web, request: WebRequest) -> WebError {
    web.send(request).await.err().unwrap()
}

#[tokio::test]
async fn a_name_that_leads_to_a_refused_address_is_refused() {
    let names = [
        ("metadata.example", "169.254.169.254"),
        ("mapped.example", "::ffff:169.254.169.254"),
        ("here.example", "127.0.0.1"),
    ];
    let receiver = HttpReceiver::start().await.unwrap();
    let open = guarded(OutboundRules::default(), &names, HttpLimits::default());
    let listed = web(&["*.example"], &names, HttpLimits::default());
    for web in [&open, &listed] {
        for (name, _) in names {
            let url = format!("http://{name}:{}/secret", port(&receiver));
            let refused = error(web, get(&url)).await;
            assert!(refused.message.contains("are not allowed"), "{refused}");
            assert!(refused.message.contains("add its address"), "{refused}");
            assert!(!refused.message.contains("secret"), "{refused}");
            assert!(!refused.is_transient);
        }
    }
    assert!(receiver.requests().is_empty());
    let meant = web(&["*.example", "127.0.0.1"], &names, HttpLimits::default());
    let url = format!("http://here.example:{}/", port(&receiver));
    assert_eq!(meant.send(get(&url)).await.unwrap().status, 200);
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_checked() {
    let receiver = HttpReceiver::start().await.unwrap();
    let web = web(
        &["127.0.0.1"],
        &[("inside.example", "169.254.169.254")],
        HttpLimits::default(),
    );
    for location in [
        "http://169.254.169.254/latest/meta-data/",
        "http://inside.example/",
        "http://[::ffff:a9fe:a9fe]/",
        "file:///etc/passwd",
        "http://8.8.8.8/",
    ] {
        receiver.answer_with(302, &[("location", location)], "");
        let refused = error(&web, get(&receiver.url())).await;
        assert!(
            refused.message.contains("not allowed"),
            "{location}: {refused}"
        );
    }
    receiver.answer_with(302, &[("location", "/again")], "");
    let lost = error(&web, get(&receiver.url())).await;
    assert!(lost.message.contains("more than 10 redirects"), "{lost}");
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let first = HttpReceiver::start().await.unwrap();
    let second = HttpReceiver::start().await.unwrap();
    let target = format!("{}/there", second.url());
    let web = web(&["127.0.0.1"], &[], HttpLimits::default());
    let secret = |url: &str| {
        let mut request = get(url);
        request.method = Method::POST;
        request.body = Bytes::from_static(b"body");
        for name in [AUTHORIZATION, COOKIE] {
            request
                .headers
                .insert(name, HeaderValue::from_static("a secret"));
        }
        request
            .headers
            .insert("x-plain", HeaderValue::from_static("plain"));
        request
    };
    first.answer_with(307, &[("location", &target)], "");
    web.send(secret(&first.url())).await.unwrap();
    first.answer_with(303, &[("location", &target)], "");
    web.send(secret(&first.url())).await.unwrap();
    let came = first.requests();
    assert_eq!(came[0].header("authorization"), Some("a secret"));
    let came = second.requests();
    assert_eq!(
        (came[0].method.as_str(), came[0].body.as_slice()),
        ("POST", &b"body"[..])
    );
    assert_eq!(
        (came[1].method.as_str(), came[1].body.as_slice()),
        ("GET", &b""[..])
    );
    for request in came {
        assert_eq!(request.path, "/there");
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("cookie"), None);
        assert_eq!(request.header("x-plain"), Some("plain"));
    }
}

#[tokio::test]
async fn what_takes_too_long_or_is_too_large_is_given_up() {
    let receiver = HttpReceiver::start().await.unwrap();
    let limits = HttpLimits {
        request: 4,
        response: 8,
        ..HttpLimits::default()
    };
    let web_of = |limits| web(&["127.0.0.1"], &[], limits);
    let web = web_of(limits);
    receiver.answer_with(200, &[], "12345678");
    assert_eq!(
        web.send(get(&receiver.url())).await.unwrap().body,
        "12345678"
    );
    receiver.answer_with(200, &[], "123456789");
    let large = error(&web, get(&receiver.url())).await;
    assert!(large.message.contains("larger than 8 bytes"), "{large}");
    let mut request = get(&receiver.url());
    request.body = Bytes::from_static(b"12345");
    let large = error(&web, request).await;
    assert!(
        large.message.contains("has 5 bytes, and may have 4"),
        "{large}"
    );
    receiver.never_answer();
    let hasty = web_of(HttpLimits {
        whole: Duration::from_millis(300),
        ..HttpLimits::default()
    });
    let slow = error(&hasty, get(&receiver.url())).await;
    assert!(
        slow.message.contains("did not answer within 0.3 s"),
        "{slow}"
    );
    assert!(slow.is_transient && !slow.is_unsent);
}

#[tokio::test]
async fn a_host_that_is_not_there_may_be_there_later() {
    let receiver = HttpReceiver::start().await.unwrap();
    let web = web(&["127.0.0.1", "none.example"], &[], HttpLimits::default());
    let url = receiver.url();
    receiver.hang_up();
    let lost = error(&web, get(&format!("{url}/?token=hunter2"))).await;
    assert!(lost.is_transient && !lost.is_unsent, "{lost:?}");
    assert!(
        lost.message.contains(&url) && !lost.message.contains("hunter2"),
        "{lost}"
    );
    let gone = error(&web, get("http://127.0.0.1:1")).await;
    assert!(gone.is_transient && gone.is_unsent, "{gone:?}");
    let unknown = error(&web, get("http://none.example/")).await;
    assert!(unknown.message.contains("no such name"), "{unknown}");
}
