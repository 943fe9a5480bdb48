//! Triggers that run at moments.

use std::str::FromStr;

use chrono::{TimeDelta, Timelike, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use tributary_flow::{StartAt, TriggerRecord};

use super::fakes::{FakeProcessor, World, until};
use crate::trigger::{Occasion, Trigger};

fn scheduled(
    world: &World,
    does: &std::sync::Arc<FakeProcessor>,
    cron: Cron,
    skip: bool,
) -> Trigger {
    let mut trigger = world.trigger("app/t", does.clone());
    trigger.occasion = Occasion::Moment {
        cron: Box::new(cron),
        skip_catchup: skip,
    };
    trigger
}

#[tokio::test]
async fn a_schedule_runs_at_its_moments_and_remembers_them() {
    let world = World::new();
    let does = FakeProcessor::well();
    let cron = CronParser::builder()
        .seconds(Seconds::Required)
        .build()
        .parse("* * * * * *")
        .unwrap();
    world
        .host
        .apply(vec![scheduled(&world, &does, cron, false)])
        .await;
    until("it has begun", || {
        world.ledger.record("app/t").passed_to.is_some()
    })
    .await;
    let begun = world.ledger.record("app/t").passed_to.unwrap();
    until("it ran three times", || does.ran().len() >= 3).await;
    world.host.stop().await;
    let ran = does.ran().len() as i64;
    let passed = world.ledger.record("app/t").passed_to.unwrap();
    assert!(passed > begun && passed <= Utc::now());
    assert!((passed - begun).num_seconds() <= ran);
}

#[tokio::test]
async fn moments_that_passed_are_caught_up_on_unless_they_are_skipped() {
    for skips in [false, true] {
        let world = World::new();
        let does = FakeProcessor::well();
        let now = Utc::now();
        // Half an hour from now, and from any moment that passed: none comes meanwhile.
        let cron = format!("{} * * * *", (now.minute() + 30) % 60);
        let cron = Cron::from_str(&cron).unwrap();
        let hours = 3;
        let record = TriggerRecord {
            passed_to: Some(now - TimeDelta::hours(hours)),
            // As it is asked for while the trigger waits.
            from: skips.then_some(StartAt::Now),
            ..TriggerRecord::default()
        };
        world
            .ledger
            .records
            .lock()
            .unwrap()
            .insert("app/t".to_owned(), record);
        world
            .host
            .apply(vec![scheduled(&world, &does, cron, skips)])
            .await;
        let recent = now - TimeDelta::hours(1);
        until("it has passed them", || {
            let passed = world.ledger.record("app/t").passed_to;
            passed.is_some_and(|passed| passed > recent)
        })
        .await;
        world.host.stop().await;
        match skips {
            true => assert!(does.ran().is_empty()),
            false => assert_eq!(does.ran().len() as i64, hours),
        }
    }
}
