//! What is remembered of triggers: who moved them last, what was asked meanwhile, and what is let go.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use tributary_flow::{
    DeadLetter, FunctionRun, Progress, RunError, StartAt, TriggerLedger, TriggerRecord,
    TriggerState,
};
use tributary_model::{ClusterTime, Position};

use super::triggers::Ask;
use super::*;
use crate::status::{FunctionRunFilter, LetterFilter, Letters};

const T: &str = "billing/charge";

struct Remembers {
    store: Store,
    directory: TempDir,
}

impl Remembers {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self {
            store: Store::open(directory.path()).unwrap(),
            directory,
        }
    }

    /// What another process would be told.
    async fn load(&self) -> TriggerRecord {
        let other = Store::open(self.directory.path()).unwrap();
        other.load(T).await.unwrap()
    }

    async fn advance(&self, progress: Progress) {
        self.store.advance(T, progress).await.unwrap();
    }

    async fn letters(&self) -> Vec<(String, u32, bool)> {
        let filter = LetterFilter {
            limit: 100,
            ..LetterFilter::default()
        };
        let letters = self.store.dead_letters(filter).await.unwrap();
        let letters = letters.into_iter();
        letters
            .map(|letter| (letter.id, letter.attempts, letter.replaying))
            .collect()
    }

    async fn runs(&self, filter: FunctionRunFilter) -> Vec<String> {
        let limit = 100_000;
        let filter = FunctionRunFilter { limit, ..filter };
        let runs = self.store.function_runs(filter).await.unwrap();
        runs.into_iter().map(|run| run.id).collect()
    }
}

fn at(seconds: u32) -> Position {
    Position {
        resume_token: Some(format!("82{seconds:08}")),
        ..Position::at(ClusterTime::new(seconds, 1))
    }
}

/// Where a trigger is that runs by the record of this revision.
fn progress(revision: u64, seconds: u32) -> Progress {
    Progress {
        revision,
        position: Some(at(seconds)),
        ..Progress::default()
    }
}

fn letter(id: &str, token: &str) -> DeadLetter {
    DeadLetter {
        id: id.to_owned(),
        trigger: T.to_owned(),
        token: token.to_owned(),
        arguments: vec![5, 0, 0, 0, 0].into(),
        error: format!("{id} failed"),
        attempts: 4,
        at: of_moment(1_760_000_000_123),
    }
}

fn run(id: &str, error: Option<&str>) -> FunctionRun {
    FunctionRun {
        id: id.to_owned(),
        app: "billing".to_owned(),
        function: "charge".to_owned(),
        cause: format!("trigger {T}"),
        subject: Some("82".to_owned()),
        attempt: 2,
        started_at: now(),
        duration: Duration::from_micros(1500),
        error: error.map(|message| RunError {
            message: message.to_owned(),
            file: Some("functions/charge.js".to_owned()),
            line: Some(7),
            stack: Some("at charge".to_owned()),
        }),
        console: vec![("log".to_owned(), "charging".to_owned())],
    }
}

#[tokio::test]
async fn nothing_is_remembered_of_what_never_ran() {
    let remembers = Remembers::new();
    assert_eq!(remembers.load().await, TriggerRecord::default());
    assert_eq!(remembers.store.revisions().await.unwrap(), []);
    assert_eq!(remembers.store.to_replay(T).await.unwrap(), []);
}

#[tokio::test]
async fn all_that_came_of_events_is_there_together() {
    let remembers = Remembers::new();
    remembers
        .advance(Progress {
            head: Some("h".to_owned()),
            unfinished: vec!["a".to_owned(), "b".to_owned()],
            passed_to: Some(of_moment(1_760_000_000_000)),
            dead: vec![letter("l1", "t1")],
            runs: vec![run("r1", Some("no such card"))],
            succeeded: 10,
            failed: 3,
            ..progress(0, 5)
        })
        .await;
    let expected = TriggerRecord {
        revision: 0,
        position: Some(at(5)),
        head: Some("h".to_owned()),
        unfinished: vec!["a".to_owned(), "b".to_owned()],
        passed_to: Some(of_moment(1_760_000_000_000)),
        state: TriggerState::Running,
        from: None,
    };
    assert_eq!(remembers.load().await, expected);
    let all = remembers.store.triggers().await.unwrap();
    let [known] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(known.record, expected);
    assert_eq!(
        (known.succeeded, known.failed, known.dead_letters),
        (10, 3, 1)
    );
    assert_eq!(known.last_error.as_deref(), Some("no such card"));
    assert!(known.last_run_at.is_some());
    let detail = remembers.store.function_run("r1").await.unwrap().unwrap();
    assert_eq!(detail.console[0].text, "charging");
    assert!((detail.run.seconds - 0.0015).abs() < 1e-9);
    let error = detail.run.error.unwrap();
    assert_eq!(
        (error.line, error.stack.as_deref()),
        (Some(7), Some("at charge"))
    );

    // Without runs nothing is counted, and what failed is no news once something has succeeded.
    remembers.advance(progress(0, 6)).await;
    let known = remembers.store.triggers().await.unwrap().remove(0);
    assert!(known.last_error.is_some());
    let succeeded = Progress {
        succeeded: 1,
        ..progress(0, 7)
    };
    remembers.advance(succeeded).await;
    let known = remembers.store.triggers().await.unwrap().remove(0);
    assert_eq!((known.succeeded, known.last_error), (11, None));
}

#[tokio::test]
async fn a_replay_that_is_asked_for_while_a_trigger_runs_is_not_lost() {
    let remembers = Remembers::new();
    remembers.advance(progress(0, 100)).await;
    let seen = remembers.load().await;
    let from = StartAt::Time(of_moment(50_000));
    remembers
        .store
        .ask_trigger(T, Ask::Replay(from))
        .await
        .unwrap();
    // It runs by what it has loaded before.
    remembers
        .advance(Progress {
            dead: vec![letter("l1", "t1")],
            runs: vec![run("r1", None)],
            succeeded: 1,
            passed_to: Some(now()),
            ..progress(seen.revision, 101)
        })
        .await;
    let record = remembers.load().await;
    assert_eq!((record.from, record.position), (Some(from), Some(at(100))));
    assert_eq!(
        (record.revision, record.passed_to),
        (seen.revision + 1, None)
    );
    // What came of events has come of them.
    assert_eq!(remembers.letters().await.len(), 1);
    assert_eq!(remembers.runs(FunctionRunFilter::default()).await, ["r1"]);
    let known = remembers.store.triggers().await.unwrap().remove(0);
    assert_eq!(known.succeeded, 1);

    remembers.advance(progress(record.revision, 51)).await;
    let record = remembers.load().await;
    assert_eq!((record.from, record.position), (None, Some(at(51))));
}

#[tokio::test]
async fn what_a_trigger_did_before_it_saw_a_pause_counts() {
    let remembers = Remembers::new();
    remembers.advance(progress(0, 100)).await;
    remembers.store.ask_trigger(T, Ask::Pause).await.unwrap();
    remembers.advance(progress(0, 101)).await;
    let record = remembers.load().await;
    assert_eq!((record.revision, record.position), (1, Some(at(101))));
    assert_eq!(record.state, TriggerState::Paused);
    // Also with a replay that had been seen before.
    let from = StartAt::Time(of_moment(0));
    let store = &remembers.store;
    store.ask_trigger(T, Ask::Replay(from)).await.unwrap();
    store.ask_trigger(T, Ask::Resume).await.unwrap();
    remembers.advance(progress(2, 7)).await;
    let record = remembers.load().await;
    assert_eq!((record.revision, record.from), (3, None));
    assert_eq!(record.position, Some(at(7)));
}

#[tokio::test]
async fn a_runner_does_not_undo_what_somebody_asked_for() {
    let remembers = Remembers::new();
    let store = &remembers.store;
    let suspended = TriggerState::Suspended {
        reason: "it failed".to_owned(),
    };
    let now_on = Some(StartAt::Now);
    store
        .set_state(T, u64::MAX, suspended.clone(), now_on)
        .await
        .unwrap();
    let record = remembers.load().await;
    assert_eq!((record.state, record.from), (suspended.clone(), now_on));
    // It knows what it has done itself.
    assert_eq!(record.revision, 0);

    store.ask_trigger(T, Ask::Pause).await.unwrap();
    store
        .set_state(T, u64::MAX, TriggerState::Running, None)
        .await
        .unwrap();
    store
        .set_state(T, u64::MAX, suspended.clone(), None)
        .await
        .unwrap();
    assert_eq!(remembers.load().await.state, TriggerState::Paused);

    let from = StartAt::Time(of_moment(1000));
    store.ask_trigger(T, Ask::Replay(from)).await.unwrap();
    store
        .set_state(T, u64::MAX, TriggerState::Running, now_on)
        .await
        .unwrap();
    let record = remembers.load().await;
    assert_eq!(
        (record.state, record.from),
        (TriggerState::Paused, Some(from))
    );
    store.ask_trigger(T, Ask::Resume).await.unwrap();
    assert_eq!(remembers.load().await.state, TriggerState::Running);
    // One that has not seen that it was resumed does not suspend it.
    let revision = remembers.load().await.revision;
    let stale = store.set_state(T, revision - 1, suspended.clone(), None);
    stale.await.unwrap();
    assert_eq!(remembers.load().await.state, TriggerState::Running);
    let current = store.set_state(T, revision, suspended.clone(), None);
    current.await.unwrap();
    assert_eq!(remembers.load().await.state, suspended);
}

#[tokio::test]
async fn a_replay_resumes_what_is_suspended() {
    let remembers = Remembers::new();
    let suspended = TriggerState::Suspended {
        reason: String::new(),
    };
    remembers
        .store
        .set_state(T, u64::MAX, suspended, None)
        .await
        .unwrap();
    let ask = Ask::Replay(StartAt::Time(of_moment(0)));
    remembers.store.ask_trigger(T, ask).await.unwrap();
    assert_eq!(remembers.load().await.state, TriggerState::Running);
}

#[tokio::test]
async fn each_thing_that_is_asked_by_hand_is_another_revision() {
    let remembers = Remembers::new();
    let store = &remembers.store;
    remembers
        .advance(Progress {
            dead: vec![letter("l1", "t1"), letter("l2", "t2")],
            ..Progress::default()
        })
        .await;
    let revision = async || remembers.load().await.revision;
    assert_eq!(revision().await, 0);
    store.ask_trigger(T, Ask::Pause).await.unwrap();
    store.ask_trigger(T, Ask::Resume).await.unwrap();
    assert_eq!(revision().await, 2);
    let these = Letters::These(vec!["l1".to_owned()]);
    assert_eq!(store.ask_letters(these).await.unwrap(), Ok(1));
    assert_eq!(revision().await, 3);
    let all = Letters::AllOf(T.to_owned());
    assert_eq!(store.discard_letters(all.clone()).await.unwrap(), Ok(2));
    assert_eq!(revision().await, 4);
    // There is nothing to look at again.
    assert_eq!(store.discard_letters(all).await.unwrap(), Ok(0));
    assert_eq!(store.revisions().await.unwrap(), [(T.to_owned(), 4)]);
}

#[tokio::test]
async fn dead_letters_are_tried_again_until_they_succeed() {
    let remembers = Remembers::new();
    let store = &remembers.store;
    remembers
        .advance(Progress {
            dead: ["1", "2", "3"].map(|id| letter(id, id)).to_vec(),
            failed: 3,
            ..Progress::default()
        })
        .await;
    let some = Letters::These(vec!["2".to_owned(), "1".to_owned()]);
    assert_eq!(store.ask_letters(some).await.unwrap(), Ok(2));
    let asked = store.to_replay(T).await.unwrap();
    assert_eq!(asked, [letter("1", "1"), letter("2", "2")]);
    assert_eq!(store.to_replay("another").await.unwrap(), []);

    store.replayed("1", None, run("r1", None)).await.unwrap();
    let error = Some("again".to_owned());
    let failed = run("r2", Some("again"));
    store.replayed("2", error.clone(), failed).await.unwrap();
    assert_eq!(
        remembers.letters().await,
        [("3".to_owned(), 4, false), ("2".to_owned(), 5, false)]
    );
    assert_eq!(store.to_replay(T).await.unwrap(), []);
    // One that was discarded meanwhile stays so, and its run is counted.
    let three = Letters::These(vec!["3".to_owned()]);
    assert_eq!(store.discard_letters(three).await.unwrap(), Ok(1));
    store
        .replayed("3", error, run("r3", Some("again")))
        .await
        .unwrap();
    assert_eq!(remembers.letters().await, [("2".to_owned(), 5, false)]);
    let known = store.triggers().await.unwrap().remove(0);
    assert_eq!((known.succeeded, known.failed), (1, 5));
    assert_eq!(known.last_error.as_deref(), Some("again"));
    assert_eq!(
        remembers.runs(FunctionRunFilter::default()).await,
        ["r3", "r2", "r1"]
    );
}

#[tokio::test]
async fn where_one_dead_letter_is_not_there_none_is_touched() {
    let remembers = Remembers::new();
    let store = &remembers.store;
    remembers
        .advance(Progress {
            dead: vec![letter("1", "1")],
            ..Progress::default()
        })
        .await;
    let ids = || Letters::These(vec!["1".to_owned(), "none".to_owned()]);
    let missing = Err("none".to_owned());
    assert_eq!(store.ask_letters(ids()).await.unwrap(), missing);
    assert_eq!(store.discard_letters(ids()).await.unwrap(), missing);
    assert_eq!(remembers.letters().await, [("1".to_owned(), 4, false)]);
    assert_eq!(remembers.load().await.revision, 0);
}

#[tokio::test]
async fn an_event_is_given_up_on_once() {
    let remembers = Remembers::new();
    let dies = async |letter: DeadLetter| {
        let dead = vec![letter];
        let progress = Progress {
            dead,
            ..Progress::default()
        };
        remembers.advance(progress).await;
    };
    dies(letter("1", "t")).await;
    // What is recorded twice is there once.
    dies(letter("1", "t")).await;
    assert_eq!(remembers.letters().await, [("1".to_owned(), 4, false)]);
    // It came again, as by a replay.
    dies(letter("2", "t")).await;
    assert_eq!(remembers.letters().await, [("2".to_owned(), 8, false)]);
    // Moments of a schedule have no token.
    dies(letter("3", "")).await;
    dies(letter("4", "")).await;
    assert_eq!(remembers.letters().await.len(), 3);
}

#[tokio::test]
async fn dead_letters_and_runs_are_listed_by_pages() {
    let remembers = Remembers::new();
    let store = &remembers.store;
    let ids = ["1", "2", "3"];
    remembers
        .advance(Progress {
            dead: ids.map(|id| letter(id, id)).to_vec(),
            runs: ids.map(|id| run(id, (id == "2").then_some("e"))).to_vec(),
            ..Progress::default()
        })
        .await;
    let other = FunctionRun {
        cause: "command line".to_owned(),
        app: String::new(),
        function: "other".to_owned(),
        ..run("4", None)
    };
    store.record(vec![other]).await.unwrap();
    let filter = LetterFilter {
        trigger: Some(T.to_owned()),
        before: Some("3".to_owned()),
        limit: 1,
    };
    let page = store.dead_letters(filter).await.unwrap();
    assert_eq!((page.len(), page[0].id.as_str()), (1, "2"));
    let of_other = LetterFilter {
        trigger: Some("other".to_owned()),
        before: None,
        limit: 10,
    };
    assert_eq!(store.dead_letters(of_other).await.unwrap(), []);

    let none = FunctionRunFilter::default;
    assert_eq!(remembers.runs(none()).await, ["4", "3", "2", "1"]);
    let some = |text: &str| Some(text.to_owned());
    let filters = [
        (
            FunctionRunFilter {
                app: some("billing"),
                ..none()
            },
            vec!["3", "2", "1"],
        ),
        (
            FunctionRunFilter {
                function: some("other"),
                ..none()
            },
            vec!["4"],
        ),
        (
            FunctionRunFilter {
                trigger: some(T),
                before: some("3"),
                ..none()
            },
            vec!["2", "1"],
        ),
        (
            FunctionRunFilter {
                failed: true,
                ..none()
            },
            vec!["2"],
        ),
    ];
    for (filter, expected) in filters {
        assert_eq!(remembers.runs(filter.clone()).await, expected, "{filter:?}");
    }
    assert!(store.function_run("none").await.unwrap().is_none());
}

#[tokio::test]
async fn of_each_function_the_last_ten_thousand_runs_are_kept() {
    let remembers = Remembers::new();
    let some = |from: usize, to: usize| -> Vec<FunctionRun> {
        (from..to).map(|i| run(&format!("{i:08}"), None)).collect()
    };
    let store = &remembers.store;
    let other = FunctionRun {
        function: "other".to_owned(),
        ..run("0", None)
    };
    store.record(vec![other]).await.unwrap();
    store.record(some(0, 9_999)).await.unwrap();
    // What is recorded twice is counted once.
    store.record(some(9_000, 9_999)).await.unwrap();
    let of_charge = || FunctionRunFilter {
        function: Some("charge".to_owned()),
        ..FunctionRunFilter::default()
    };
    assert_eq!(remembers.runs(of_charge()).await.len(), 9_999);
    store.record(some(9_999, 10_007)).await.unwrap();
    let kept = remembers.runs(of_charge()).await;
    assert_eq!(kept.len(), 10_000);
    assert_eq!(kept.last().map(String::as_str), Some("00000007"));
    assert_eq!(
        remembers.runs(FunctionRunFilter::default()).await.len(),
        10_001
    );
}

#[tokio::test]
async fn runs_are_forgotten_and_dead_letters_are_not() {
    let remembers = Remembers::new();
    let store = &remembers.store;
    let long_ago: DateTime<Utc> = Utc::now() - TimeDelta::days(100);
    let old = (0..10).map(|i| FunctionRun {
        started_at: long_ago,
        ..run(&format!("{i:08}"), None)
    });
    remembers
        .advance(Progress {
            dead: vec![letter("l", "t")],
            runs: old.chain([run("1", None)]).collect(),
            succeeded: 11,
            ..progress(0, 5)
        })
        .await;
    let before = Utc::now() - TimeDelta::days(90);
    store.forget(before, Vec::new()).await.unwrap();
    assert_eq!(remembers.runs(FunctionRunFilter::default()).await, ["1"]);
    assert_eq!(remembers.letters().await.len(), 1);
    assert_eq!(remembers.load().await.position, Some(at(5)));
    // How many there are is known again.
    let more = (0..10_000).map(|i| run(&format!("2{i:08}"), None));
    store.record(more.collect()).await.unwrap();
    assert_eq!(
        remembers.runs(FunctionRunFilter::default()).await.len(),
        10_000
    );
}

#[tokio::test]
async fn a_state_of_before_there_were_triggers_is_brought_forward() {
    let directory = TempDir::new().unwrap();
    {
        let db = Connection::open(directory.path().join("tributary.db")).unwrap();
        db.execute_batch(MIGRATIONS[0]).unwrap();
        db.pragma_update(None, "user_version", 1).unwrap();
        db.execute("INSERT INTO stopped_flow (name) VALUES ('shop')", [])
            .unwrap();
    }
    let store = Store::open(directory.path()).unwrap();
    store.advance(T, progress(0, 5)).await.unwrap();
    assert_eq!(store.load(T).await.unwrap().position, Some(at(5)));
    assert_eq!(store.stopped_flows().await.unwrap(), ["shop"]);
}
