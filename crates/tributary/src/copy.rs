//! `tributary copy`.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tributary_flow::{LoadOptions, load};
use tributary_lake::{FileSink, Location, SinkOptions};
use tributary_model::{ErrorKind, Result};
use tributary_mongo::{Connection, MongoSource, Selection, SelectionOptions};

use crate::cli::{CollectionArguments, CopyArguments, Output, PartArguments};
use crate::console::{self, JsonProgress, TextProgress};
use crate::{DONE, FAILED, SharedObserver, mongodb_uri};

pub(crate) async fn run(arguments: CopyArguments, stop: CancellationToken) -> Result<u8> {
    let begun = Instant::now();
    let place = Location::parse(&arguments.target)?;
    let source = Arc::new(source(&arguments.source, &arguments.part).await?);
    let options = SinkOptions {
        format: arguments.format.format(arguments.json),
        overwrite: arguments.overwrite,
        position: None,
    };
    let sink = Arc::new(FileSink::new(place, options));
    let parallel = parallel(arguments.parallel);
    let observer: SharedObserver = match arguments.output {
        Output::Text => Arc::new(TextProgress::new()),
        Output::Json => Arc::new(JsonProgress::default()),
    };
    let report = load(
        source,
        sink,
        observer,
        LoadOptions { parallel },
        stop.clone(),
    )
    .await?;

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
