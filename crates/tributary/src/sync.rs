//! `tributary sync`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tributary_flow::{
    All, ChangeSource, FollowOptions, LoadOptions, LoadSink, Loading, SnapshotSource, Sync,
    SyncReport,
};
use tributary_ingest::IngestSource;
use tributary_lake::{ChangeFiles, FileSink, Format, Location, SinkOptions, SyncOptions, SyncSink};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::Period;

use crate::cli::{Output, PartArguments, SyncArguments};
use crate::ingest::FromBeginnings;
use crate::{DONE, FAILED, SharedObserver, console, copy, metrics, publish, warehouse};

/// Below this a query that runs could lose the files that it reads.
const LEAST_RETENTION: Duration = Duration::from_secs(3600);

pub(crate) async fn run(arguments: SyncArguments, stop: CancellationToken) -> Result<u8> {
    let begun = Instant::now();
    let mut observer = console::progress(arguments.output);
    let served = match &arguments.metrics {
        Some(address) => Some(metrics::serve(address).await?),
        None => None,
    };
    if let Some(served) = &served {
        match arguments.output {
            Output::Text => console::note(&format!("metrics: {}", served.address)),
            Output::Json => console::emit(&console::metrics_event(&served.address)),
        }
        observer = Arc::new(All(vec![observer, served.metrics.clone()]));
    }
    let report = work(&arguments, observer, &warehouse::tell_failures, &stop).await?;
    Ok(conclude(&report, arguments.output, begun, &stop))
}

/// Follows the collections into a lake or a warehouse, or passes their changes on as they are. What became of those that did not reach the lake
/// before a warehouse is for `staged`.
pub(crate) async fn work(
    arguments: &SyncArguments,
    observer: SharedObserver,
    staged: &warehouse::ToldStaged,
    stop: &CancellationToken,
) -> Result<SyncReport> {
    if publish::is_wanted(arguments) {
        return publish::sync(arguments, observer, stop).await;
    }
    publish::refuse_publishing(&arguments.publish)?;
    if warehouse::is_address(&arguments.target) {
        return warehouse::sync(arguments, observer, staged, stop).await;
    }
    warehouse::refuse_options(&arguments.warehouse)?;
    into_lake(arguments, &arguments.target, observer, stop).await
}

/// Follows the collections of a MongoDB into a lake.
pub(crate) async fn into_lake(
    arguments: &SyncArguments,
    lake: &str,
    observer: SharedObserver,
    stop: &CancellationToken,
) -> Result<SyncReport> {
    let place = Location::parse(lake)?;
    if ChangeFiles::is_at(&place).await? {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            "the target holds files of changes, not tables",
        )
        .on("target", &place)
        .remedy("choose another target for tables, or give --changes to go on with the changes"));
    }
    let Some((snapshots, changes)) = source(arguments, stop).await? else {
        return Ok(SyncReport::default());
    };
    let index = match &arguments.index {
        Some(directory) => directory.clone(),
        None => default_index()?,
    };
    let options = SyncOptions {
        history: arguments.history,
        retention: arguments.retention,
        on_schema_change: arguments.on_schema_change.into(),
        copy_on_write: arguments.no_deletion_vectors,
        symlink_manifest: arguments.symlink_manifest,
        ..SyncOptions::new(index)
    };
    #[cfg(debug_assertions)]
    let options = eager(options);
    let mut sink = SyncSink::new(place.clone(), options);
    let (overwrite, copy_on_write) = (arguments.overwrite, arguments.no_deletion_vectors);
    let symlink_manifest = arguments.symlink_manifest;
    if overwrite {
        sink = sink.replacing();
    }
    let load = move |loading: Loading| {
        FileSink::new(
            place.clone(),
            SinkOptions {
                format: Format::Delta,
                overwrite: overwrite || loading.replace,
                position: Some(loading.position),
                lacking: loading.lacking,
                copy_on_write,
                symlink_manifest,
            },
        )
    };
    let log = arguments.source.log.clone();
    let loads = move |loading: Loading| -> Arc<dyn LoadSink> {
        match &log {
            Some(log) => Arc::new(FromBeginnings {
                log: Arc::clone(log),
                loading,
                sink: load.clone(),
            }),
            None => Arc::new(load(loading)),
        }
    };
    let sync = Sync {
        snapshots,
        changes,
        loads: &loads,
        sink: Arc::new(sink),
        observer,
        load: LoadOptions {
            parallel: copy::parallel(arguments.parallel),
        },
        follow: FollowOptions {
            commit_interval: arguments.commit_interval,
            heartbeat: arguments.heartbeat,
            on_drop: arguments.on_drop.into(),
            ..FollowOptions::default()
        },
        once: arguments.once,
        on_lost_history: arguments.on_lost_history.into(),
    };
    tributary_flow::sync(sync, stop.clone()).await
}

/// Where collections are loaded from, and where their changes are read; none where it was stopped before there
/// were any.
async fn source(
    arguments: &SyncArguments,
    stop: &CancellationToken,
) -> Result<Option<(Arc<dyn SnapshotSource>, Arc<dyn ChangeSource>)>> {
    if let Some(log) = &arguments.source.log {
        let source = IngestSource::new(Arc::clone(log), &arguments.source.collections)?;
        if !arguments.once {
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                waited = source.wait_for_collections() => waited?,
            }
        }
        let source = Arc::new(source);
        return Ok(Some((source.clone(), source)));
    }
    let mut source = copy::source(&arguments.source, &PartArguments::default()).await?;
    if arguments.history {
        source = source.with_every_version();
    }
    if arguments.once {
        source = source.to_the_present();
    }
    let source = Arc::new(source);
    Ok(Some((source.clone(), source)))
}

/// Tells what came of it, and answers the exit code.
pub(crate) fn conclude(
    report: &SyncReport,
    output: Output,
    begun: Instant,
    stop: &CancellationToken,
) -> u8 {
    let seconds = begun.elapsed().as_secs_f64();
    match output {
        Output::Json => {
            console::emit(&console::synced_event(report, seconds, stop.is_cancelled()));
        }
        Output::Text => console::say(&console::sync_table(report, seconds)),
    }
    let mut failed = false;
    for collection in &report.collections {
        match &collection.failure {
            Some(error) if error.kind() == ErrorKind::Interrupted => {}
            Some(error) => {
                failed = true;
                console::report(error);
            }
            None => {}
        }
    }
    if failed { FAILED } else { DONE }
}

/// For tests of what is done while a table is put in order: with `TRIBUTARY_EAGER_UPKEEP` all of it
/// is due all the time.
#[cfg(debug_assertions)]
fn eager(options: SyncOptions) -> SyncOptions {
    if std::env::var_os("TRIBUTARY_EAGER_UPKEEP").is_none() {
        return options;
    }
    SyncOptions {
        retention: Duration::ZERO,
        upkeep: tributary_lake::UpkeepOptions {
            join_files: 2,
            dead_bytes: 1,
            checkpoint_bytes: 1,
            vacuum_every: Duration::ZERO,
            ..options.upkeep
        },
        ..options
    }
}

/// Where key indexes are kept: the user's cache directory.
fn default_index() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
    cache
        .map(|cache| cache.join("tributary").join("index"))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                "there is no directory for the key indexes",
            )
            .remedy("set HOME or XDG_CACHE_HOME, or give --index")
        })
}

/// A duration such as `500ms`, `1s`, `2m` or `7d`; a bare number is one of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let is_bare = text.ends_with(|c: char| c.is_ascii_digit() || c == '.');
    let period = match is_bare {
        true => Period::parse(&format!("{text}s")),
        false => Period::parse(text),
    };
    period.map(|period| period.0)
}

/// A duration that files can be kept for.
pub(crate) fn parse_retention(text: &str) -> Result<Duration, String> {
    let retention = parse_duration(text)?;
    if retention < LEAST_RETENTION {
        return Err("readers need their files for an hour at least".to_owned());
    }
    Ok(retention)
}

/// The age of a position, which is told in whole seconds.
pub(crate) fn parse_heartbeat(text: &str) -> Result<Duration, String> {
    let heartbeat = parse_duration(text)?;
    if heartbeat < Duration::from_secs(1) {
        return Err("positions are a second old at least".to_owned());
    }
    Ok(heartbeat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert!(parse_duration("1 day").is_err());
        assert!(parse_duration("s").is_err());
        assert!(parse_retention("59m").is_err());
        assert!(parse_retention("1h").is_ok());
        assert!(parse_heartbeat("999ms").is_err());
        assert!(parse_heartbeat("1s").is_ok());
    }
}
