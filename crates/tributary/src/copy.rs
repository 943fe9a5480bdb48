//! `tributary copy`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tributary_flow::{LoadOptions, LoadReport, load};
use tributary_lake::{FileSink, Location, SinkOptions};
use tributary_model::{Error, ErrorKind, Result};
use tributary_mongo::{Connection, MongoSource, Selection, SelectionOptions};

use crate::cli::{CollectionArguments, CopyArguments, Output, OutputFormat, PartArguments};
use crate::{DONE, FAILED, SharedObserver, console, mongodb_uri, sync, warehouse};

pub(crate) async fn run(arguments: CopyArguments, stop: CancellationToken) -> Result<u8> {
    let begun = Instant::now();
    let observer = console::progress(arguments.output);
    refuse_manifest(&arguments)?;
    if warehouse::is_address(&arguments.target) {
        let report = warehouse::copy(&arguments, observer, &stop).await?;
        return Ok(sync::conclude(&report, arguments.output, begun, &stop));
    }
    warehouse::refuse_options(&arguments.warehouse)?;
    let report = into_files(&arguments, &arguments.target, observer, &stop).await?;

    let seconds = begun.elapsed().as_secs_f64();
    let interrupted = report.collections.iter().any(|outcome| {
        outcome
            .result
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Interrupted)
    });
    let failed: Vec<_> = report
        .collections
        .iter()
        .filter_map(|outcome| outcome.result.as_ref().err())
        .filter(|error| error.kind() != ErrorKind::Interrupted)
        .collect();
    match arguments.output {
        Output::Json => console::emit(&console::finished_event(&report, seconds, interrupted)),
        Output::Text => console::say(&console::summary_table(&report, seconds)),
    }
    for error in &failed {
        console::report(error);
    }
    if interrupted {
        console::note("stopped: start again with the same arguments to go on where it stopped");
    }
    if failed.is_empty() {
        return Ok(DONE);
    }
    let usage = failed.iter().all(|error| error.kind() == ErrorKind::Usage);
    Ok(if usage { crate::WRONG_USAGE } else { FAILED })
}

/// Refuses a manifest of what is no Delta table.
fn refuse_manifest(arguments: &CopyArguments) -> Result<()> {
    let is_from_lake =
        warehouse::is_address(&arguments.target) && arguments.warehouse.stage.is_none();
    if !arguments.symlink_manifest || (arguments.format == OutputFormat::Delta && !is_from_lake) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        "--symlink-manifest is of Delta tables that are loaded from MongoDB",
    )
    .remedy("leave it out, or load Delta tables into a lake"))
}

/// Loads the collections of a MongoDB into tables or files below `target`.
pub(crate) async fn into_files(
    arguments: &CopyArguments,
    target: &str,
    observer: SharedObserver,
    stop: &CancellationToken,
) -> Result<LoadReport> {
    let place = Location::parse(target)?;
    let source = Arc::new(source(&arguments.source, &arguments.part).await?);
    let options = SinkOptions {
        format: arguments.format.format(arguments.json),
        overwrite: arguments.overwrite,
        position: None,
        lacking: HashMap::new(),
        copy_on_write: false,
        symlink_manifest: arguments.symlink_manifest,
    };
    let sink = Arc::new(FileSink::new(place, options));
    let parallel = parallel(arguments.parallel);
    load(
        source,
        sink,
        observer,
        LoadOptions { parallel },
        stop.clone(),
    )
    .await
}

/// How many partitions are worked on at once: as asked, or one for each core.
pub(crate) fn parallel(asked: Option<u16>) -> usize {
    asked.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    )
}

/// The source that the arguments name.
pub(crate) async fn source(
    arguments: &CollectionArguments,
    part: &PartArguments,
) -> Result<MongoSource> {
    let selection = Selection::new(&SelectionOptions {
        collections: arguments.collections.clone(),
        filter: part.filter.clone(),
        fields: part.fields.clone(),
    })?;
    let uri = mongodb_uri(&arguments.source)?;
    let connection = Connection::open(&uri, arguments.read_preference.map(Into::into)).await?;
    Ok(MongoSource::new(connection, selection))
}
