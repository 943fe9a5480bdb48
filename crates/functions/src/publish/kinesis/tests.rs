//! A stream that takes some records and not others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bson::doc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;
use tributary_model::ClusterTime;

use super::*;
use crate::services::AwsError;

/// What is in the stream, and what is to go wrong.
struct Fake {
    taken: Mutex<Vec<(String, Value)>>,
    requests: Mutex<Vec<usize>>,
    random: Mutex<StdRng>,
    /// One of so many records is not taken.
    refuses: Option<u32>,
    /// Whether the next requests fail as a whole, the last of them first.
    failures: Mutex<Vec<Option<AwsError>>>,
    limit: Option<usize>,
    /// How long a request takes.
    takes: Duration,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            taken: Mutex::default(),
            requests: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(3)),
            refuses: None,
            failures: Mutex::default(),
            limit: None,
            takes: Duration::ZERO,
        }
    }
}

struct Shared(Arc<Fake>);

#[async_trait]
impl StreamApi for Shared {
    async fn record_bytes(&self) -> Result<Option<usize>, AwsError> {
        match self.0.failures.lock().unwrap().pop().flatten() {
            Some(error) => Err(error),
            None => Ok(self.0.limit),
        }
    }

    async fn put(&self, records: &[Record]) -> Result<Vec<Option<String>>, AwsError> {
        tokio::time::sleep(self.0.takes).await;
        if let Some(error) = self.0.failures.lock().unwrap().pop().flatten() {
            return Err(error);
        }
        self.0.requests.lock().unwrap().push(records.len());
        let bytes: usize = records.iter().map(Record::bytes).sum();
        assert!(records.len() <= 500);
        assert!(records.len() == 1 || bytes <= 5 << 20, "{bytes} bytes");
        let mut random = self.0.random.lock().unwrap();
        let mut taken = self.0.taken.lock().unwrap();
        let mut results = Vec::new();
        for record in records {
            let is_refused = self
                .0
                .refuses
                .is_some_and(|refuses| random.random_ratio(1, refuses));
            results.push(
                is_refused.then(|| "ProvisionedThroughputExceededException: slow".to_owned()),
            );
            if !is_refused {
                let event = serde_json::from_slice(&record.data).unwrap();
                taken.push((record.key.clone(), event));
            }
        }
        Ok(results)
    }
}

fn failure(code: &str, is_transient: bool) -> AwsError {
    AwsError {
        code: code.to_owned(),
        message: "it says why".to_owned(),
        status: Some(400),
        is_transient,
    }
}

fn settings(state: &TempDir) -> KinesisSettings {
    KinesisSettings {
        stream: "changes".to_owned(),
        aws: AwsSettings::default(),
        partition_key: None,
        json: Mode::Relaxed,
        state: state.path().to_owned(),
        database: Some("shop".to_owned()),
    }
}

async fn publisher(fake: &Arc<Fake>, state: &TempDir) -> KinesisPublisher {
    let api = Box::new(Shared(Arc::clone(fake)));
    let mut publisher = KinesisPublisher::through(settings(state), api).unwrap();
    publisher.position().await.unwrap();
    publisher
}

fn event(number: u32, key: i32, text: &str) -> RawEvent {
    let document = doc! {
        "_id": { "_data": format!("82{number:08X}") },
        "operationType": "update",
        "documentKey": { "_id": key },
        "n": number,
        "fullDocument": { "_id": key, "text": text },
        "fullDocumentBeforeChange": { "_id": key, "text": text },
    };
    RawEvent {
        token: format!("82{number:08X}"),
        cluster_time: ClusterTime::new(number, 1),
        wall_time: 0,
        operation: "update".to_owned(),
        database: "shop".to_owned(),
        collection: Some("orders".to_owned()),
        document: bson::serialize_to_vec(&document).unwrap().into(),
        is_reduced: false,
    }
}

fn at(number: u32) -> Position {
    Position::at(ClusterTime::new(number, 1))
}

/// The numbers of each key's events, in the order of the stream.
fn by_key(fake: &Fake) -> BTreeMap<String, Vec<i64>> {
    let mut by_key: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (key, event) in fake.taken.lock().unwrap().iter() {
        let number = event["n"].as_i64().unwrap();
        by_key.entry(key.clone()).or_default().push(number);
    }
    by_key
}

#[tokio::test]
async fn records_of_a_key_keep_their_order_when_some_are_not_taken() {
    let state = TempDir::new().unwrap();
    let fake = Arc::new(Fake {
        refuses: Some(3),
        ..Fake::default()
    });
    let mut publisher = publisher(&fake, &state).await;
    let events: Vec<RawEvent> = (0..300)
        .map(|number| event(number, (number * number % 23) as i32, "x"))
        .collect();
    let published = publisher.publish(&events, &at(300)).await.unwrap();
    let mut expected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for number in 0..300 {
        let key = format!("{{\"$numberInt\":\"{}\"}}", number * number % 23);
        expected.entry(key).or_default().push(number);
    }
    assert_eq!(by_key(&fake), expected);
    let written: u64 = published
        .collections
        .values()
        .map(|written| written.bytes)
        .sum();
    assert!(written > 300 * 100, "{written}");
    assert_eq!(publisher.position().await.unwrap(), Some(at(300)));
}

#[tokio::test]
async fn records_of_different_keys_share_requests() {
    let state = TempDir::new().unwrap();
    let fake = Arc::new(Fake::default());
    let mut publisher = publisher(&fake, &state).await;
    let events: Vec<RawEvent> = (0..1200)
        .map(|number| event(number, number as i32, "x"))
        .collect();
    publisher.publish(&events, &at(1200)).await.unwrap();
    assert_eq!(*fake.requests.lock().unwrap(), [500, 500, 200]);
    fake.requests.lock().unwrap().clear();
    let text = "x".repeat(500_000);
    // Each is in an event twice: five of those are as much as a request takes.
    let events: Vec<RawEvent> = (0..10)
        .map(|number| event(number, number as i32, &text))
        .collect();
    publisher.publish(&events, &at(1300)).await.unwrap();
    assert_eq!(*fake.requests.lock().unwrap(), [5, 5]);
}

#[tokio::test]
async fn what_was_acknowledged_is_not_sent_again_with_its_batch() {
    let state = TempDir::new().unwrap();
    let fake = Arc::new(Fake::default());
    let mut publisher = publisher(&fake, &state).await;
    // All of one key: a request each.
    let events: Vec<RawEvent> = (0..5).map(|number| event(number, 1, "x")).collect();
    let throttled = failure("ProvisionedThroughputExceededException", true);
    *fake.failures.lock().unwrap() = vec![Some(throttled), None, None];
    let error = publisher.publish(&events, &at(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(fake.taken.lock().unwrap().len(), 2);
    // It goes on behind what is acknowledged, whoever does.
    assert_eq!(
        publisher.position().await.unwrap(),
        Some(events[1].position(&at(5)))
    );
    publisher.publish(&events, &at(5)).await.unwrap();
    let numbers: Vec<i64> = by_key(&fake).into_values().flatten().collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    assert_eq!(publisher.position().await.unwrap(), Some(at(5)));
    // Of the next batch nothing has been sent, whatever its events are.
    publisher.publish(&events[4..], &at(6)).await.unwrap();
    assert_eq!(fake.taken.lock().unwrap().len(), 6);
}

/// Changes of one document, more than can be sent while a test waits for something, and a stream of which each
/// request takes a while.
fn hot_key() -> (Vec<RawEvent>, Arc<Fake>) {
    let events = (0..2000).map(|number| event(number, 1, "x")).collect();
    let fake = Fake {
        takes: Duration::from_millis(5),
        ..Fake::default()
    };
    (events, Arc::new(fake))
}

#[tokio::test]
async fn a_batch_that_is_killed_in_its_middle_goes_on_behind_what_was_acknowledged() {
    let state = TempDir::new().unwrap();
    let (events, fake) = hot_key();
    let mut killed = publisher(&fake, &state).await;
    let file = state.path().join(killed.checkpoint_name() + ".json");
    let end = at(2000);
    {
        let publishes = killed.publish(&events, &end);
        tokio::pin!(publishes);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !file.exists() {
            assert!(Instant::now() < deadline, "no position was kept");
            tokio::select! {
                published = &mut publishes => panic!("it is through: {published:?}"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }
    drop(killed);
    let taken = fake.taken.lock().unwrap().len();
    let mut next = publisher(&fake, &state).await;
    let position = next.position().await.unwrap().unwrap();
    let is_left = |event: &&RawEvent| !position.has_passed(&event.token, event.cluster_time);
    let left: Vec<RawEvent> = events.iter().filter(is_left).take(taken).cloned().collect();
    let first = usize::try_from(left[0].cluster_time.seconds()).unwrap();
    assert!(0 < first && first <= taken, "{first} of {taken}");
    next.publish(&left, &at(3000)).await.unwrap();
    let numbers = by_key(&fake).into_values().next().unwrap();
    let in_order = |numbers: &[i64]| numbers.is_sorted_by(|one, other| one + 1 == *other);
    assert!(in_order(&numbers[..taken]) && in_order(&numbers[taken..]));
    assert_eq!(numbers[taken], first as i64);
}

#[tokio::test]
async fn what_a_batch_lacks_some_seconds_after_the_stop_is_left() {
    let state = TempDir::new().unwrap();
    let (events, fake) = hot_key();
    let mut stopped = publisher(&fake, &state).await;
    let stop = CancellationToken::new();
    stopped.heed(stop.clone());
    stop.cancel();
    let published = stopped.publish(&events, &at(2000)).await.unwrap();
    let taken = fake.taken.lock().unwrap().len();
    assert!(published.left > 0);
    assert_eq!(taken, events.len() - published.left);
    let last = &events[taken - 1];
    assert_eq!(
        stopped.position().await.unwrap(),
        Some(last.position(&at(2000)))
    );
    let bytes: u64 = published.collections.values().map(|of| of.bytes).sum();
    assert!((100 * taken as u64..400 * taken as u64).contains(&bytes));
    // Nothing more goes out, and nothing is told of it.
    let more = stopped.publish(&events[taken..], &at(2000)).await.unwrap();
    assert_eq!(more.left, events.len() - taken);
    assert!(more.collections.is_empty());
    assert_eq!(fake.taken.lock().unwrap().len(), taken);
}

#[tokio::test]
async fn what_is_too_large_goes_without_its_documents_and_says_so() {
    let state = TempDir::new().unwrap();
    let fake = Arc::new(Fake {
        limit: Some(100_000),
        ..Fake::default()
    });
    let mut publisher = publisher(&fake, &state).await;
    let events = [
        event(0, 0, "x"),
        event(1, 1, &"x".repeat(60_000)),
        event(2, 2, &"x".repeat(150_000)),
    ];
    let published = publisher.publish(&events, &at(3)).await.unwrap();
    assert_eq!(
        published
            .collections
            .values()
            .map(|of| of.reduced)
            .sum::<u64>(),
        2
    );
    let taken = fake.taken.lock().unwrap().clone();
    assert!(taken[0].1.get("_tributary").is_none());
    assert!(taken[0].1.get("fullDocumentBeforeChange").is_some());
    assert_eq!(
        taken[1].1["_tributary"]["leftOut"],
        serde_json::json!(["fullDocumentBeforeChange", "updateDescription"])
    );
    assert!(taken[1].1.get("fullDocument").is_some());
    assert!(taken[2].1.get("fullDocument").is_none());
    assert_eq!(taken[2].1["documentKey"]["_id"], 2);

    let mut large = event(4, 4, "x");
    let document = doc! { "_id": { "_data": "82" }, "documentKey": { "_id": "k".repeat(200_000) } };
    large.document = bson::serialize_to_vec(&document).unwrap().into();
    let error = publisher.publish(&[large], &at(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("UpdateMaxRecordSize"), "{error}");
    // Nothing is passed over.
    assert_eq!(publisher.position().await.unwrap(), Some(at(3)));
}

#[tokio::test]
async fn each_failure_says_what_to_do() {
    let state = TempDir::new().unwrap();
    for (code, is_transient, kind, words) in [
        (
            "ResourceNotFoundException",
            false,
            ErrorKind::NotFound,
            "create the stream",
        ),
        (
            "AccessDeniedException",
            false,
            ErrorKind::Forbidden,
            "kinesis:DescribeStreamSummary",
        ),
        (
            "UnrecognizedClientException",
            false,
            ErrorKind::Unauthenticated,
            "AWS_ACCESS_KEY_ID",
        ),
        (
            "InvalidSignatureException",
            false,
            ErrorKind::Unauthenticated,
            "AWS_SECRET_ACCESS_KEY",
        ),
        (
            "ExpiredTokenException",
            false,
            ErrorKind::Unauthenticated,
            "AWS_SESSION_TOKEN",
        ),
        ("MissingRegion", false, ErrorKind::Usage, "AWS_REGION"),
        ("KMSDisabledException", false, ErrorKind::Forbidden, "KMS"),
        ("InternalFailure", true, ErrorKind::Unavailable, "endpoint"),
        (
            "ValidationException",
            false,
            ErrorKind::Storage,
            "it says why",
        ),
    ] {
        let fake = Arc::new(Fake::default());
        let mut publisher = publisher(&fake, &state).await;
        let fails = Some(failure(code, is_transient));
        fake.failures.lock().unwrap().push(fails);
        let error = publisher
            .publish(&[event(1, 1, "x")], &at(1))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("stream changes"), "{error}");
    }
}

#[tokio::test]
async fn who_may_write_need_not_be_allowed_to_ask() {
    let state = TempDir::new().unwrap();
    let fake = Arc::new(Fake::default());
    let denied = Some(failure("AccessDeniedException", false));
    fake.failures.lock().unwrap().push(denied.clone());
    let mut publisher = publisher(&fake, &state).await;
    fake.failures.lock().unwrap().push(denied);
    publisher.check().await.unwrap();
    publisher
        .publish(&[event(1, 1, "x")], &at(1))
        .await
        .unwrap();
    assert_eq!(fake.taken.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_position_is_kept_by_one_process() {
    let state = TempDir::new().unwrap();
    let fake = Arc::new(Fake::default());
    let mut first = publisher(&fake, &state).await;
    assert_eq!(first.position().await.unwrap(), None);
    first.publish(&[], &at(7)).await.unwrap();
    let api = Box::new(Shared(Arc::clone(&fake)));
    let mut second = KinesisPublisher::through(settings(&state), api).unwrap();
    let error = second.position().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    // Another database of the same deployment has a position of its own.
    let of_another = KinesisSettings {
        database: None,
        ..settings(&state)
    };
    let api = Box::new(Shared(Arc::clone(&fake)));
    let mut other = KinesisPublisher::through(of_another, api).unwrap();
    assert_eq!(other.position().await.unwrap(), None);
    drop(first);
    assert_eq!(second.position().await.unwrap(), Some(at(7)));
}
