//! The traits of sources and sinks, and the loop between them.
//!
//! An adapter implements [`SnapshotSource`] or [`LoadSink`]; [`load::load`] joins the two: it runs
//! the partitions of all collections side by side, retries, resumes, reports and stops. Beside them
//! stand [`ChangeSource`] and [`ChangeSink`], which [`sync::sync`] joins once a collection is loaded,
//! and [`LookupSource`] and [`ComparedTables`], which [`verify::verify`] compares.

pub mod batch;
pub mod changes;
pub mod follow;
pub mod load;
pub mod observe;
pub mod retry;
pub mod snapshot;
pub mod sync;
pub mod verify;

pub use batch::DocumentBatch;
pub use changes::{
    Applied, Change, ChangeBatch, ChangeSink, ChangeSource, ChangeTable, Event, EventBatch,
    EventKind, HistoryWindow, TransactionId,
};
pub use follow::{FollowOptions, Followed};
pub use load::{CollectionOutcome, LoadOptions, LoadReport, load, load_collections};
pub use observe::{AppliedBatch, Observer, Quiet};
pub use snapshot::{
    Bookmark, CollectionInfo, CollectionKind, Load, LoadSink, LoadSummary, Opened, Partition,
    PartitionTotals, PartitionWriter, SnapshotSource,
};
pub use sync::{Sync, SyncOutcome, SyncReport, sync};
pub use verify::{
    ComparedTable, ComparedTables, Differences, Fingerprint, FoundRow, LookupSource, Moment,
    Verified, Verify, VerifyOptions, VerifyOutcome, VerifyReport, verify,
};
