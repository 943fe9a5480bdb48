//! `tributary sync`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tributary_flow::{FollowOptions, LoadOptions, LoadSink, Sync, sync};
use tributary_lake::{FileSink, Format, Location, SinkOptions, SyncOptions, SyncSink};
use tributary_model::{Error, ErrorKind, Position, Result};

use crate::cli::{Output, PartArguments, SyncArguments};
use crate::console::{self, JsonProgress, TextProgress};
use crate::{DONE, FAILED, SharedObserver, copy};

/// Below this a query that runs could lose the files that it reads.
const LEAST_RETENTION: Duration = Duration::from_secs(3600);

pub(crate) async fn run(arguments: SyncArguments, stop: CancellationToken) -> Result<u8> {
    let begun = Instant::now();
    let place = Location::parse(&arguments.target)?;
    let mut source = copy::source(&arguments.source, &PartArguments::default()).await?;
    if arguments.history {
        source = source.with_every_version();
    }
    let source = Arc::new(source);
    let index = match &arguments.index {
        Some(directory) => directory.clone(),
        None => default_index()?,
    };
    let mut sink = SyncSink::new(
        place.clone(),
        SyncOptions {
            history: arguments.history,
            retention: arguments.retention,
            ..SyncOptions::new(index)
        },
    );
    let overwrite = arguments.overwrite;
    if overwrite {
        sink = sink.replacing();
    }
    let loads = move |position: Position, replace: bool| -> Arc<dyn LoadSink> {
        Arc::new(FileSink::new(
            place.clone(),
            SinkOptions {
                format: Format::Delta,
                overwrite: overwrite || replace,
                position: Some(position),
            },
        ))
    };
    let observer: SharedObserver = match arguments.output {
        Output::Text => Arc::new(TextProgress::new()),
        Output::Json => Arc::new(JsonProgress::default()),
    };
    let report = sync(
        Sync {
            snapshots: source.clone(),
            changes: source,
            loads: &loads,
            sink: Arc::new(sink),
            observer,
            load: LoadOptions {
                parallel: copy::parallel(arguments.parallel),
            },
            follow: FollowOptions {
                commit_interval: arguments.commit_interval,
                heartbeat: arguments.heartbeat,
                ..FollowOptions::default()
            },
            once: arguments.once,
        },
        stop.clone(),
    )
    .await?;

    let seconds = begun.elapsed().as_secs_f64();
    match arguments.output {
        Output::Json => console::emit(&console::synced_event(
            &report,
            seconds,
            stop.is_cancelled(),
        )),
        Output::Text => console::say(&console::sync_table(&report, seconds)),
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
    Ok(if failed { FAILED } else { DONE })
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

/// A duration such as `500ms`, `1s`, `2m` or `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: f64 = number
        .parse()
        .map_err(|_| "write it as 500ms, 1s or 2m".to_owned())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 24.0 * 3600.0,
        _ => return Err(format!("unknown unit `{unit}`: use ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A duration that files can be kept for.
pub(crate) fn parse_retention(text: &str) -> Result<Duration, String> {
    let retention = parse_duration(text)?;
    if retention < LEAST_RETENTION {
        return Err("readers need their files for an hour at least".to_owned());
    }
    Ok(retention)
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
    }
}
