//! The traits of sources and sinks, and the loop between them.
//!
//! An adapter implements [`SnapshotSource`] or [`LoadSink`]; [`load::load`] joins the two: it runs
//! the partitions of all collections side by side, retries, resumes, reports and stops. Beside them
//! stand [`ChangeSource`] and [`ChangeSink`], which [`sync::sync`] joins once a collection is loaded,
//! and [`LookupSource`] and [`ComparedTables`], which [`verify::verify`] compares. [`tables::take_over`] joins
//! a [`TableSource`], the tables of a lake, and a [`TableSink`], those of a warehouse; a [`FileStage`] is where
//! one puts files for its server to fetch. What a query reads beside the lake is an [`AttachedDatabase`]. Triggers
//! follow an [`EventSource`], and their functions read and write a [`DocumentStore`]. [`publish::publish`] passes the
//! events of one on as they are, to a [`Publisher`].

pub mod attached;
pub mod batch;
pub mod changes;
pub mod documents;
pub mod events;
pub mod failpoint;
pub mod follow;
pub mod ledger;
pub mod load;
pub mod observe;
pub mod publish;
mod read;
pub mod retry;
pub mod snapshot;
pub mod stage;
pub mod sync;
pub mod tables;
pub mod verify;

pub use attached::{
    AttachedDatabase, AttachedName, AttachedTable, Comparison, Filter, FilterSupport, Literal,
    RowStream, Scan,
};
pub use batch::DocumentBatch;
pub use changes::{
    Applied, Change, ChangeBatch, ChangeSink, ChangeSource, ChangeTable, Event, EventBatch,
    EventKind, HistoryWindow, Stages, Stopwatch, TransactionId,
};
pub use documents::{DocumentCall, DocumentError, DocumentScope, DocumentStore};
pub use events::{EventSource, RawEvent, RawEvents, WantedEvents, Watch};
pub use failpoint::Failpoint;
pub use follow::{FollowOptions, Followed, OnDrop};
pub use ledger::{
    DeadLetter, FunctionRun, Progress, RunError, StartAt, TriggerLedger, TriggerRecord,
    TriggerState,
};
pub use load::{CollectionOutcome, LoadOptions, LoadReport, load, load_collections};
pub use observe::{All, AppliedBatch, Lag, Observer, Quiet};
pub use publish::{
    Publish, PublishOptions, PublishReport, Published, PublishedCollection, Publisher, Written,
    publish,
};
pub use snapshot::{
    Bookmark, CollectionInfo, CollectionKind, Load, LoadSink, LoadSummary, Opened, Partition,
    PartitionTotals, PartitionWriter, SnapshotSource,
};
pub use stage::{FileStage, StageKeys, StagedFile};
pub use sync::{Loading, OnLostHistory, Sync, SyncOutcome, SyncReport, sync};
pub use tables::{
    RowBatches, RowChange, SinkTable, TableFeed, TableOptions, TableSink, TableSource, TableState,
    TableVersion, take_over,
};
pub use verify::{
    ComparedTable, ComparedTables, Differences, Fingerprint, FoundRow, LookupSource, Moment,
    Verified, Verify, VerifyOptions, VerifyOutcome, VerifyReport, verify,
};
