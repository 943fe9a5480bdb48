//! `tributary copy`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tributary_flow::{LoadOptions, LoadReport, SnapshotSource, load};
use tributary_lake::{FileSink, Location, SinkOptions, WholeCopy};
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
    let (report, copy) = into_files(&arguments, &arguments.target, observer, &stop).await?;
    conclude(&copy, failures(&report), arguments.overwrite).await?;

    let seconds = begun.elapsed().as_secs_f64();
    let interrupted = report.collections.iter().any(|outcome| {
        outcome
            .result
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Interrupted)
    });
    let failed: Vec<_> = failures(&report)
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

/// Why collections have failed.
pub(crate) fn failures(report: &LoadReport) -> impl Iterator<Item = &Error> {
    let outcomes = report.collections.iter();
    outcomes.filter_map(|outcome| outcome.result.as_ref().err())
}

/// Ends a copy that has come to its end, so that the same arguments are another copy from now on. One
/// that was interrupted is gone on with, and so is one that has failed, unless it is to replace what is there:
/// that is loaded anew then.
pub(crate) async fn conclude(
    copy: &WholeCopy,
    failures: impl Iterator<Item = &Error>,
    overwrite: bool,
) -> Result<()> {
    let (mut has_failed, mut is_interrupted) = (false, false);
    for error in failures {
        has_failed = true;
        is_interrupted |= error.kind() == ErrorKind::Interrupted;
    }
    match has_failed && (is_interrupted || !overwrite) {
        true => Ok(()),
        false => copy.end().await,
    }
}

/// Loads the collections of a MongoDB into tables or files below `target`. The copy is to be ended by
/// [`conclude`] when nothing is left to be done.
pub(crate) async fn into_files(
    arguments: &CopyArguments,
    target: &str,
    observer: SharedObserver,
    stop: &CancellationToken,
) -> Result<(LoadReport, WholeCopy)> {
    let place = Location::parse(target)?;
    let (source, database) = connected(&arguments.source, &arguments.part).await?;
    let format = arguments.format.format(arguments.json);
    let copy = match &arguments.name {
        Some(name) => WholeCopy::named(name),
        None => {
            let (from, collections) = (source.address(), &arguments.source.collections);
            let text = format!("{from} {database:?} {collections:?} {}", format.name());
            WholeCopy::with_arguments(&place, &text, arguments.overwrite)
        }
    };
    let options = SinkOptions {
        format,
        overwrite: arguments.overwrite,
        position: None,
        lacking: HashMap::new(),
        copy_on_write: false,
        symlink_manifest: arguments.symlink_manifest,
    };
    let sink = FileSink::new(place, options).part_of(copy.clone());
    let parallel = parallel(arguments.parallel);
    let report = load(
        Arc::new(source),
        Arc::new(sink),
        observer,
        LoadOptions { parallel },
        stop.clone(),
    );
    Ok((report.await?, copy))
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
    connected(arguments, part).await.map(|(source, _)| source)
}

/// The source, and the one database that it is of.
async fn connected(
    arguments: &CollectionArguments,
    part: &PartArguments,
) -> Result<(MongoSource, Option<String>)> {
    let selection = Selection::new(&SelectionOptions {
        collections: arguments.collections.clone(),
        filter: part.filter.clone(),
        fields: part.fields.clone(),
    })?;
    let uri = mongodb_uri(&arguments.source)?;
    let connection = Connection::open(&uri, arguments.read_preference.map(Into::into)).await?;
    let database = connection.database().map(str::to_owned);
    Ok((MongoSource::new(connection, selection), database))
}
