//! Runs that are recorded as running, and that nobody carries through.

use rusqlite::Connection;

use super::*;

impl World {
    fn database(&self) -> Connection {
        let state = Plan::read(&self.file()).unwrap().state;
        let database = Connection::open(state.join("tributary.db")).unwrap();
        database.busy_timeout(Duration::from_secs(60)).unwrap();
        database
    }

    /// Has it fail to record changes of a table, or of some of its rows, until [`Self::records_again`].
    fn records_no(&self, changes: &str) {
        let refuse = format!(
            "CREATE TRIGGER refuse BEFORE UPDATE ON {changes} \
             BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        );
        self.database().execute_batch(&refuse).unwrap();
    }

    fn records_again(&self) {
        let accept = "DROP TRIGGER refuse";
        self.database().execute_batch(accept).unwrap();
    }

    /// Records a run as one that is running.
    fn leave(&self, id: &str, job: &str, cancelled_by: Option<&str>) {
        let cause = Cause::Asked {
            by: "me".to_owned(),
        };
        let insert = "INSERT INTO run (id, job, state, cause, queued_at, started_at, cancelled_by) \
                      VALUES (?1, ?2, 'running', ?3, 0, 0, ?4)";
        let cause = serde_json::to_string(&cause).unwrap();
        self.database()
            .execute(insert, rusqlite::params![id, job, cause, cancelled_by])
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_left_while_tributary_runs_is_gone_on_with() {
    let world = World::new(&format!("jobs:\n{}", job("j", "", &[("x", "", "ok")])));
    let running = world.start();
    let control = &running.orchestrator;
    // One that has run says that what was left before the start has been looked for.
    let first = control.run_job("j", "me").await.unwrap();
    running.ended(&first.id).await;
    world.leave("0", "j", None);
    let behind = control.run_job("j", "me").await.unwrap();
    assert_eq!(running.ended("0").await.run.state, RunState::Succeeded);
    let behind = running.ended(&behind.id).await.run;
    assert_eq!(behind.state, RunState::Succeeded);
    assert_eq!(world.engine.calls("ok"), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_end_cannot_be_recorded_ends_when_it_can_be() {
    let world = World::new(&format!("jobs:\n{}", job("j", "", &[("x", "", "ok")])));
    let running = world.start();
    world.records_no("run WHEN NEW.ended_at IS NOT NULL");
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    running
        .until(async || {
            let steps = running.orchestrator.run(&run.id).await.unwrap().steps;
            (steps[0].state == RunState::Succeeded).then_some(())
        })
        .await;
    world.records_again();
    let ended = running.ended(&run.id).await;
    assert_eq!(ended.run.state, RunState::Succeeded);
    // What was done is not done again.
    assert_eq!(world.engine.calls("ok"), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_work_is_over_before_a_run_that_could_not_be_recorded_is_gone_on_with() {
    let steps = [("x", "", "moves 1"), ("y", "", "drains-once")];
    let world = World::new(&format!("jobs:\n{}", job("j", "", &steps)));
    let running = world.start();
    world.records_no("step WHEN NEW.name = 'x' AND NEW.ended_at IS NOT NULL");
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    running
        .until(async || world.engine.drained.is_cancelled().then_some(()))
        .await;
    world.records_again();
    let ended = running.ended(&run.id).await;
    assert_eq!(ended.run.state, RunState::Succeeded, "{ended:?}");
    assert_eq!(world.engine.calls("drains-once"), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_left_and_was_to_end_does_nothing_more() {
    let world = World::new(&format!("jobs:\n{}", job("j", "", &[("x", "", "ok")])));
    drop(world.orchestrator().unwrap());
    world.leave("0", "j", Some("you"));
    let running = world.start();
    let ended = running.ended("0").await.run;
    assert_eq!(ended.state, RunState::Cancelled);
    assert_eq!(ended.error.as_deref(), Some("cancelled by you"));
    assert_eq!(world.engine.calls("ok"), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_alone_goes_on_with_what_was_left_of_those_behind_it() {
    let text = format!(
        "jobs:\n{}{}{}{}",
        job("j", "", &[("x", "", "moves 1")]),
        job("k1", "    after: [j]\n", &[("x", "", "moves 2")]),
        job("k2", "    after: [k1]\n", &[("x", "", "moves 3")]),
        job("other", "", &[("x", "", "moves 4")]),
    );
    let world = World::new(&text);
    let orchestrator = world.orchestrator().unwrap();
    for (id, job) in [("0", "k1"), ("1", "k2"), ("2", "other")] {
        world.leave(id, job, None);
    }
    let stop = CancellationToken::new();
    let asked = orchestrator.ask("j", "me").await.unwrap().id;
    let runs = orchestrator.run_here(&asked, &stop);
    let run = tokio::time::timeout(Duration::from_secs(60), runs).await;
    assert_eq!(run.unwrap().unwrap().state, RunState::Succeeded);
    let calls = |what| world.engine.calls(what);
    assert_eq!([calls("moves 1"), calls("moves 2")], [1, 2]);
    // What nobody asks for waits for one who runs all.
    assert_eq!([calls("moves 3"), calls("moves 4")], [3, 0]);
}
