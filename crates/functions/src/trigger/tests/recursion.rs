//! Triggers that set themselves off.

use super::fakes::{Done, FakeProcessor, World, selecting, until};
use crate::script::FailureKind;
use crate::trigger::Written;

#[tokio::test]
async fn a_trigger_that_sets_itself_off_without_end_is_suspended_with_an_explanation() {
    for (unordered, fails) in [(false, false), (true, false), (false, true), (true, true)] {
        let world = World::new();
        // Also what fails has written.
        let does = FakeProcessor::new(move |_| match fails {
            true => Done::Fails(FailureKind::Thrown),
            false => Done::Well,
        });
        *does.writes.lock().unwrap() = vec![Written::Some(1)];
        let mut trigger = selecting(world.trigger("app/t", does.clone()), |selection| {
            selection.unordered = unordered;
        });
        trigger.policy.retries = 0;
        world.host.apply(vec![trigger]).await;
        world.begins("app/t").await;
        world.source.inserts(0..1);
        let mut happened = 1;
        // Each run causes the next event.
        while world.ledger.is_suspended("app/t").is_none() {
            assert!(happened < 200, "it was not noticed");
            until("it ran, or is suspended", || {
                does.begun.lock().unwrap().len() == happened
                    || world.ledger.is_suspended("app/t").is_some()
            })
            .await;
            world.source.inserts(happened as i32..happened as i32 + 1);
            happened += 1;
        }
        let reason = world.ledger.is_suspended("app/t").unwrap();
        assert!(reason.starts_with("it sets itself off"), "{reason}");
        assert!(happened > 100);
        world.host.stop().await;
    }
}

#[tokio::test]
async fn a_busy_trigger_that_does_not_write_where_it_looks_goes_on() {
    let world = World::new();
    let does = FakeProcessor::well();
    world
        .host
        .apply(vec![world.trigger("app/t", does.clone())])
        .await;
    world.begins("app/t").await;
    world.source.inserts(0..500);
    world.is_through("app/t").await;
    assert_eq!(world.ledger.is_suspended("app/t"), None);
    world.host.stop().await;
}
