//! What fails, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tributary_flow::{StartAt, TriggerState};
use tributary_model::{ClusterTime, Error, ErrorKind};

use super::fakes::{Done, FakeProcessor, World, lost_history, selecting, until};
use crate::script::FailureKind;
use crate::trigger::OnFailure;

#[tokio::test]
async fn what_fails_now_and_then_is_tried_again() {
    for unordered in [false, true] {
        let world = World::new();
        let tries = AtomicUsize::new(0);
        let does = FakeProcessor::new(move |id| match id {
            1 if tries.fetch_add(1, Ordering::SeqCst) < 2 => Done::Fails(FailureKind::Thrown),
            _ => Done::Well,
        });
        let trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
            selection.unordered = unordered;
        });
        world.host.apply(vec![trigger]).await;
        world.begins("app/t").await;
        world.source.inserts(0..3);
        world.is_through("app/t").await;
        let mut ran = does.ran();
        if unordered {
            ran.sort_unstable();
        }
        assert_eq!(ran, [0, 1, 2]);
        assert_eq!(world.ledger.counts.lock().unwrap()["app/t"], (3, 2));
        assert!(world.ledger.letters.lock().unwrap().is_empty());
        let attempts: Vec<u32> = {
            let runs = world.ledger.runs.lock().unwrap();
            runs.iter().map(|run| run.attempt).collect()
        };
        assert_eq!(attempts, [1, 2], "runs that fail are logged");
        world.host.stop().await;
    }
}

#[tokio::test]
async fn what_fails_every_time_becomes_a_dead_letter_and_the_rest_goes_on() {
    for unordered in [false, true] {
        let world = World::new();
        let mended = Arc::new(AtomicBool::new(false));
        let is_mended = Arc::clone(&mended);
        let does = FakeProcessor::new(move |id| match id {
            1 if !is_mended.load(Ordering::SeqCst) => Done::Fails(FailureKind::Thrown),
            _ => Done::Well,
        });
        let trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
            selection.unordered = unordered;
        });
        world.host.apply(vec![trigger]).await;
        world.begins("app/t").await;
        world.source.inserts(0..3);
        world.is_through("app/t").await;
        {
            let letters = world.ledger.letters.lock().unwrap();
            assert_eq!(letters.len(), 1);
            assert_eq!(letters[0].0.attempts, 3);
            assert_eq!(letters[0].0.error, "Error: it fails for 1");
        }
        // Tried again in vain, it stays, with one more attempt.
        world.ledger.ask_replay("app/t");
        until("it was tried", || {
            world.ledger.letters.lock().unwrap()[0].0.attempts == 4
        })
        .await;
        mended.store(true, Ordering::SeqCst);
        world.ledger.ask_replay("app/t");
        until("it is gone", || {
            world.ledger.letters.lock().unwrap().is_empty()
        })
        .await;
        assert!(does.ran().contains(&1));
        world.host.stop().await;
    }
}

#[tokio::test]
async fn what_would_fail_again_the_same_way_is_not_tried_again() {
    for kind in [FailureKind::NotLoaded, FailureKind::BadResult] {
        let world = World::new();
        let does = FakeProcessor::new(move |_| Done::Fails(kind));
        world
            .host
            .apply(vec![world.trigger("app/t", does.clone())])
            .await;
        world.begins("app/t").await;
        world.source.inserts(0..1);
        world.is_through("app/t").await;
        assert_eq!(*does.begun.lock().unwrap(), [0]);
        assert_eq!(world.ledger.letters.lock().unwrap()[0].0.attempts, 1);
        world.host.stop().await;
    }
}

#[tokio::test]
async fn a_trigger_that_is_to_be_suspended_waits_in_front_of_what_failed() {
    for unordered in [false, true] {
        let world = World::new();
        let mended = Arc::new(AtomicBool::new(false));
        let is_mended = Arc::clone(&mended);
        let does = FakeProcessor::new(move |id| match id {
            1 if !is_mended.load(Ordering::SeqCst) => Done::Fails(FailureKind::Thrown),
            _ => Done::Well,
        });
        let mut trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
            selection.unordered = unordered;
        });
        trigger.policy.on_failure = OnFailure::Suspend;
        world.host.apply(vec![trigger]).await;
        world.begins("app/t").await;
        world.source.inserts(0..3);
        until("it is suspended", || {
            world.ledger.is_suspended("app/t").is_some()
        })
        .await;
        let reason = world.ledger.is_suspended("app/t").unwrap();
        assert_eq!(reason, "its function failed 3 times: Error: it fails for 1");
        mended.store(true, Ordering::SeqCst);
        world.ledger.ask("app/t", TriggerState::Running, None);
        world.is_through("app/t").await;
        let mut ran = does.ran();
        ran.sort_unstable();
        assert_eq!(ran, [0, 1, 2]);
        world.host.stop().await;
    }
}

#[tokio::test]
async fn a_suspended_trigger_resumes_by_itself_where_it_is_to() {
    let world = World::new();
    let tries = AtomicUsize::new(0);
    let does = FakeProcessor::new(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0..3 => Done::Fails(FailureKind::Thrown),
        _ => Done::Well,
    });
    let mut trigger = world.trigger("app/t", does.clone());
    trigger.policy.on_failure = OnFailure::Suspend;
    trigger.policy.auto_resume = Some(Duration::from_millis(50));
    world.host.apply(vec![trigger]).await;
    world.begins("app/t").await;
    world.source.inserts(0..1);
    world.is_through("app/t").await;
    assert_eq!(does.ran(), [0]);
    world.host.stop().await;
}

#[tokio::test]
async fn a_source_that_is_away_is_waited_for() {
    let world = World::new();
    let away = Error::new(ErrorKind::Unreachable, "nobody answers");
    world.source.fails.lock().unwrap().push(away);
    let does = FakeProcessor::well();
    world
        .host
        .apply(vec![world.trigger("app/t", does.clone())])
        .await;
    world.begins("app/t").await;
    world.source.inserts(0..2);
    world.is_through("app/t").await;
    assert_eq!(does.ran(), [0, 1]);
    world.host.stop().await;
}

#[tokio::test]
async fn a_trigger_whose_place_is_not_known_is_suspended_or_goes_on_with_the_present() {
    let other = || Error::new(ErrorKind::OtherSource, "the source does not know the event");
    for (tolerates, error) in [
        (false, lost_history()),
        (true, lost_history()),
        (false, other()),
        (true, other()),
    ] {
        let world = World::new();
        let does = FakeProcessor::well();
        let trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
            selection.tolerate_resume_errors = tolerates;
        });
        world.source.fails.lock().unwrap().push(error);
        world.host.apply(vec![trigger]).await;
        if tolerates {
            until("it follows again", || {
                world.source.followed.lock().unwrap().len() == 2
            })
            .await;
            world.source.inserts(0..1);
            until("it goes on", || does.ran() == [0]).await;
        } else {
            until("it is suspended", || {
                world.ledger.is_suspended("app/t").is_some()
            })
            .await;
            let reason = world.ledger.is_suspended("app/t").unwrap();
            assert!(
                reason.contains("tributary trigger replay app/t --from"),
                "{reason}"
            );
        }
        world.host.stop().await;
    }
}

#[tokio::test]
async fn a_trigger_that_cannot_begin_where_it_was_asked_to_stays_where_it_was() {
    for tolerates in [false, true] {
        let world = World::new();
        let does = FakeProcessor::well();
        let trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
            selection.tolerate_resume_errors = tolerates;
        });
        world.host.apply(vec![trigger]).await;
        world.begins("app/t").await;
        world.source.inserts(0..3);
        world.is_through("app/t").await;
        let position = world.ledger.record("app/t").position.unwrap();

        *world.source.oldest.lock().unwrap() = Some(ClusterTime::new(1_002, 0));
        let from = StartAt::Time(chrono::DateTime::from_timestamp(1_000, 0).unwrap());
        world.ledger.ask("app/t", TriggerState::Running, Some(from));
        if tolerates {
            until("the request is gone", || {
                world.ledger.record("app/t").from.is_none()
            })
            .await;
        } else {
            until("it is suspended", || {
                world.ledger.is_suspended("app/t").is_some()
            })
            .await;
            let reason = world.ledger.is_suspended("app/t").unwrap();
            assert!(
                reason.contains("cannot begin where it was asked to")
                    && reason.contains("since 1970-01-01T00:16:42Z"),
                "{reason}"
            );
            let record = world.ledger.record("app/t");
            assert_eq!((record.from, record.position), (None, Some(position)));
            world.ledger.ask("app/t", TriggerState::Running, None);
        }
        world.source.inserts(3..4);
        world.is_through("app/t").await;
        assert_eq!(does.ran(), [0, 1, 2, 3]);
        assert_eq!(world.ledger.is_suspended("app/t"), None);
        world.host.stop().await;
    }
}

#[tokio::test]
async fn runs_that_end_one_another_are_tried_again_one_at_a_time() {
    let world = World::new();
    let does = FakeProcessor::new(|_| Done::NeedsAll);
    let trigger = world.trigger("app/t", does.clone());
    let mut trigger = selecting(trigger, |selection| selection.unordered = true);
    trigger.policy.retries = 0;
    world.host.apply(vec![trigger]).await;
    world.begins("app/t").await;
    world.source.inserts(0..20);
    world.is_through("app/t").await;
    assert!(world.ledger.letters.lock().unwrap().is_empty());
    let mut ran = does.ran();
    ran.sort_unstable();
    assert_eq!(ran, (0..20).collect::<Vec<_>>());
    world.host.stop().await;
}
