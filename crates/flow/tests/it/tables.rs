//! Taking tables over, all in memory: what is told of how far they are.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_flow::{
    Applied, Observer, RowBatches, RowChange, SinkTable, TableFeed, TableOptions, TableSink,
    TableSource, TableState, TableVersion, take_over,
};
use tributary_model::{Error, ErrorKind, Namespace, Result, TableSchema};

/// A table of a lake, and the one that takes it over.
#[derive(Default)]
struct World {
    /// When each version was committed.
    commits: Vec<SystemTime>,
    reached: Option<u64>,
    /// How often the next versions cannot be applied.
    fails: u32,
    /// Whether there is another version whenever one has been applied.
    commits_on: bool,
    /// Up to when the lake's table holds all, where it is behind itself.
    holds_to: Option<SystemTime>,
    told: Vec<SystemTime>,
    retried: u32,
    /// Whether whoever takes over does not answer, when it is looked whether it can, or at its table.
    is_silent: Option<Silent>,
    asked: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Silent {
    Check,
    Open,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn look<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    async fn answer(&self, asked: Silent) {
        let is_silent = self.look(|world| {
            world.asked |= world.is_silent == Some(asked);
            world.is_silent == Some(asked)
        });
        if is_silent {
            std::future::pending::<()>().await;
        }
    }

    /// What is told until there is that much, in the order in which it was told.
    async fn told(&self, enough: impl Fn(&World) -> bool) -> Vec<SystemTime> {
        let stop = CancellationToken::new();
        let options = TableOptions {
            interval: Duration::from_millis(5),
            parallel: 1,
            once: false,
        };
        let (source, sink, observer) = (self.clone(), self.clone(), self.clone());
        let work = take_over(
            Arc::new(source),
            Arc::new(sink),
            Arc::new(observer),
            options,
            stop.clone(),
        );
        let task = tokio::spawn(work);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.look(|world| enough(world)) {
            assert!(Instant::now() < deadline, "it was not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
        ended.expect("it does not end").unwrap().unwrap();
        self.look(|world| world.told.clone())
    }
}

fn version(version: u64) -> TableVersion {
    TableVersion {
        table: "t".to_owned(),
        version,
    }
}

#[async_trait]
impl TableSource for Shared {
    async fn tables(&self) -> Result<Vec<Namespace>> {
        Ok(vec![Namespace::new("db", "c")])
    }

    async fn open(&self, _: &Namespace) -> Result<Box<dyn TableFeed>> {
        Ok(Box::new(self.clone()))
    }

    fn holds_to(&self, _: &Namespace, at: SystemTime) -> Option<SystemTime> {
        Some(self.look(|world| world.holds_to.unwrap_or(at)))
    }
}

#[async_trait]
impl TableFeed for Shared {
    async fn now(&mut self) -> Result<TableState> {
        Ok(self.look(|world| TableState {
            at: version(world.commits.len() as u64 - 1),
            schema: TableSchema::default(),
            rows: 1,
            bytes: 1,
            committed: world.commits.last().copied(),
        }))
    }

    async fn rows(&mut self) -> Result<RowBatches> {
        Ok(mpsc::channel(1).1)
    }

    async fn changes(&mut self, _: u64) -> Result<mpsc::Receiver<Result<RowChange>>> {
        Ok(mpsc::channel(1).1)
    }

    async fn committed_behind(&mut self, since: u64) -> Result<Option<SystemTime>> {
        Ok(self.look(|world| world.commits.get(since as usize + 1).copied()))
    }
}

#[async_trait]
impl TableSink for Shared {
    async fn check(&self) -> Result<()> {
        self.answer(Silent::Check).await;
        Ok(())
    }

    async fn open(&self, _: &Namespace) -> Result<Box<dyn SinkTable>> {
        self.answer(Silent::Open).await;
        Ok(Box::new(Table {
            reached: self.look(|world| world.reached.map(version)),
            world: self.clone(),
        }))
    }
}

struct Table {
    world: Shared,
    reached: Option<TableVersion>,
}

#[async_trait]
impl SinkTable for Table {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn reached(&self) -> Option<&TableVersion> {
        self.reached.as_ref()
    }

    async fn load(&mut self, state: &TableState, _: RowBatches) -> Result<Applied> {
        self.reached = Some(state.at.clone());
        self.world
            .look(|world| world.reached = Some(state.at.version));
        Ok(Applied::default())
    }

    async fn apply(
        &mut self,
        state: &TableState,
        _: mpsc::Receiver<Result<RowChange>>,
    ) -> Result<Applied> {
        let fails = self.world.look(|world| {
            let fails = world.fails > 0;
            world.fails = world.fails.saturating_sub(1);
            if world.commits_on {
                world.commits.push(SystemTime::now());
            }
            if !fails {
                world.reached = Some(state.at.version);
            }
            fails
        });
        if fails {
            return Err(Error::new(ErrorKind::Unreachable, "as it was to be"));
        }
        self.reached = Some(state.at.clone());
        Ok(Applied::default())
    }
}

impl Observer for Shared {
    fn current_to(&self, _: &Namespace, at: SystemTime) {
        self.look(|world| world.told.push(at));
    }

    fn retrying(&self, _: &Namespace, _: &Error, _: Duration) {
        self.look(|world| world.retried += 1);
    }
}

fn world(versions: u32, reached: Option<u64>) -> Shared {
    let begin = SystemTime::now() - Duration::from_secs(1000);
    let shared = Shared::default();
    shared.look(|world| {
        let commits = (0..versions).map(|version| begin + Duration::from_secs(version.into()));
        world.commits = commits.collect();
        world.reached = reached;
    });
    shared
}

#[tokio::test]
async fn a_table_that_has_all_is_told_to_be_current_again_and_again() {
    let (shared, begun) = (world(3, Some(2)), SystemTime::now());
    let told = shared.told(|world| world.told.len() >= 3).await;
    assert!(told[0] >= begun, "{told:?}");
}

#[tokio::test]
async fn a_table_that_is_loaded_is_told_to_be_current_behind_it() {
    let (shared, begun) = (world(3, None), SystemTime::now());
    let told = shared.told(|world| !world.told.is_empty()).await;
    assert!(told[0] >= begun);
    assert_eq!(shared.look(|world| world.reached), Some(2));
}

#[tokio::test]
async fn a_table_that_is_behind_is_current_to_the_first_version_that_it_lacks() {
    let (shared, begun) = (world(9, Some(2)), SystemTime::now());
    shared.look(|world| world.fails = 2);
    let told = shared.told(|world| world.told.len() >= 2).await;
    let lacked = shared.look(|world| world.commits[3]);
    // It is told once, however often what it lacks is tried.
    assert_eq!(told[0], lacked);
    assert!(told[1] >= begun);
    assert_eq!(shared.look(|world| world.retried), 2);
}

#[tokio::test]
async fn a_table_that_is_never_level_is_told_to_be_where_it_was_looked_last() {
    let (shared, begun) = (world(4, Some(2)), SystemTime::now());
    shared.look(|world| world.commits_on = true);
    let told = shared.told(|world| world.told.len() >= 4).await;
    let behind: Vec<_> = told.iter().filter(|at| **at >= begun).collect();
    assert!(behind.len() >= 3 && behind.is_sorted(), "{told:?}");
}

#[tokio::test]
async fn a_table_is_no_further_than_the_one_it_takes_over() {
    let shared = world(3, Some(2));
    let behind = SystemTime::now() - Duration::from_secs(500);
    shared.look(|world| world.holds_to = Some(behind));
    let told = shared.told(|world| !world.told.is_empty()).await;
    assert_eq!(told[0], behind);
}

#[tokio::test]
async fn who_does_not_answer_holds_up_no_end() {
    for silent in [Silent::Check, Silent::Open] {
        let shared = world(3, None);
        shared.look(|world| world.is_silent = Some(silent));
        let told = shared.told(|world| world.asked).await;
        assert!(told.is_empty());
        assert_eq!(shared.look(|world| world.reached), None);
    }
}
