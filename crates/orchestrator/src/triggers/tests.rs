//! What is told of triggers, and what can be asked of them.

use std::time::Duration;

use chrono::TimeDelta;
use tempfile::TempDir;
use tributary_flow::{DeadLetter, Progress, TriggerLedger};
use tributary_model::ClusterTime;

use super::*;

fn store() -> (Store, TempDir) {
    let directory = TempDir::new().unwrap();
    (Store::open(directory.path()).unwrap(), directory)
}

fn known(name: &str) -> KnownTrigger {
    KnownTrigger {
        name: name.to_owned(),
        app: None,
        kind: TriggerKind::Database,
        function: "f".to_owned(),
        source: Some("shop".to_owned()),
        watches: "shop.orders".to_owned(),
        is_disabled: false,
        hides_arguments: false,
        next_at: None,
    }
}

#[tokio::test]
async fn what_is_known_and_what_is_remembered_is_listed() {
    let (store, _directory) = store();
    let disabled = KnownTrigger {
        is_disabled: true,
        ..known("disabled")
    };
    let soon = Utc::now() + TimeDelta::hours(1);
    let scheduled = |name| KnownTrigger {
        next_at: Some(soon),
        ..known(name)
    };
    let names = ["app/suspended", "new"].map(known);
    let triggers = names
        .into_iter()
        .chain([disabled, scheduled("paused"), scheduled("next")])
        .collect();
    let triggers = Triggers::new(triggers, store.clone());
    let suspended = Remains::Suspended {
        reason: "it failed".to_owned(),
    };
    store
        .set_state("app/suspended", u64::MAX, suspended, None)
        .await
        .unwrap();
    triggers.pause("paused").await.unwrap();
    let progress = Progress {
        position: Some(Position::at(ClusterTime::new(1_760_000_000, 1))),
        succeeded: 3,
        ..Progress::default()
    };
    store.advance("old/gone", progress).await.unwrap();

    let list = triggers.list().await.unwrap();
    let states: Vec<_> = list
        .iter()
        .map(|trigger| (trigger.name.as_str(), trigger.state))
        .collect();
    assert_eq!(
        states,
        [
            ("app/suspended", TriggerState::Suspended),
            ("disabled", TriggerState::Disabled),
            ("new", TriggerState::Running),
            ("next", TriggerState::Running),
            ("old/gone", TriggerState::Gone),
            ("paused", TriggerState::Paused),
        ]
    );
    assert_eq!(list[0].reason.as_deref(), Some("it failed"));
    assert_eq!(list[3].next_at, Some(soon));
    assert_eq!(list[5].next_at, None);
    let gone = &list[4];
    assert_eq!((gone.succeeded, gone.app.as_deref()), (3, Some("old")));
    assert_eq!(gone.position_at, DateTime::from_timestamp(1_760_000_000, 0));
    // Nothing of it runs here.
    assert_eq!((list[2].queued, list[2].lag_seconds), (None, None));
}

#[tokio::test]
async fn what_runs_here_is_told_with_what_it_is_doing() {
    let (store, _directory) = store();
    let activity = Activity {
        failure: Some("the source cannot be reached".to_owned()),
        queued: 7,
        in_flight: 2,
        lag: Some(Duration::from_millis(1500)),
        ..Activity::default()
    };
    let status = |remains| {
        let memory = Remembered {
            name: "t".to_owned(),
            record: tributary_flow::TriggerRecord {
                state: remains,
                ..Default::default()
            },
            succeeded: 0,
            failed: 0,
            dead_letters: 0,
            last_run_at: None,
            last_error: None,
        };
        status(&known("t"), Some(&activity), Some(&memory))
    };
    let failed = status(Remains::Running);
    assert_eq!(failed.state, TriggerState::Failed);
    assert_eq!(failed.reason, activity.failure);
    assert_eq!((failed.queued, failed.in_flight), (Some(7), Some(2)));
    assert_eq!(failed.lag_seconds, Some(1.5));
    // What is wanted of it says more.
    assert_eq!(status(Remains::Paused).state, TriggerState::Paused);
    drop(store);
}

#[tokio::test]
async fn what_cannot_be_asked_of_a_trigger_is_told() {
    let (store, _directory) = store();
    let disabled = KnownTrigger {
        is_disabled: true,
        ..known("disabled")
    };
    let triggers = Triggers::new(vec![known("t"), disabled], store);
    let past = Utc::now() - TimeDelta::hours(1);
    let nobody = [
        triggers.show("none").await,
        triggers.pause("none").await,
        triggers.resume("none").await,
        triggers.replay("none", past).await,
    ];
    for result in nobody {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let disabled = [
        triggers.resume("disabled").await,
        triggers.replay("disabled", past).await,
    ];
    for result in disabled {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
    }
    let future = Utc::now() + TimeDelta::hours(1);
    let error = triggers.replay("t", future).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let error = triggers.dead_letter("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let these = Letters::These(vec!["none".to_owned()]);
    let error = triggers.replay_dead_letters(these).await.unwrap_err();
    assert!(error.to_string().contains("dead letter none"), "{error}");
    let error = triggers.function_run("none").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let replayed = triggers.replay("t", past).await.unwrap();
    assert_eq!(replayed.replays_from, Some(past));
    assert_eq!(replayed.state, TriggerState::Running);
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_its_arguments() {
    let (store, _directory) = store();
    let bury = async |id: &str, arguments: Vec<u8>| {
        let letter = DeadLetter {
            id: id.to_owned(),
            trigger: "t".to_owned(),
            token: id.to_owned(),
            arguments: arguments.into(),
            error: "it failed".to_owned(),
            attempts: 1,
            at: Utc::now(),
        };
        let dead = vec![letter];
        let progress = Progress {
            dead,
            ..Progress::default()
        };
        store.advance("t", progress).await.unwrap();
    };
    let text = r#"{"v":[{"_id":{"$oid":"0123456789abcdef01234567"},"n":{"$numberLong":"5"}},"x"]}"#;
    bury("good", extjson::parse_document(text).unwrap()).await;
    bury("none", extjson::parse_document(r#"{"v":[]}"#).unwrap()).await;
    bury("bad", vec![1, 2, 3]).await;
    let triggers = Triggers::new(Vec::new(), store.clone());
    let good = triggers.dead_letter("good").await.unwrap();
    let first = serde_json::json!({ "_id": { "$oid": "0123456789abcdef01234567" }, "n": 5 });
    assert_eq!(good.arguments, [first, "x".into()]);
    let none = triggers.dead_letter("none").await.unwrap();
    assert!(none.arguments.is_empty());
    let error = triggers.dead_letter("bad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);

    let hiding = KnownTrigger {
        hides_arguments: true,
        ..known("t")
    };
    let triggers = Triggers::new(vec![hiding], store.clone());
    let hidden = triggers.dead_letter("good").await.unwrap();
    assert!(hidden.arguments.is_empty());
    // It can be tried again all the same.
    let these = Letters::These(vec!["good".to_owned()]);
    assert_eq!(triggers.replay_dead_letters(these).await.unwrap(), 1);
    let (_, kept) = store.dead_letter("good").await.unwrap().unwrap();
    assert_eq!(kept, extjson::parse_document(text).unwrap());
}
