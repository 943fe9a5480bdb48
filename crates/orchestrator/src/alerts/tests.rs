//! What is told again after a restart, what is over, and who is told beside one that does not answer.

use async_trait::async_trait;
use tempfile::TempDir;
use tributary_flow::{HistoryWindow, Observer};
use tributary_model::{ClusterTime, DescribedTable, Namespace, Position};
use tributary_testkit::HttpReceiver;

use super::*;
use crate::config::{Flow, Overlap, Work};
use crate::engine::{Engine, Moved, Tell};
use crate::status::{Cause, FlowState, RunState};
use crate::store::Request;
use crate::watch::FlowWatch;

/// Tells nothing of its flows.
struct Silent;

#[async_trait]
impl Engine for Silent {
    async fn follow(&self, _: &Flow, _: Arc<dyn Observer>, stop: CancellationToken) -> Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    async fn work(&self, _: &Work, _: Arc<dyn Tell>, _: CancellationToken) -> Result<Moved> {
        Ok(Moved::default())
    }

    async fn tables(&self, _: &Flow) -> Result<Vec<DescribedTable>> {
        Ok(Vec::new())
    }

    async fn approve(&self, _: &Flow, _: &Namespace) -> Result<()> {
        Ok(())
    }
}

/// A process that looks at rules, and a clock that is put forward by hand.
struct World {
    _directory: TempDir,
    plan: Arc<Plan>,
    alerts: Arc<Alerts>,
    seen: Option<Seen>,
    now: Instant,
}

const RULES: &str = "\
sources: { s: { uri: 'mongodb://localhost/db' } }
lakes: { l: { path: lake } }
flows: { f: { from: s, to: l } }
jobs: { j: { steps: { x: { command: { run: [x] } } } } }
alerts:
  notify: { me: { stderr: true } }
  rules:
    runs: { when: run_failed }
    flows: { when: flow_failed }
    lag: { when: { lag_above: 5m } }
    quiet: { when: { no_data_for: 2h } }
    rescued: { when: { rescued_values: 10 } }
    oplog: { when: { oplog_window_below: 24h } }
";

const TABLE: &str = "flow f, table db.c";

impl World {
    /// One whose process before this one has told of these rules and subjects.
    async fn new(file: &str, told: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("tributary.yaml");
        std::fs::write(&path, file).unwrap();
        let plan = Plan::read(&path).unwrap();
        let store = Store::open(&plan.state).unwrap();
        let (notices, _) = broadcast::channel(100);
        let flows = Arc::new(Flows::new(Arc::new(Silent), notices.clone()));
        flows.become_these(&plan.flows, |_| false).await;
        let world = Self {
            _directory: directory,
            plan: Arc::new(plan),
            alerts: Arc::new(Alerts {
                store,
                flows,
                triggers: None,
                notices,
                // Longer than any test.
                delivery: Delivery::with_timeout(Duration::from_secs(600)).unwrap(),
                host: "h".to_owned(),
            }),
            seen: None,
            now: Instant::now(),
        };
        world.raise(told).await;
        world
    }

    async fn raise(&self, told: &[(&str, &str)]) {
        let raised = told.iter().map(|(rule, subject)| Raised {
            rule: (*rule).to_owned(),
            subject: (*subject).to_owned(),
            summary: "it is so".to_owned(),
            detail: None,
        });
        let telling = |rule: &crate::config::Rule| Telling {
            receivers: rule.notify.clone(),
            repeat: rule.repeat,
        };
        let rules = self.plan.rules.iter();
        let tellings = rules.map(|(name, rule)| (name.clone(), telling(rule)));
        let store = &self.alerts.store;
        store
            .raise(raised.collect(), tellings.collect(), "h".to_owned())
            .await
            .unwrap();
    }

    /// Looks for so long, and answers what fires then.
    async fn fires_after(&mut self, seconds: u64) -> Vec<(String, String)> {
        for _ in 0..=seconds {
            let looked = self.alerts.look(&self.plan, &mut self.seen, self.now);
            looked.await.unwrap();
            self.now += LOOK_EVERY;
        }
        let alerts = self.alerts.store.alerts().await.unwrap().into_iter();
        let mut firing: Vec<_> = alerts
            .filter(|alert| alert.recovered_at.is_none())
            .map(|alert| (alert.rule, alert.subject))
            .collect();
        firing.sort();
        firing
    }

    fn watch(&self) -> Arc<FlowWatch> {
        let (_, watch) = self.alerts.flows.watches().pop().unwrap();
        watch
    }

    async fn run_ends(&self, state: RunState) {
        let store = &self.alerts.store;
        let request = Request {
            job: "j".to_owned(),
            overlap: Overlap::Queue,
            steps: Vec::new(),
        };
        let cause = Cause::Asked {
            by: "me".to_owned(),
        };
        let run = store.enqueue(request, cause).await.unwrap().run;
        store.begin_run(&run.id).await.unwrap().unwrap();
        store
            .end_run(&run.id, state, None, Moved::default(), Vec::new())
            .await
            .unwrap();
    }

    /// How many messages each receiver has not been sent.
    async fn untold(&self, receiver: &str) -> usize {
        let alerts = self.alerts.store.alerts().await.unwrap();
        let untold = alerts.iter().flat_map(|alert| &alert.untold);
        untold.filter(|to| to.starts_with(receiver)).count()
    }
}

fn owned(told: &[(&str, &str)]) -> Vec<(String, String)> {
    let told = told.iter();
    told.map(|(rule, subject)| ((*rule).to_owned(), (*subject).to_owned()))
        .collect()
}

#[tokio::test]
async fn what_fired_before_a_restart_fires_on_while_its_flow_is_starting() {
    let told = [
        ("flows", "flow f"),
        ("lag", TABLE),
        ("oplog", "source s"),
        ("quiet", TABLE),
        ("rescued", TABLE),
    ];
    let mut world = World::new(RULES, &told).await;
    assert_eq!(world.fires_after(60).await, owned(&told));
    // It has never been over, so that it is not told again.
    assert_eq!(world.untold("me").await, told.len());
    let watch = world.watch();
    assert_eq!(watch.status().state, FlowState::Starting);

    let position = Position::at(ClusterTime::new(1, 1));
    watch.following(&Namespace::new("db", "c"), &position);
    // These are about a time before the restart too.
    let not_over = [("oplog", "source s"), ("quiet", TABLE), ("rescued", TABLE)];
    assert_eq!(world.fires_after(5).await, owned(&told));
    assert_eq!(world.fires_after(20).await, owned(&not_over));
    watch.remembers(HistoryWindow {
        oldest: ClusterTime::new(1, 1),
        newest: ClusterTime::new(90_000, 1),
    });
    assert_eq!(world.fires_after(20).await, owned(&not_over[1..]));
}

#[tokio::test]
async fn nothing_of_a_flow_is_over_because_the_flow_cannot_run() {
    let told = [("lag", TABLE)];
    let mut world = World::new(RULES, &told).await;
    let error = tributary_model::Error::new(tributary_model::ErrorKind::Unreachable, "it is down");
    world.watch().retries(Some(&error), Utc::now());
    let expected = [("flows", "flow f"), ("lag", TABLE)];
    assert_eq!(world.fires_after(60).await, owned(&expected));
    world.watch().stopped();
    assert_eq!(world.fires_after(20).await, []);
}

#[tokio::test]
async fn a_run_that_failed_is_told_also_where_another_has_succeeded_since() {
    let mut world = World::new(RULES, &[]).await;
    assert_eq!(world.fires_after(0).await, []);
    world.run_ends(RunState::Failed).await;
    world.run_ends(RunState::Succeeded).await;
    assert_eq!(world.fires_after(0).await, owned(&[("runs", "job j")]));
    assert_eq!(world.fires_after(20).await, []);
    assert_eq!(world.untold("me").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_answer_keeps_none_from_the_others() {
    let (hangs, answers) = (
        HttpReceiver::start().await.unwrap(),
        HttpReceiver::start().await.unwrap(),
    );
    hangs.never_answer();
    let file = format!(
        "\
alerts:
  notify:
    hangs: {{ webhook: {{ url: '{}' }} }}
    answers: {{ webhook: {{ url: '{}' }} }}
  rules: {{ rescued: {{ when: {{ rescued_values: 10 }} }} }}
",
        hangs.url(),
        answers.url(),
    );
    let world = World::new(&file, &[("rescued", "one")]).await;
    let (plan, stop) = (Arc::clone(&world.plan), CancellationToken::new());
    let plans: Plans = Arc::new(move || Arc::clone(&plan));
    let alerts = Arc::clone(&world.alerts);
    let task = tokio::spawn(alerts.deliver(plans, stop.clone()));
    let limit = Duration::from_secs(60);
    assert_eq!(hangs.wait_for(1, limit).await.len(), 1);
    assert_eq!(answers.wait_for(1, limit).await.len(), 1);
    // Told while the other is being waited for.
    world.raise(&[("rescued", "one"), ("rescued", "two")]).await;
    assert_eq!(answers.wait_for(2, limit).await.len(), 2);
    assert_eq!(hangs.requests().len(), 1);
    stop.cancel();
    task.abort();
}

#[tokio::test]
async fn all_that_is_due_is_sent_one_after_the_other() {
    let receiver = HttpReceiver::start().await.unwrap();
    let file = format!(
        "alerts: {{ notify: {{ one: {{ webhook: {{ url: '{}' }} }} }}, rules: {{ runs: {{ when: run_failed }} }} }}\n",
        receiver.url()
    );
    let told = [("runs", "job a"), ("runs", "job b"), ("runs", "job c")];
    let world = World::new(&file, &told).await;
    let plan = Arc::clone(&world.plan);
    let plans: Plans = Arc::new(move || Arc::clone(&plan));
    let stop = CancellationToken::new();
    world.alerts.send_due("one", &plans, &stop).await;
    let sent = receiver.requests().into_iter();
    let sent: Vec<String> = sent
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect();
    assert_eq!(sent.len(), 3);
    for (sent, (_, subject)) in sent.iter().zip(told) {
        assert!(sent.contains(subject), "{sent}");
    }
    assert_eq!(world.untold("one").await, 0);
}
