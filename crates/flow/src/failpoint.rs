//! Points at which a test ends the process, as a kill at that very instant would.
//!
//! They stand at every edge between something that is written and what says that it counts. A
//! build with debug assertions ends at the point that the environment variable
//! `TRIBUTARY_FAILPOINT` names, as `name` or, at the nth time it is reached, as `name:n`; in any
//! other build nothing is left of them.

macro_rules! failpoints {
    ($($(#[doc = $what:literal])+ $point:ident = $name:literal,)+) => {
        /// A point at which the process can be ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[doc = $what])+ $point,)+
        }

        impl Failpoint {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$point),+];

            /// What the environment variable calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

failpoints! {
    /// A load's partitions are planned and nothing is read.
    LoadPlanned = "load.planned",
    /// A partition's file is about to get its name.
    UploadUnfinished = "upload.unfinished",
    /// A partition's files are written, without a receipt.
    PartitionWritten = "load.partition.written",
    /// A partition has its receipt.
    ReceiptWritten = "load.receipt.written",
    /// The files of a load fit one schema, and are not committed.
    LoadUnified = "load.unified",
    /// Plain files are all that is left of a load, and are not in their place.
    FilesSwept = "load.files.swept",
    /// A load is committed, and what earlier tries left is still there.
    LoadCommitted = "load.committed",
    /// A load is committed and cleaned up, and its state is still there.
    LoadSwept = "load.swept",
    /// Of a load's state only the plan is left.
    ReceiptsRemoved = "load.receipts.removed",
    /// Nothing of a load's state is left, and nobody has heard of its end.
    LoadEnded = "load.ended",
    /// The empty table of a history is there, and nothing is in it.
    HistoryCreated = "history.created",
    /// Changes are about to be applied.
    BatchBegun = "batch.begun",
    /// Changes are applied, and the flow has not heard of it.
    BatchApplied = "batch.applied",
    /// The file of new rows is written, and no commit names it.
    DataFileWritten = "sync.data_file.written",
    /// The deletion vectors of a commit are written, and it is not.
    VectorsWritten = "commit.vectors.written",
    /// A version is about to be put into the log.
    CommitBefore = "commit.before",
    /// A version is in the log, and the process does not know.
    CommitAfter = "commit.after",
    /// A version is in the log, and the manifest of the table is still of the one before.
    ManifestBefore = "manifest.before",
    /// The commit of changes is done, and the key index knows nothing of it.
    ChangesCommitted = "sync.committed",
    /// The key index has followed a commit of changes.
    ChangesRecorded = "sync.recorded",
    /// A batch is about to be written into the key index.
    IndexBefore = "index.before",
    /// A batch of the key index is written, perhaps one of several.
    IndexAfter = "index.after",
    /// Some of a file's rows are in the key index, and others not yet.
    IndexBetween = "index.between",
    /// The file of new versions is written, and no commit of the history names it.
    HistoryFileWritten = "history.data_file.written",
    /// The history has its events, and the table does not have their changes.
    HistoryCommitted = "history.committed",
    /// A position without changes is committed.
    HeartbeatCommitted = "heartbeat.committed",
    /// One file is written again for a wider column, perhaps one of several.
    WidenFileWritten = "widen.file.written",
    /// The wider files are part of the table, and the key index does not know them.
    WidenCommitted = "widen.committed",
    /// The key index knows the wider files; what made them wider is not written.
    WidenRecorded = "widen.recorded",
    /// Some of a joined file's rows are in the key index, and others not yet.
    CompactionBetween = "compaction.between",
    /// Files are joined, and the table does not have the result.
    CompactionWritten = "compaction.written",
    /// Joined files are part of the table, and the key index does not know them.
    CompactionCommitted = "compaction.committed",
    /// The key index knows the joined files.
    CompactionRecorded = "compaction.recorded",
    /// There is a checkpoint, and nothing of the log is removed.
    CheckpointWritten = "checkpoint.written",
    /// What has expired of the log is removed.
    LogCleaned = "log.cleaned",
    /// Files to be vacuumed are known, and all are there.
    VacuumListed = "vacuum.listed",
    /// A file is vacuumed, perhaps one of several.
    VacuumRemoved = "vacuum.removed",
    /// All is vacuumed, and the notes of the next run are not written.
    VacuumUnnoted = "vacuum.unnoted",
    /// The notes of the next vacuum are written.
    VacuumNoted = "vacuum.noted",
    /// Events are about to be published.
    PublishBegun = "publish.begun",
    /// Events are published, and the flow has not heard of it.
    PublishEnded = "publish.ended",
    /// It is said which files of events are coming, and none is there.
    EventFilesPlanned = "publish.files.planned",
    /// A file of events is written, perhaps one of several.
    EventFileWritten = "publish.file.written",
    /// All files of events are written, and the position does not count them.
    EventFilesWritten = "publish.files.written",
    /// The position counts the files of events.
    EventFilesCounted = "publish.files.counted",
    /// A file of events that never counted is removed, perhaps one of several.
    EventFileRemoved = "publish.file.removed",
    /// Records are acknowledged, perhaps some of more, and the position is the one before.
    RecordsSent = "publish.records.sent",
    /// The position counts the records.
    RecordsCounted = "publish.records.counted",
}

impl Failpoint {
    /// Ends the process, if this is where it is to end.
    #[inline]
    pub fn hit(self) {
        #[cfg(debug_assertions)]
        armed::hit(self);
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Failpoint;

    struct Armed {
        name: String,
        /// How many times it is still to be passed.
        left: AtomicU32,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let wanted = std::env::var("TRIBUTARY_FAILPOINT").ok()?;
        let (name, nth) = match wanted.split_once(':') {
            Some((name, nth)) => (name, nth.parse().ok()?),
            None => (wanted.as_str(), 1),
        };
        Some(Armed {
            name: name.to_owned(),
            left: AtomicU32::new(nth),
        })
    });

    pub(super) fn hit(point: Failpoint) {
        if let Some(armed) = ARMED.as_ref()
            && armed.name == point.name()
            && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // A process that is being ended has nobody else to tell.
            let _ = writeln!(std::io::stderr(), "failpoint {}", point.name());
            std::process::abort();
        }
    }
}
