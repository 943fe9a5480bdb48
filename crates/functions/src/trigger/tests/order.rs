//! What runs when, and what is remembered of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tributary_flow::{StartAt, TriggerState};

use super::fakes::{Done, FakeProcessor, FakeSource, World, selecting, until};
use crate::script::FailureKind;

#[tokio::test]
async fn an_ordered_trigger_runs_one_event_after_the_other() {
    let world = World::new();
    let does = FakeProcessor::new(|_| Done::After(Duration::from_millis(1)));
    let trigger = world.trigger("app/t", does.clone());
    world.host.apply(vec![trigger]).await;
    world.begins("app/t").await;
    world.source.inserts(0..50);
    world.is_through("app/t").await;
    assert_eq!(does.ran(), (0..50).collect::<Vec<_>>());
    assert_eq!(does.most.load(Ordering::SeqCst), 1);
    assert_eq!(world.ledger.counts.lock().unwrap()["app/t"], (50, 0));
    world.host.stop().await;
}

#[tokio::test]
async fn an_unordered_trigger_runs_events_side_by_side_within_its_limit() {
    let world = World::new();
    let does = FakeProcessor::new(|_| Done::After(Duration::from_millis(20)));
    let trigger = world.trigger("app/t", does.clone());
    let mut trigger = selecting(trigger, |selection| selection.unordered = true);
    trigger.policy.concurrency = 5;
    world.host.apply(vec![trigger]).await;
    world.begins("app/t").await;
    world.source.inserts(0..40);
    world.is_through("app/t").await;
    let mut ran = does.ran();
    ran.sort_unstable();
    assert_eq!(ran, (0..40).collect::<Vec<_>>());
    assert_eq!(does.most.load(Ordering::SeqCst), 5);
    world.host.stop().await;
}

#[tokio::test]
async fn an_unordered_trigger_begins_no_more_bytes_than_it_has_room_for() {
    for (bytes, most) in [(0, 1), (3 * FakeSource::event_bytes(), 3)] {
        let world = World::new();
        let does = FakeProcessor::new(|_| Done::After(Duration::from_millis(20)));
        let trigger = world.trigger("app/t", does.clone());
        let mut trigger = selecting(trigger, |selection| selection.unordered = true);
        trigger.policy.bytes_in_flight = bytes;
        world.host.apply(vec![trigger]).await;
        world.begins("app/t").await;
        world.source.inserts(0..20);
        world.is_through("app/t").await;
        assert_eq!(does.ran().len(), 20);
        assert_eq!(does.most.load(Ordering::SeqCst), most);
        world.host.stop().await;
    }
}

#[tokio::test]
async fn an_ordered_trigger_passes_nothing_that_has_not_run() {
    let world = World::new();
    let does = FakeProcessor::new(|id| match id {
        7 => Done::Never,
        _ => Done::Well,
    });
    world
        .host
        .apply(vec![world.trigger("app/t", does.clone())])
        .await;
    world.begins("app/t").await;
    world.source.inserts(0..20);
    until("the seventh begins", || {
        does.begun.lock().unwrap().contains(&7)
    })
    .await;
    // The process ends here, and the next does not hang.
    let world = world.killed();
    let again = FakeProcessor::well();
    world
        .host
        .apply(vec![world.trigger("app/t", again.clone())])
        .await;
    world.is_through("app/t").await;
    let ran = again.ran();
    let first = ran[0];
    assert!(first <= 7, "{first} was begun with");
    assert_eq!(ran, (first..20).collect::<Vec<_>>());
    world.host.stop().await;
}

#[tokio::test]
async fn an_unordered_trigger_repeats_only_what_was_in_flight() {
    let world = World::new();
    let does = FakeProcessor::new(|id| match id {
        3 | 11 => Done::Never,
        _ => Done::Well,
    });
    let of = |world: &World, does: &Arc<FakeProcessor>| {
        let trigger = world.trigger("app/t", does.clone());
        selecting(trigger, |selection| selection.unordered = true)
    };
    world.host.apply(vec![of(&world, &does)]).await;
    world.begins("app/t").await;
    world.source.inserts(0..30);
    until("all but two have ended and that is recorded", || {
        let counts = world.ledger.counts.lock().unwrap().get("app/t").copied();
        counts == Some((28, 0)) && world.ledger.record("app/t").unfinished.len() == 2
    })
    .await;
    let world = world.killed();
    let again = FakeProcessor::well();
    world.host.apply(vec![of(&world, &again)]).await;
    world.is_through("app/t").await;
    let mut ran = again.ran();
    ran.sort_unstable();
    assert_eq!(ran, [3, 11]);
    world.source.inserts(30..31);
    until("it goes on", || again.ran().contains(&30)).await;
    world.host.stop().await;
}

/// Ends a host whose runs do not end, and has the next run what they were for.
async fn ends_what_does_not_end(unordered: bool) {
    let world = World::new();
    let does = FakeProcessor::new(|_| Done::Never);
    let of = |world: &World, does: &Arc<FakeProcessor>| {
        let trigger = world.trigger("app/t", does.clone());
        selecting(trigger, |selection| selection.unordered = unordered)
    };
    world.host.apply(vec![of(&world, &does)]).await;
    world.begins("app/t").await;
    world.source.inserts(0..2);
    until("it has begun", || !does.begun.lock().unwrap().is_empty()).await;
    let begun = std::time::Instant::now();
    world.host.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(60));
    let world = world.killed();
    let again = FakeProcessor::well();
    world.host.apply(vec![of(&world, &again)]).await;
    until("both ran", || again.ran().len() == 2).await;
    world.host.stop().await;
}

#[tokio::test]
async fn what_does_not_end_does_not_hold_up_the_end() {
    tokio::join!(ends_what_does_not_end(false), ends_what_does_not_end(true));
}

#[tokio::test]
async fn what_happened_before_a_trigger_was_there_is_not_its() {
    let world = World::new();
    world.source.inserts(0..3);
    let does = FakeProcessor::well();
    world
        .host
        .apply(vec![world.trigger("app/t", does.clone())])
        .await;
    world.begins("app/t").await;
    world.source.inserts(3..5);
    world.is_through("app/t").await;
    assert_eq!(does.ran(), [3, 4]);
    world.host.stop().await;
}

#[tokio::test]
async fn a_paused_trigger_catches_up_when_it_is_resumed_unless_it_skips_that() {
    for skips in [false, true] {
        let world = World::new();
        let does = FakeProcessor::well();
        let trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
            selection.skip_catchup = skips;
        });
        world.host.apply(vec![trigger]).await;
        world.begins("app/t").await;
        world.source.inserts(0..2);
        world.is_through("app/t").await;
        world.ledger.ask("app/t", TriggerState::Paused, None);
        until("it pauses", || {
            world.host.live()[0].state == crate::trigger::LiveState::Paused
                && (!skips || world.ledger.record("app/t").from == Some(StartAt::Now))
        })
        .await;
        world.source.inserts(2..4);
        assert_eq!(does.ran(), [0, 1]);
        world.ledger.ask("app/t", TriggerState::Running, None);
        until("it runs", || {
            world.host.live()[0].state == crate::trigger::LiveState::Running
                && world.ledger.record("app/t").from.is_none()
        })
        .await;
        world.source.inserts(4..5);
        until("it goes on", || does.ran().contains(&4)).await;
        match skips {
            true => assert_eq!(does.ran(), [0, 1, 4]),
            false => assert_eq!(does.ran(), [0, 1, 2, 3, 4]),
        }
        world.host.stop().await;
    }
}

#[tokio::test]
async fn a_replay_begins_at_the_time_it_is_asked_for() {
    let world = World::new();
    let does = FakeProcessor::well();
    world
        .host
        .apply(vec![world.trigger("app/t", does.clone())])
        .await;
    world.begins("app/t").await;
    world.source.inserts(0..6);
    world.is_through("app/t").await;
    // Events are a second apart, the first at 1001.
    let from = chrono::DateTime::from_timestamp(1004, 0).unwrap();
    world
        .ledger
        .ask("app/t", TriggerState::Running, Some(StartAt::Time(from)));
    until("they run again", || does.ran().len() == 9).await;
    world.is_through("app/t").await;
    assert_eq!(does.ran(), [0, 1, 2, 3, 4, 5, 3, 4, 5]);
    world.host.stop().await;
}

#[tokio::test]
async fn what_is_applied_again_unchanged_goes_on() {
    let world = World::new();
    let does = FakeProcessor::well();
    let trigger = world.trigger("app/t", does.clone());
    world.host.apply(vec![trigger.clone()]).await;
    world.begins("app/t").await;
    until("it follows", || {
        !world.source.followed.lock().unwrap().is_empty()
    })
    .await;
    world.host.apply(vec![trigger.clone()]).await;
    world.source.inserts(0..1);
    until("it ran", || does.ran() == [0]).await;
    assert_eq!(world.source.followed.lock().unwrap().len(), 1);
    // Another function: what was there ends, and the new one goes on behind it.
    let other = FakeProcessor::well();
    let mut changed = world.trigger("app/t", other.clone());
    changed.fingerprint = 1;
    world.host.apply(vec![changed]).await;
    world.source.inserts(1..2);
    until("the other ran", || other.ran() == [1]).await;
    assert_eq!(does.ran(), [0]);
    world.host.apply(Vec::new()).await;
    assert!(world.host.live().is_empty());
}

/// Kills hosts now and then while events happen and fail now and then, and answers what ran, in order.
async fn with_kills(unordered: bool, kills: Vec<u8>, failing: Vec<u8>) -> (Vec<i32>, usize) {
    let mut world = World::new();
    let fails: Arc<Mutex<Vec<u8>>> = Arc::new(Mutex::new(failing));
    let effects: Arc<Mutex<Vec<i32>>> = Arc::default();
    let make = |world: &World| {
        let (fails, effects) = (Arc::clone(&fails), Arc::clone(&effects));
        let dead = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&dead);
        let does = FakeProcessor::new(move |id| {
            // Held until the effect is there, so that none comes about behind the kill.
            let mut effects = effects.lock().unwrap();
            if gone.load(Ordering::SeqCst) {
                return Done::Never;
            }
            let mut fails = fails.lock().unwrap();
            if fails.last() == Some(&(id as u8)) {
                fails.pop();
                return Done::Fails(FailureKind::Thrown);
            }
            effects.push(id);
            Done::Well
        });
        let trigger = selecting(world.trigger("app/t", does), |selection| {
            selection.unordered = unordered;
        });
        (trigger, dead)
    };
    let (trigger, mut dead) = make(&world);
    world.host.apply(vec![trigger]).await;
    world.begins("app/t").await;
    let mut happened = 0;
    for events in &kills {
        let more = i32::from(*events);
        world.source.inserts(happened..happened + more);
        happened += more;
        let at_least = effects.lock().unwrap().len() + usize::from(*events) / 2;
        until("some ran", || effects.lock().unwrap().len() >= at_least).await;
        // A process that is killed does nothing more.
        {
            let _nothing_is_done = effects.lock().unwrap();
            dead.store(true, Ordering::SeqCst);
        }
        world = world.killed();
        let (trigger, next) = make(&world);
        dead = next;
        world.host.apply(vec![trigger]).await;
    }
    world.is_through("app/t").await;
    world.host.stop().await;
    let letters = world.ledger.letters.lock().unwrap().len();
    let effects = effects.lock().unwrap().clone();
    (effects, letters + happened as usize)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_event_has_its_effect_and_ordered_ones_in_order(
        kills in prop::collection::vec(1_u8..30, 1..4),
        // Which ones fail, and how often: with three times it would be a dead letter.
        failing in prop::collection::vec(0_u8..60, 0..4)
            .prop_filter("one is given up on", |ids| ids.len() < 3 || ids.iter().any(|id| *id != ids[0])),
        unordered: bool,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (effects, happened) = runtime.block_on(with_kills(unordered, kills, failing));
        let mut first = Vec::new();
        for id in &effects {
            if !first.contains(id) {
                first.push(*id);
            }
        }
        let all: Vec<i32> = (0..happened as i32).collect();
        if unordered {
            first.sort_unstable();
        } else {
            // What is repeated is repeated in order, too.
            let steps = effects.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
            prop_assert_eq!(steps, 0, "{:?}", effects);
        }
        prop_assert_eq!(first, all);
    }
}
