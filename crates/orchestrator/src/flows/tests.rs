//! A table that fails again and again, and what becomes of the others of its flow.

use tempfile::TempDir;
use tributary_flow::{CollectionInfo, CollectionKind, Observer, PartitionTotals};
use tributary_model::{ClusterTime, DescribedTable, Namespace, Position};

use super::*;
use crate::config::{Plan, Work};
use crate::engine::{Moved, Tell};
use crate::status::FlowState;

/// A flow of which one table fails at every start, and the other is loaded for a while and then follows.
struct Half {
    loads_for: Duration,
    rounds: Mutex<Vec<Round>>,
}

#[derive(Clone, Copy)]
struct Round {
    begun: Instant,
    ended: Option<Instant>,
    was_loaded: bool,
}

#[async_trait::async_trait]
impl Engine for Half {
    async fn follow(
        &self,
        _: &Flow,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> Result<()> {
        let (bad, good) = (Namespace::new("db", "bad"), Namespace::new("db", "good"));
        let mut round = Round {
            begun: Instant::now(),
            ended: None,
            was_loaded: true,
        };
        self.rounds.lock().unwrap().push(round);
        observer.failed(&bad, &Error::new(ErrorKind::HistoryLost, "as it was to be"));
        if !self.loads_for.is_zero() {
            let collection = CollectionInfo {
                namespace: good.clone(),
                kind: CollectionKind::Collection,
                uuid: None,
                documents: None,
                bytes: None,
            };
            observer.started(&collection, 1, PartitionTotals::default());
            tokio::select! {
                () = tokio::time::sleep(self.loads_for) => {}
                () = stop.cancelled() => round.was_loaded = false,
            }
        }
        observer.following(&good, &Position::at(ClusterTime::new(1, 1)));
        stop.cancelled().await;
        round.ended = Some(Instant::now());
        *self.rounds.lock().unwrap().last_mut().unwrap() = round;
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

/// A flow that does not begin, and does not end when it is to.
struct Stuck;

#[async_trait::async_trait]
impl Engine for Stuck {
    async fn follow(
        &self,
        _: &Flow,
        observer: Arc<dyn Observer>,
        _: CancellationToken,
    ) -> Result<()> {
        let error = Error::new(ErrorKind::Unreachable, "as it was to be");
        observer.source_retrying(&error, Duration::from_secs(5));
        std::future::pending().await
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

fn plan() -> Plan {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("tributary.yaml");
    let text = "sources: { s: { uri: 'mongodb://localhost/db' } }\nlakes: { l: { path: lake } }\n\
                flows: { f: { from: s, to: l } }\n";
    std::fs::write(&file, text).unwrap();
    Plan::read(&file).unwrap()
}

fn world(loads_for: Duration) -> (Plan, Arc<Half>, Flows) {
    let plan = plan();
    let engine = Arc::new(Half {
        loads_for,
        rounds: Mutex::default(),
    });
    let (notices, _) = broadcast::channel(100);
    let flows = Flows::new(Arc::clone(&engine) as Arc<dyn Engine>, notices);
    (plan, engine, flows)
}

/// The rounds that have ended, when there are so many.
async fn rounds(loads_for: Duration, count: usize) -> Vec<Round> {
    let (plan, engine, flows) = world(loads_for);
    flows.become_these(&plan.flows, |_| false).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let rounds = engine.rounds.lock().unwrap().clone();
        if rounds.len() > count {
            flows.stop_all().await;
            return rounds[..count].to_vec();
        }
        assert!(Instant::now() < deadline, "only {} rounds", rounds.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_fails_at_every_start_leaves_the_others_more_time_each_time() {
    let rounds = rounds(Duration::ZERO, 2).await;
    let went_on = |round: &Round| round.ended.unwrap() - round.begun;
    // It counts from the failure of this round, not from the first one.
    assert!(went_on(&rounds[0]) >= Duration::from_millis(750));
    assert!(went_on(&rounds[1]) >= Duration::from_millis(1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_is_not_cut_short_for_another_table_that_failed() {
    let rounds = rounds(Duration::from_millis(2500), 1).await;
    assert!(rounds[0].was_loaded);
}

#[test]
fn what_was_waited_for_while_others_went_on_is_not_waited_for_again() {
    let failed = || Ended::Failed(Error::new(ErrorKind::Internal, "as it was to be"));
    assert_eq!(Ended::TriesTables.wait(10), Duration::ZERO);
    assert!(failed().wait(0) <= FIRST_WAIT);
    assert!(failed().wait(10) >= LONGEST_WAIT.mul_f64(0.75));
    assert!(Ended::Idle.wait(10) >= LONGEST_WAIT.mul_f64(0.75));
}

#[tokio::test]
async fn no_flow_is_started_behind_the_end() {
    let (plan, _, flows) = world(Duration::ZERO);
    flows.know(&plan.flows);
    flows.stop_all().await;
    let error = flows.start("f").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    flows.become_these(&plan.flows, |_| false).await;
    assert_eq!(flows.status("f").unwrap().state, FlowState::Stopped);
}

#[tokio::test]
async fn a_flow_that_cannot_begin_says_why_and_one_that_does_not_end_is_cut_short() {
    let plan = plan();
    let (notices, mut told) = broadcast::channel(100);
    let mut flows = Flows::new(Arc::new(Stuck), notices);
    flows.patience = Duration::from_millis(200);
    flows.become_these(&plan.flows, |_| false).await;
    let status = loop {
        let Ok(Notice::Flow(status)) = told.recv().await else {
            panic!("nothing was told");
        };
        if status.state == FlowState::Retrying {
            break status;
        }
    };
    assert!(status.error.unwrap().contains("as it was to be"));
    assert!(status.next_try_at.is_some());
    let begun = Instant::now();
    let stopped = flows.stop("f").await.unwrap();
    assert_eq!(stopped.state, FlowState::Stopped);
    assert!(begun.elapsed() >= flows.patience && begun.elapsed() < STOP_PATIENCE);
    flows.start("f").await.unwrap();
    flows.stop_all().await;
}
