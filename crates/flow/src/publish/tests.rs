//! Publishing from a source and to a place that do what a test says.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::observe::Quiet;

/// The nth event, a moment after the one before.
fn event(number: u32) -> RawEvent {
    RawEvent {
        token: format!("82{number:08X}"),
        cluster_time: ClusterTime::new(number, 1),
        wall_time: i64::from(number) * 1000,
        operation: "insert".to_owned(),
        database: "shop".to_owned(),
        collection: Some(
            if number.is_multiple_of(3) {
                "orders"
            } else {
                "customers"
            }
            .to_owned(),
        ),
        document: vec![0; 100].into(),
        is_reduced: false,
    }
}

fn behind(event: &RawEvent) -> Position {
    Position {
        resume_token: Some(event.token.clone()),
        ..Position::at(event.cluster_time)
    }
}

fn unreachable() -> Error {
    Error::new(ErrorKind::Unreachable, "it cannot be reached")
}

/// A deployment with these events, one a reply; and nothing more.
struct Source {
    events: Vec<RawEvent>,
    now: ClusterTime,
    /// After how many replies of each call it fails, in turn.
    failures: Mutex<VecDeque<(usize, Error)>>,
    sent: AtomicUsize,
    /// Its events are of others, and move the stream alone.
    is_idle: bool,
}

impl Source {
    fn new(events: u32, now: u32) -> Self {
        Self {
            events: (1..=events).map(event).collect(),
            now: ClusterTime::new(now, 1),
            failures: Mutex::default(),
            sent: AtomicUsize::new(0),
            is_idle: false,
        }
    }
}

#[async_trait]
impl EventSource for Source {
    fn place(&self) -> &str {
        "source"
    }

    async fn now(&self) -> Result<Position> {
        Ok(Position::at(self.now))
    }

    async fn follow(&self, _: &Watch, from: &Position, out: mpsc::Sender<RawEvents>) -> Result<()> {
        let mut failure = self.failures.lock().unwrap().pop_front();
        // Only behind the end of a stream a new one begins; else what had been passed comes again.
        let first = self.events.iter().position(|event| {
            let is_end =
                event.operation == "invalidate" && from.resume_token.as_ref() == Some(&event.token);
            event.cluster_time >= from.cluster_time && !is_end
        });
        let mut reached = from.clone();
        for event in &self.events[first.unwrap_or(self.events.len())..] {
            if let Some((left, _)) = &mut failure {
                match left.checked_sub(1) {
                    Some(less) => *left = less,
                    None => break,
                }
            }
            reached = behind(event);
            let reply = RawEvents {
                events: match self.is_idle {
                    true => Vec::new(),
                    false => vec![event.clone()],
                },
                position: reached.clone(),
                complete_to: event.cluster_time,
                present: event.cluster_time,
                bytes: event.document.len(),
                received: SystemTime::now(),
            };
            if out.send(reply).await.is_err() {
                return Ok(());
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
            if event.operation == "invalidate" {
                return Ok(());
            }
        }
        if let Some((_, error)) = failure {
            return Err(error);
        }
        let idle = RawEvents {
            events: Vec::new(),
            position: reached,
            complete_to: ClusterTime::new(1_000_000, 1),
            present: ClusterTime::new(1_000_000, 1),
            bytes: 0,
            received: SystemTime::now(),
        };
        let _ = out.send(idle).await;
        out.closed().await;
        Ok(())
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        Ok(Some(HistoryWindow {
            oldest: ClusterTime::new(1, 1),
            newest: ClusterTime::new(10_000, 1),
        }))
    }
}

/// What has been published: each batch, and the position behind it.
#[derive(Default)]
struct Place {
    batches: Mutex<Vec<(Vec<String>, Position)>>,
    position: Mutex<Option<Position>>,
    /// What becomes of the next calls, none for what goes well.
    failures: Mutex<VecDeque<Option<Error>>>,
    /// Each batch with events takes one.
    permits: Option<Semaphore>,
    /// How many events of a batch it publishes once it is to end.
    leaves_behind: Option<usize>,
    /// Whether every event is too large for it.
    reduces: bool,
}

impl Place {
    fn tokens(&self) -> Vec<String> {
        let batches = self.batches.lock().unwrap();
        batches
            .iter()
            .flat_map(|(tokens, _)| tokens.clone())
            .collect()
    }
}

struct Into(Arc<Place>, CancellationToken);

#[async_trait]
impl Publisher for Into {
    fn place(&self) -> String {
        "place".to_owned()
    }

    fn heed(&mut self, stop: CancellationToken) {
        self.1 = stop;
    }

    async fn position(&mut self) -> Result<Option<Position>> {
        Ok(self.0.position.lock().unwrap().clone())
    }

    async fn publish(&mut self, batch: &[RawEvent], position: &Position) -> Result<Published> {
        if let (Some(permits), false) = (&self.0.permits, batch.is_empty()) {
            permits.acquire().await.unwrap().forget();
        }
        if let Some(error) = self.0.failures.lock().unwrap().pop_front().flatten() {
            return Err(error);
        }
        let leaves_behind = self.0.leaves_behind.filter(|_| self.1.is_cancelled());
        let count = leaves_behind.unwrap_or(batch.len()).min(batch.len());
        let mut published = Published {
            left: batch.len() - count,
            ..Published::default()
        };
        let (batch, position) = match (published.left, batch[..count].last()) {
            (0, _) => (batch, position.clone()),
            (_, Some(last)) => (&batch[..count], behind(last)),
            (_, None) => return Ok(published),
        };
        let tokens = batch.iter().map(|event| event.token.clone()).collect();
        let mut batches = self.0.batches.lock().unwrap();
        batches.push((tokens, position.clone()));
        *self.0.position.lock().unwrap() = Some(position);
        for event in batch {
            let written = published.collections.entry(event.namespace()).or_default();
            written.bytes += 7;
            written.reduced += u64::from(self.0.reduces);
        }
        Ok(published)
    }
}

fn work(source: &Arc<Source>, place: &Arc<Place>, options: PublishOptions) -> Publish {
    Publish {
        source: source.clone(),
        watch: Watch::default(),
        publisher: Box::new(Into(Arc::clone(place), CancellationToken::new())),
        observer: Arc::new(Quiet),
        options,
    }
}

fn once() -> PublishOptions {
    PublishOptions {
        once: true,
        ..PublishOptions::default()
    }
}

fn tokens(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| event(number).token).collect()
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A place that has got as far as the event of this number.
fn place_at(number: u32) -> Arc<Place> {
    let place = Place::default();
    *place.position.lock().unwrap() = Some(behind(&event(number)));
    Arc::new(place)
}

#[tokio::test]
async fn the_first_start_begins_with_the_present_and_keeps_that_first() {
    let (source, place) = (Arc::new(Source::new(20, 11)), Arc::default());
    let report = publish(work(&source, &place, once()), CancellationToken::new()).await;
    let report = report.unwrap();
    let first = place.batches.lock().unwrap()[0].clone();
    assert_eq!(first, (Vec::new(), Position::at(ClusterTime::new(11, 1))));
    // Events of the very moment may have come before it.
    assert_eq!(place.tokens()[0], event(11).token);
    assert_eq!(report.place, "place");
    assert_eq!(Some(report.position), *place.position.lock().unwrap());
}

#[tokio::test]
async fn each_event_behind_the_position_is_published_once_in_batches_of_the_size_asked_for() {
    let (source, place) = (Arc::new(Source::new(20, 20)), place_at(4));
    let options = PublishOptions {
        max_events: 3,
        interval: Duration::from_secs(3600),
        ..once()
    };
    let report = publish(work(&source, &place, options), CancellationToken::new()).await;
    let report = report.unwrap();
    assert_eq!(place.tokens(), tokens(5..=20));
    for (tokens, position) in place.batches.lock().unwrap().iter() {
        assert!(tokens.len() <= 3, "{tokens:?}");
        if let Some(last) = tokens.last() {
            assert_eq!(position.resume_token.as_ref(), Some(last));
        }
    }
    let orders = &report.collections[&Namespace::new("shop", "orders")];
    assert_eq!(
        (orders.events, orders.applied.upserted, orders.applied.bytes),
        (5, 5, 35)
    );
    assert!(report.other_events.is_empty());
}

#[tokio::test]
async fn batches_are_cut_by_bytes_and_a_larger_event_goes_alone() {
    let mut source = Source::new(6, 6);
    source.events[2].document = vec![0; 5000].into();
    let (source, place) = (Arc::new(source), place_at(0));
    let options = PublishOptions {
        max_bytes: 900,
        interval: Duration::from_secs(3600),
        ..once()
    };
    publish(work(&source, &place, options), CancellationToken::new())
        .await
        .unwrap();
    let batches = place.batches.lock().unwrap().clone();
    let sizes: Vec<usize> = batches.iter().map(|(tokens, _)| tokens.len()).collect();
    assert_eq!(place.tokens(), tokens(1..=6));
    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
    assert!(
        batches.contains(&(tokens(3..=3), behind(&event(3)))),
        "{batches:?}"
    );
}

#[tokio::test]
async fn transient_failures_of_both_ends_are_waited_out() {
    let source = Source::new(9, 9);
    *source.failures.lock().unwrap() =
        VecDeque::from([(4, unreachable()), (0, unreachable()), (2, unreachable())]);
    let (source, place) = (Arc::new(source), place_at(0));
    *place.failures.lock().unwrap() =
        VecDeque::from([Some(unreachable()), None, Some(unreachable())]);
    let options = PublishOptions {
        max_events: 2,
        ..once()
    };
    publish(work(&source, &place, options), CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(place.tokens(), tokens(1..=9));
}

#[tokio::test]
async fn a_failure_that_lasts_is_the_answer_and_nothing_is_passed_over() {
    let (source, place) = (Arc::new(Source::new(9, 9)), place_at(0));
    let full = Error::new(ErrorKind::Storage, "the disk is full");
    *place.failures.lock().unwrap() = VecDeque::from([None, Some(full)]);
    let options = PublishOptions {
        max_events: 2,
        ..PublishOptions::default()
    };
    let error = publish(work(&source, &place, options), CancellationToken::new()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Storage);
    assert_eq!(place.tokens(), tokens(1..=2));

    let lost = Error::new(ErrorKind::HistoryLost, "it is forgotten");
    source.failures.lock().unwrap().push_back((5, lost));
    let error = publish(work(&source, &place, once()), CancellationToken::new()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::HistoryLost);
    // What had been read is published first; the event at the position was told again.
    assert_eq!(place.tokens(), tokens(1..=6));
}

#[tokio::test]
async fn a_slow_place_slows_the_source_down_and_what_was_read_is_published_at_the_end() {
    let source = Arc::new(Source::new(500, 500));
    let place = Arc::new(Place {
        position: Mutex::new(Some(behind(&event(0)))),
        permits: Some(Semaphore::new(0)),
        ..Place::default()
    });
    let options = PublishOptions {
        max_events: 10,
        max_bytes: 4100,
        interval: Duration::ZERO,
        ..PublishOptions::default()
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(publish(work(&source, &place, options), stop.clone()));
    let sent = || source.sent.load(Ordering::Relaxed);
    wait_until(|| sent() > 10).await;
    // The batch that is being published, one beside it, and what waits in between.
    let mut before = usize::MAX;
    while before != sent() {
        before = sent();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before < 40, "{before} events were read");
    stop.cancel();
    if let Some(permits) = &place.permits {
        permits.add_permits(500);
    }
    let report = running.await.unwrap().unwrap();
    let published = place.tokens();
    assert!(published.len() >= 10, "{published:?}");
    assert_eq!(published, tokens(1..=published.len() as u32));
    assert_eq!(report.position.resume_token.as_ref(), published.last());
}

#[tokio::test]
async fn a_stream_that_was_invalidated_is_followed_on() {
    let mut source = Source::new(9, 9);
    source.events[3].operation = "dropDatabase".to_owned();
    source.events[3].collection = None;
    source.events[4].operation = "invalidate".to_owned();
    let (source, place) = (Arc::new(source), place_at(0));
    let report = publish(work(&source, &place, once()), CancellationToken::new()).await;
    let report = report.unwrap();
    let expected: Vec<String> = [tokens(1..=4), tokens(6..=9)].concat();
    assert_eq!(place.tokens(), expected);
    assert_eq!(report.other_events["dropDatabase"], 1);
    assert_eq!(report.collections[&Namespace::new("shop", "")].events, 1);
}

#[tokio::test]
async fn a_position_that_moves_without_events_is_kept_now_and_then() {
    let mut source = Source::new(1200, 0);
    source.is_idle = true;
    let (source, place) = (Arc::new(source), place_at(0));
    let options = PublishOptions {
        heartbeat: Duration::from_secs(600),
        ..PublishOptions::default()
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(publish(work(&source, &place, options), stop.clone()));
    wait_until(|| source.sent.load(Ordering::Relaxed) >= 1200).await;
    wait_until(|| {
        let position = place.position.lock().unwrap().clone();
        position.is_some_and(|position| position.cluster_time.seconds() >= 1200)
    })
    .await;
    let kept = place.batches.lock().unwrap().len();
    assert!((1..=3).contains(&kept), "{kept} positions");
    assert!(place.tokens().is_empty());
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Counts what it hears of the source's memory.
#[derive(Default)]
struct Hears {
    remembers: AtomicUsize,
    behind: AtomicUsize,
    happened: Mutex<Vec<String>>,
}

impl Observer for Hears {
    fn remembers(&self, _: HistoryWindow) {
        self.remembers.fetch_add(1, Ordering::Relaxed);
    }

    fn falling_behind(&self, _: &Namespace, _: Duration, _: Duration) {
        self.behind.fetch_add(1, Ordering::Relaxed);
    }

    fn happened(&self, namespace: &Namespace, what: &str) {
        let mut happened = self.happened.lock().unwrap();
        happened.push(format!("{namespace}: {what}"));
    }
}

#[tokio::test]
async fn a_place_that_is_far_behind_is_warned_of() {
    let (source, place) = (Arc::new(Source::new(9, 9)), place_at(0));
    let hears = Arc::new(Hears::default());
    let publish_it = Publish {
        observer: hears.clone(),
        ..work(
            &source,
            &place,
            PublishOptions {
                watch_every: Duration::from_millis(20),
                interval: Duration::ZERO,
                ..PublishOptions::default()
            },
        )
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(publish(publish_it, stop.clone()));
    wait_until(|| hears.behind.load(Ordering::Relaxed) > 0).await;
    assert!(hears.remembers.load(Ordering::Relaxed) > 0);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_a_place_leaves_of_a_batch_when_it_is_to_end_is_left_for_the_next_start() {
    for leaves_behind in [3, 0] {
        let source = Arc::new(Source::new(500, 500));
        let place = Arc::new(Place {
            position: Mutex::new(Some(behind(&event(0)))),
            permits: Some(Semaphore::new(1)),
            leaves_behind: Some(leaves_behind),
            ..Place::default()
        });
        let options = PublishOptions {
            max_events: 10,
            interval: Duration::from_secs(3600),
            ..PublishOptions::default()
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(publish(work(&source, &place, options), stop.clone()));
        wait_until(|| place.tokens().len() == 10).await;
        wait_until(|| source.sent.load(Ordering::Relaxed) >= 500).await;
        stop.cancel();
        if let Some(permits) = &place.permits {
            permits.add_permits(500);
        }
        let report = running.await.unwrap().unwrap();
        let reached = 10 + leaves_behind as u32;
        assert_eq!(place.tokens(), tokens(1..=reached));
        assert_eq!(report.position, behind(&event(reached)));
        let events: u64 = report.collections.values().map(|of| of.events).sum();
        assert_eq!(events, u64::from(reached));
    }
}

#[tokio::test]
async fn events_that_are_too_large_are_told_of_at_once_and_then_by_their_number() {
    let source = Arc::new(Source::new(20, 20));
    let place = Arc::new(Place {
        position: Mutex::new(Some(behind(&event(0)))),
        reduces: true,
        ..Place::default()
    });
    let hears = Arc::new(Hears::default());
    let publish_it = Publish {
        observer: hears.clone(),
        ..work(
            &source,
            &place,
            PublishOptions {
                max_events: 1,
                ..once()
            },
        )
    };
    publish(publish_it, CancellationToken::new()).await.unwrap();
    let happened = hears.happened.lock().unwrap().clone();
    let of_orders: Vec<&String> = happened
        .iter()
        .filter(|told| told.starts_with("shop.orders: "))
        .collect();
    assert_eq!(of_orders.len(), 2, "{happened:?}");
    assert!(
        of_orders[0].contains(" 1 changes were too large"),
        "{happened:?}"
    );
    assert!(
        of_orders[1].contains(" 5 changes were too large"),
        "{happened:?}"
    );
    assert!(of_orders[1].contains("leftOut"), "{happened:?}");
}
