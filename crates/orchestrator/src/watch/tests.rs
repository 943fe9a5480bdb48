//! What tables tell, and what that makes of their flow.

use tempfile::TempDir;
use tributary_flow::Applied;

use super::*;
use crate::config::Plan;

const PLACES: &str = "\
sources: { s: { uri: 'mongodb://localhost/db' } }
lakes: { l: { path: lake } }
warehouses: { w: { uri: 'postgresql://localhost/db' } }
";

fn watch(flow: &str) -> FlowWatch {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("tributary.yaml");
    std::fs::write(&file, format!("{PLACES}flows: {{ f: {{ {flow} }} }}\n")).unwrap();
    let plan = Plan::read(&file).unwrap();
    let (notices, _) = broadcast::channel(100);
    let watch = FlowWatch::new(&plan.flows["f"], notices);
    watch.starting();
    watch
}

fn table() -> Namespace {
    Namespace::new("db", "c")
}

fn position() -> Position {
    Position::at(ClusterTime::new(1_700_000_000, 1))
}

fn failure(kind: ErrorKind) -> Error {
    Error::new(kind, "as it was to be")
}

fn batch() -> AppliedBatch {
    let now = SystemTime::now();
    AppliedBatch {
        changes: 1,
        bytes: 1,
        applied: Applied::default(),
        gathered: Duration::ZERO,
        oldest: now,
        changed: now,
        begun: now,
        committed: now,
    }
}

#[test]
fn a_table_of_a_warehouse_says_how_far_it_is_and_that_it_goes_on() {
    let watch = watch("from: l, to: w");
    let soon = Utc::now();
    watch.retries(Some(&failure(ErrorKind::Forbidden)), soon);
    watch.starting();
    watch.current_to(&table(), SystemTime::now() - Duration::from_secs(100));
    let status = watch.status();
    assert_eq!((status.state, status.error), (FlowState::Following, None));
    // It is behind by more and more until it is current to another moment.
    let lag = || watch.status().tables[0].lag_seconds.unwrap();
    assert!(lag() >= 100.0);
    watch.applied(&table(), &batch());
    assert!(lag() >= 100.0);
    watch.current_to(&table(), SystemTime::now());
    assert!(lag() < 90.0);
    watch.retrying(&table(), &failure(ErrorKind::Unreachable), Duration::ZERO);
    assert_eq!(watch.status().state, FlowState::Retrying);
    watch.current_to(&table(), SystemTime::now());
    let status = watch.status();
    assert_eq!(status.state, FlowState::Following);
    assert_eq!(status.tables[0].error, None);
}

#[test]
fn a_flow_through_a_lake_knows_its_source_and_follows_with_its_warehouse() {
    let watch = watch("from: s, to: w, through: l");
    watch.source_retrying(&failure(ErrorKind::Unreachable), Duration::ZERO);
    watch.reached(&position(), SystemTime::now());
    let source = watch.source().unwrap();
    assert_eq!((source.connected, source.error), (true, None));
    assert!(source.read_to.is_some());
    assert_eq!(watch.status().state, FlowState::Starting);
    watch.current_to(&table(), SystemTime::now());
    assert_eq!(watch.status().state, FlowState::Following);
}

#[test]
fn what_failed_on_its_way_into_a_lake_has_failed_until_it_follows() {
    let watch = watch("from: s, to: w, through: l");
    for (kind, state) in [
        (ErrorKind::HistoryLost, FlowState::Failed),
        (ErrorKind::SchemaChanged, FlowState::Waiting),
    ] {
        watch.failed(&table(), &failure(kind));
        // What had got into the lake before arrives.
        watch.progressed(&table(), PartitionTotals::default());
        watch.applied(&table(), &batch());
        let shown = watch.status().tables.remove(0);
        assert_eq!((shown.state, shown.error.is_some()), (state, true));
        assert_eq!(watch.failed_since().is_some(), state == FlowState::Failed);
        watch.following(&table(), &position());
        let shown = watch.status().tables.remove(0);
        assert_eq!((shown.state, shown.error), (FlowState::Following, None));
        assert_eq!(watch.failed_since(), None);
    }
}

#[test]
fn a_failure_counts_from_the_last_start_on() {
    let watch = watch("from: s, to: l");
    watch.failed(&table(), &failure(ErrorKind::HistoryLost));
    let first = watch.failed_since().unwrap();
    watch.retries(None, Utc::now());
    assert_eq!(watch.status().restarts, 1);
    watch.starting();
    assert_eq!(watch.failed_since(), None);
    let shown = watch.status().tables.remove(0);
    assert_eq!(
        (shown.state, shown.error.is_some()),
        (FlowState::Failed, true)
    );
    watch.failed(&table(), &failure(ErrorKind::HistoryLost));
    assert!(watch.failed_since().unwrap() > first);
}

#[test]
fn what_fails_before_anything_is_followed_did_not_go_well() {
    let watch = watch("from: s, to: l");
    watch.failed(&table(), &failure(ErrorKind::HistoryLost));
    std::thread::sleep(Duration::from_millis(2));
    watch.following(&Namespace::new("db", "other"), &position());
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(watch.went_well_for(), Duration::ZERO);
    watch.starting();
    watch.following(&Namespace::new("db", "other"), &position());
    std::thread::sleep(Duration::from_millis(2));
    watch.failed(&table(), &failure(ErrorKind::InvalidData));
    assert!(watch.went_well_for() >= Duration::from_millis(2));
}
