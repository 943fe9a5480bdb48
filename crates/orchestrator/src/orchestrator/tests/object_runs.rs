//! Runs for objects: none is lost, and programs are told of all of them.

use serde_json::Value;

use super::*;

fn object(id: &str) -> CreatedObject {
    CreatedObject {
        id: id.to_owned(),
        bucket: Some("b".to_owned()),
        key: id.to_owned(),
        size: None,
        at: Utc::now(),
    }
}

async fn take(orchestrator: &Orchestrator, ids: &[&str]) -> Run {
    let plan = orchestrator.plan();
    let request = runs::request("j", &plan.jobs["j"]);
    let objects = ids.iter().map(|id| object(id)).collect();
    let store = &orchestrator.store;
    store
        .enqueue_for(request, objects)
        .await
        .unwrap()
        .unwrap()
        .run
}

async fn objects_of(orchestrator: &Orchestrator, run: &Run) -> Vec<String> {
    let objects = orchestrator.store.objects(&run.id).await.unwrap();
    objects.into_iter().map(|object| object.id).collect()
}

fn cause(count: u64, first: &str) -> Cause {
    Cause::Objects {
        count,
        first: first.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_come_while_the_job_runs_wait_where_other_runs_are_skipped() {
    let text = job("j", "    overlap: skip\n", &[("x", "", "ok")]);
    let world = World::new(&format!("jobs:\n{text}"));
    let orchestrator = world.orchestrator().unwrap();
    let first = take(&orchestrator, &["1"]).await;
    orchestrator.store.begin_run(&first.id).await.unwrap();
    let second = take(&orchestrator, &["2"]).await;
    assert_eq!(second.state, RunState::Queued);
    assert_eq!(take(&orchestrator, &["3"]).await.id, second.id);
    assert_eq!(objects_of(&orchestrator, &second).await, ["2", "3"]);
    let asked = orchestrator.run_job("j", "me").await.unwrap();
    assert_eq!(asked.state, RunState::Skipped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_the_place_of_another_takes_its_objects_over() {
    let text = job("j", "    overlap: replace\n", &[("x", "", "ok")]);
    let world = World::new(&format!("jobs:\n{text}"));
    let orchestrator = world.orchestrator().unwrap();
    let first = take(&orchestrator, &["1", "2"]).await;
    orchestrator.store.begin_run(&first.id).await.unwrap();
    let second = take(&orchestrator, &["3"]).await;
    assert_eq!(second.cause, cause(3, "b/3"));
    assert_eq!(objects_of(&orchestrator, &second).await, ["1", "2", "3"]);
    assert_eq!(objects_of(&orchestrator, &first).await, [""; 0]);
    // Also where that is for no objects itself.
    let asked = orchestrator.run_job("j", "me").await.unwrap();
    assert_eq!(objects_of(&orchestrator, &asked).await, ["1", "2", "3"]);
    // What somebody has cancelled is not brought back.
    orchestrator.cancel_run(&asked.id, "me").await.unwrap();
    let last = take(&orchestrator, &["4"]).await;
    assert_eq!(last.cause, cause(1, "b/4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_for_a_job_that_is_gone_are_not_taken() {
    let world = World::new("");
    let orchestrator = world.orchestrator().unwrap();
    let taker = ForJob {
        orchestrator: &orchestrator,
        job: "gone",
    };
    let error = taker.take(vec![object("1")]).await.unwrap_err();
    assert!(error.kind().is_transient(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_finds_all_objects_in_a_file_and_few_in_a_variable() {
    let script = "cp \"$TRIBUTARY_OBJECTS_FILE\" file; printenv TRIBUTARY_OBJECTS > variable; \
                  echo \"$TRIBUTARY_OBJECTS_FILE\" > name";
    let world = World::new(&format!(
        "jobs: {{ j: {{ steps: {{ x: {{ command: {{ run: [sh, -c, '{script}'] }} }} }} }} }}\n"
    ));
    let read = |name: &str| std::fs::read_to_string(world.directory.path().join(name)).unwrap();
    let running = world.start();
    let orchestrator = &running.orchestrator;
    let many: Vec<String> = (0..3000).map(|id| format!("object-{id}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for ids in [many, vec!["one"]] {
        let run = take(orchestrator, &ids).await;
        let ended = running.ended(&run.id).await.run;
        assert_eq!(ended.state, RunState::Succeeded, "{ended:?}");
        let found: Vec<Value> = serde_json::from_str(&read("file")).unwrap();
        let found: Vec<&str> = found.iter().map(|o| o["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids);
        let expected = match ids.len() {
            1 => read("file"),
            _ => String::new(),
        };
        assert_eq!(read("variable").trim_end(), expected);
        let file = read("name");
        assert!(!Path::new(file.trim_end()).exists(), "{file} is left");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_runs_that_is_full_takes_objects_yet() {
    let world = World::new(&format!("jobs:\n{}", job("j", "", &[("x", "", "ok")])));
    let orchestrator = world.orchestrator().unwrap();
    let store = &orchestrator.store;
    let fill = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number LIMIT 1000) \
                INSERT INTO run (id, job, state, cause, queued_at) \
                SELECT n, 'j', 'queued', ?1, 0 FROM number";
    let by = "me".to_owned();
    let cause = serde_json::to_string(&Cause::Asked { by }).unwrap();
    let filled = store.transact(move |db| db.execute(fill, [cause])).await;
    assert_eq!(filled.unwrap(), 1000);
    let asked = orchestrator.run_job("j", "me").await.unwrap();
    assert_eq!(asked.state, RunState::Skipped);
    assert_eq!(take(&orchestrator, &["1"]).await.state, RunState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_run_whose_steps_became_others_are_those_of_another_run() {
    for waits in [false, true] {
        let of = |step: &str, script: &str| {
            let text = job("j", "    overlap: skip\n", &[(step, "", script)]);
            format!("jobs:\n{text}")
        };
        let world = World::new(&of("x", "hangs"));
        let running = world.start();
        let cut_short = take(&running.orchestrator, &["1", "2"]).await;
        running
            .until(async || (world.engine.calls("hangs") == 1).then_some(()))
            .await;
        let mut expected = vec!["1", "2"];
        if waits {
            take(&running.orchestrator, &["3"]).await;
            expected.push("3");
        }
        running.stop().await;

        world.write(&of("y", "ok"));
        let running = world.start();
        let ended = running.ended(&cut_short.id).await.run;
        assert_eq!(ended.state, RunState::Failed);
        let error = ended.error.unwrap();
        assert!(error.ends_with("another run is for its objects"), "{error}");
        let [other, _] = running.runs_of("j").await.try_into().unwrap();
        let other = running.ended(&other.id).await;
        assert_eq!(states(&other), [("y", RunState::Succeeded)]);
        assert_eq!(
            objects_of(&running.orchestrator, &other.run).await,
            expected
        );
        let count = expected.len() as u64;
        let first = if waits { "b/3" } else { "b/1" };
        assert_eq!(other.run.cause, cause(count, first));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_run_that_was_cancelled_are_not_taken_over() {
    let world = World::new(&format!("jobs:\n{}", job("j", "", &[("x", "", "ok")])));
    let orchestrator = world.orchestrator().unwrap();
    let store = &orchestrator.store;
    let run = take(&orchestrator, &["1"]).await;
    store.begin_run(&run.id).await.unwrap();
    orchestrator.cancel_run(&run.id, "me").await.unwrap();
    let request = runs::request("j", &orchestrator.plan().jobs["j"]);
    let anew = store.begin_anew(&run.id, Moved::default(), request);
    let (ended, other) = anew.await.unwrap();
    assert_eq!((ended.state, other), (RunState::Failed, None));
    assert_eq!(objects_of(&orchestrator, &run).await, ["1"]);
}
