//! What subscribers are told.

use std::time::Instant;

use reqwest::Response;
use serde_json::Value;
use tributary_orchestrator::status::{Notice, Reloaded};

use super::{Fixture, PATIENCE, fake, problem};

const EVENTS: &str = "/api/v1/events";

/// A subscriber, and what it has not looked at yet.
struct Subscriber {
    response: Response,
    rest: String,
}

impl Subscriber {
    async fn new(fixture: &Fixture) -> Self {
        let response = fixture.get(EVENTS).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            rest: String::new(),
        }
    }

    /// The next event: its name and data.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| {
                    let mut fields = event.lines().filter_map(|line| line.split_once(": "));
                    fields.find(|(key, _)| *key == name).unwrap().1.to_owned()
                };
                let data = serde_json::from_str(&field("data")).unwrap();
                let event = (field("event"), data);
                self.rest = rest.to_owned();
                return event;
            }
            let chunk = self.response.chunk().await.unwrap();
            let chunk = chunk.expect("the events go on");
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn subscribers_are_told_what_happens() {
    let fixture = Fixture::new().await;
    let mut first = Subscriber::new(&fixture).await;
    let mut second = Subscriber::new(&fixture).await;
    let notices = &fixture.fake.notices;
    notices.send(Notice::Flow(fake::flow())).unwrap();
    notices.send(Notice::Run(fake::run())).unwrap();
    notices.send(Notice::Trigger(fake::trigger())).unwrap();
    notices.send(Notice::Reloaded(Reloaded::default())).unwrap();
    for subscriber in [&mut first, &mut second] {
        let (name, data) = subscriber.next().await;
        assert_eq!(name, "flow");
        assert_eq!(data["event"], "flow");
        assert_eq!(data["tables"][0]["namespace"], "shop.orders");
        let (name, data) = subscriber.next().await;
        assert_eq!(name, "run");
        assert_eq!(data["state"], "running");
        let (name, data) = subscriber.next().await;
        assert_eq!(name, "trigger");
        assert_eq!(data["state"], "suspended");
        assert_eq!(subscriber.next().await.0, "reloaded");
    }
}

#[tokio::test]
async fn a_subscriber_that_fell_behind_is_told_so_and_goes_on() {
    let fixture = Fixture::new().await;
    let mut subscriber = Subscriber::new(&fixture).await;
    // The server has no turn meanwhile: there is one thread, and nothing is awaited.
    let missed = 5;
    for _ in 0..fake::BEHIND + missed {
        let notice = Notice::Run(fake::run());
        fixture.fake.notices.send(notice).unwrap();
    }
    let (name, data) = subscriber.next().await;
    assert_eq!(name, "lagged");
    assert_eq!(data["missed"], missed);
    for _ in 0..fake::BEHIND {
        assert_eq!(subscriber.next().await.0, "run");
    }
    let notice = Notice::Flow(fake::flow());
    fixture.fake.notices.send(notice).unwrap();
    assert_eq!(subscriber.next().await.0, "flow");
}

#[tokio::test]
async fn there_are_a_hundred_subscribers_and_no_more() {
    let fixture = Fixture::new().await;
    let mut subscribers = Vec::new();
    for _ in 0..100 {
        subscribers.push(Subscriber::new(&fixture).await);
    }
    let response = fixture.get(EVENTS).await;
    assert!(response.headers().contains_key("retry-after"));
    let detail = problem(response, 503).await;
    assert!(detail.contains("subscribers"), "{detail}");
    subscribers.pop();
    let since = Instant::now();
    while fixture.get(EVENTS).await.status() != 200 {
        assert!(since.elapsed() < PATIENCE, "the place stays taken");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_stop_ends_subscriptions_and_idle_connections() {
    let fixture = Fixture::new().await;
    let mut subscriber = Subscriber::new(&fixture).await;
    let address = fixture.served.address();
    fixture.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, fixture.served.ended());
    ended.await.expect("it ends");
    let last = subscriber.response.chunk().await.unwrap();
    assert_eq!(last, None, "the subscription ends as a whole answer does");
    let refused = fixture.client.get(address).send().await.unwrap_err();
    assert!(refused.is_connect(), "{refused:?}");
}
