//! Dead letters that are tried again beside what happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tributary_flow::TriggerState;

use super::fakes::{Done, FakeProcessor, World, selecting, until};
use crate::script::FailureKind;
use crate::trigger::LiveState;

/// How many letters there are: they take so long together that nothing else waits for all of them.
const LETTERS: i32 = 16;

/// A trigger whose first events have all become dead letters, each of which takes long when it is tried again.
async fn with_letters(unordered: bool) -> (World, Arc<FakeProcessor>) {
    let world = World::new();
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let does = FakeProcessor::new(move |id| match id {
        LETTERS.. => Done::Well,
        _ if is_mended.load(Ordering::SeqCst) => Done::After(Duration::from_secs(3)),
        _ => Done::Fails(FailureKind::Thrown),
    });
    let mut trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
        selection.unordered = unordered;
    });
    trigger.policy.retries = 0;
    trigger.policy.concurrency = 4;
    world.host.apply(vec![trigger]).await;
    world.begins("app/t").await;
    world.source.inserts(0..LETTERS);
    world.is_through("app/t").await;
    mended.store(true, Ordering::SeqCst);
    does.begun.lock().unwrap().clear();
    world.ledger.ask_replay("app/t");
    until("letters are tried", || {
        !does.begun.lock().unwrap().is_empty()
    })
    .await;
    (world, does)
}

fn left(world: &World) -> usize {
    world.ledger.letters.lock().unwrap().len()
}

#[tokio::test]
async fn an_ordered_trigger_goes_on_between_letters_and_can_be_paused_there() {
    let (world, does) = with_letters(false).await;
    world.source.inserts(LETTERS..LETTERS + 3);
    until("events have run", || does.ran().contains(&(LETTERS + 2))).await;
    assert!(left(&world) > 1, "the letters went before");
    world.ledger.ask("app/t", TriggerState::Paused, None);
    until("it pauses", || {
        world.host.live()[0].state == LiveState::Paused
    })
    .await;
    assert!(left(&world) > 1, "a pause waits for all letters");
    // One after the other, whether event or letter.
    let mut ran = does.ran();
    ran.retain(|id| *id >= LETTERS);
    assert_eq!(ran, (LETTERS..LETTERS + 3).collect::<Vec<_>>());
    assert_eq!(does.most.load(Ordering::SeqCst), 1);
    world.host.stop().await;
}

#[tokio::test]
async fn an_unordered_trigger_has_letters_beside_events_within_its_limit() {
    let (world, does) = with_letters(true).await;
    let tried = || does.begun.lock().unwrap().len();
    until("two letters are tried at once", || {
        tried() == 2 && does.running.load(Ordering::SeqCst) == 2
    })
    .await;
    world.source.inserts(LETTERS..LETTERS + 50);
    until("events have run", || {
        let ran = does.ran();
        (LETTERS..LETTERS + 50).all(|id| ran.contains(&id))
    })
    .await;
    assert!(left(&world) > 1, "the letters went before");
    assert!(does.most.load(Ordering::SeqCst) <= 4);
    world.host.stop().await;
}
