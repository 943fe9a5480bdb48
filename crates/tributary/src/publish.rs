//! `tributary sync` of the change events themselves: into files, or to a stream.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_convert::extjson::Mode;
use tributary_flow::{
    Applied, Publish, PublishOptions, PublishReport, Publisher, SyncOutcome, SyncReport, Watch,
    publish,
};
use tributary_functions::publish::{KinesisPublisher, KinesisSettings};
use tributary_functions::services::AwsSettings;
use tributary_lake::{ChangeFiles, ChangeFilesOptions, JsonMode, Location};
use tributary_model::{Error, ErrorKind, Result};
use tributary_mongo::{Connection, MongoEvents, Selection, SelectionOptions};

use crate::cli::{
    JsonSpelling, OnDrop, OnLostHistory, PublishArguments, SchemaPolicy, SyncArguments,
};
use crate::warehouse::{DEFAULT_RETENTION, refuse_because, refuse_options};
use crate::{SharedObserver, address, mongodb_uri};

const KINESIS: &str = "kinesis://";
/// Where the position of a stream is kept, unless another directory is given.
const STATE: &str = "tributary.state";
/// How many events a file holds, unless it is said.
const EVENTS_PER_FILE: usize = 1000;

/// Where change events go.
enum Target {
    Files(Location),
    Kinesis { stream: String, aws: AwsSettings },
}

/// Whether the change events themselves are wanted.
pub(crate) fn is_wanted(arguments: &SyncArguments) -> bool {
    arguments.publish.changes
        || address(&arguments.target).is_ok_and(|target| target.starts_with(KINESIS))
}

/// Refuses what is for change events where tables are wanted.
pub(crate) fn refuse_publishing(arguments: &PublishArguments) -> Result<()> {
    refuse_because(
        "the option is for changes that go on as they are",
        "leave it out, or give --changes to write the changes in place of tables",
        &[
            ("--json", arguments.json.is_some()),
            ("--batch-events", arguments.batch_events.is_some()),
            ("--gzip", arguments.gzip),
            ("--partition-key", arguments.partition_key.is_some()),
            ("--state", arguments.state.is_some()),
        ],
    )
}

/// Follows the events of the collections to where they are wanted.
pub(crate) async fn sync(
    arguments: &SyncArguments,
    observer: SharedObserver,
    stop: &CancellationToken,
) -> Result<SyncReport> {
    refuse_tables(arguments)?;
    let target = Target::parse(&address(&arguments.target)?)?;
    target.refuse(&arguments.publish)?;
    let selection = Selection::new(&SelectionOptions {
        collections: arguments.source.collections.clone(),
        ..SelectionOptions::default()
    })?;
    let uri = mongodb_uri(&arguments.source.source)?;
    let read_from = arguments.source.read_preference.map(Into::into);
    let connection = Connection::open(&uri, read_from).await?;
    let database = connection.database().map(str::to_owned);
    let watch = Watch {
        wanted: Vec::new(),
        database: database.clone(),
        collection: None,
        stages: vec![selection.event_stage()?],
        is_projected: false,
        full_document: true,
        before_change: true,
        expanded: false,
    };
    let remedy = target.how_to_begin_anew(&arguments.publish);
    let report = publish(
        Publish {
            source: Arc::new(MongoEvents::new(connection)),
            watch,
            publisher: target.publisher(&arguments.publish, database)?,
            observer,
            options: PublishOptions {
                interval: arguments.commit_interval,
                heartbeat: arguments.heartbeat,
                once: arguments.once,
                ..PublishOptions::default()
            },
        },
        stop.clone(),
    )
    .await;
    match report {
        Ok(report) => Ok(told(report)),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(SyncReport::default()),
        Err(error) if error.kind() == ErrorKind::HistoryLost => Err(error.remedy(remedy)),
        Err(error) => Err(error),
    }
}

/// Looks whether changes can go to a place, and leaves nothing there.
pub(crate) async fn reach(target: &str, arguments: &PublishArguments) -> Result<()> {
    Target::parse(target)?.reach(arguments).await
}

/// Refuses what says how tables are made and kept.
fn refuse_tables(arguments: &SyncArguments) -> Result<()> {
    refuse_options(&arguments.warehouse)?;
    refuse_because(
        "the option is for tables, and the changes themselves are wanted",
        "leave it out",
        &[
            ("--retention", arguments.retention != DEFAULT_RETENTION),
            ("--parallel", arguments.parallel.is_some()),
            (
                "--on-lost-history",
                arguments.on_lost_history != OnLostHistory::Fail,
            ),
            ("--on-drop", arguments.on_drop != OnDrop::Keep),
            (
                "--on-schema-change",
                arguments.on_schema_change != SchemaPolicy::Evolve,
            ),
            ("--history", arguments.history),
            ("--no-deletion-vectors", arguments.no_deletion_vectors),
            ("--symlink-manifest", arguments.symlink_manifest),
            ("--overwrite", arguments.overwrite),
            ("--index", arguments.index.is_some()),
        ],
    )
}

impl Target {
    fn parse(text: &str) -> Result<Self> {
        let Some(stream) = text.strip_prefix(KINESIS) else {
            if crate::warehouse::is_address(text) {
                return Err(Error::new(
                    ErrorKind::Usage,
                    "--changes is for a directory, a bucket or a container",
                )
                .remedy("leave it out to have tables in the warehouse"));
            }
            return Ok(Self::Files(Location::parse(text)?));
        };
        let (stream, query) = stream.split_once('?').unwrap_or((stream, ""));
        let (mut region, mut endpoint) = (None, None);
        for (name, value) in form_pairs(query) {
            match name.as_ref() {
                "region" => region = Some(value.into_owned()),
                "endpoint" => endpoint = Some(value.into_owned()),
                _ => {
                    return Err(Error::new(
                        ErrorKind::Usage,
                        "not an option of a stream's address",
                    )
                    .on("option", name)
                    .remedy("write it as kinesis://STREAM?region=REGION&endpoint=URL"));
                }
            }
        }
        Ok(Self::Kinesis {
            stream: stream.to_owned(),
            aws: AwsSettings {
                region,
                endpoint,
                ..AwsSettings::default()
            },
        })
    }

    /// Refuses what is for the other sort of target.
    fn refuse(&self, arguments: &PublishArguments) -> Result<()> {
        match self {
            Self::Files(_) => refuse_because(
                "the option is for Kinesis, and the changes go into files",
                "leave it out",
                &[
                    ("--partition-key", arguments.partition_key.is_some()),
                    ("--state", arguments.state.is_some()),
                ],
            ),
            Self::Kinesis { .. } => refuse_because(
                "the option is for files of changes, and a stream has none",
                "leave it out: a stream always takes the changes themselves, a record each",
                &[
                    ("--changes", arguments.changes),
                    ("--batch-events", arguments.batch_events.is_some()),
                    ("--gzip", arguments.gzip),
                ],
            ),
        }
    }

    async fn reach(self, arguments: &PublishArguments) -> Result<()> {
        match self {
            Self::Files(place) => place.probe().await,
            Self::Kinesis { stream, aws } => kinesis(stream, aws, arguments, None)?.check().await,
        }
    }

    fn publisher(
        self,
        arguments: &PublishArguments,
        database: Option<String>,
    ) -> Result<Box<dyn Publisher>> {
        match self {
            Self::Files(place) => {
                let events = arguments.batch_events;
                let options = ChangeFilesOptions {
                    json: match arguments.json {
                        Some(JsonSpelling::Canonical) => JsonMode::Canonical,
                        Some(JsonSpelling::Relaxed) | None => JsonMode::Relaxed,
                    },
                    gzip: arguments.gzip,
                    events_per_file: events.map_or(EVENTS_PER_FILE, |events| events as usize),
                    database,
                };
                Ok(Box::new(ChangeFiles::new(place, options)))
            }
            Self::Kinesis { stream, aws } => {
                Ok(Box::new(kinesis(stream, aws, arguments, database)?))
            }
        }
    }

    /// What to do where the changes that come next are forgotten.
    fn how_to_begin_anew(&self, arguments: &PublishArguments) -> String {
        match self {
            Self::Files(place) => format!(
                "those changes are lost: remove {place}/_changes.state to go on from the present"
            ),
            Self::Kinesis { stream, .. } => format!(
                "those changes are lost: remove the stream's file kinesis-{stream}-… from {} to go on from the \
                 present",
                state(arguments).display()
            ),
        }
    }
}

fn kinesis(
    stream: String,
    aws: AwsSettings,
    arguments: &PublishArguments,
    database: Option<String>,
) -> Result<KinesisPublisher> {
    // How far a stream has got is remembered by its region, wherever that is said.
    let region = aws
        .region
        .or_else(|| std::env::var("AWS_REGION").ok())
        .or_else(|| std::env::var("AWS_DEFAULT_REGION").ok());
    KinesisPublisher::new(KinesisSettings {
        stream,
        aws: AwsSettings { region, ..aws },
        partition_key: arguments.partition_key.clone(),
        json: match arguments.json {
            Some(JsonSpelling::Canonical) => Mode::Canonical,
            Some(JsonSpelling::Relaxed) | None => Mode::Relaxed,
        },
        state: state(arguments),
        database,
    })
}

/// The directory that positions of streams are kept in.
fn state(arguments: &PublishArguments) -> PathBuf {
    arguments.state.clone().unwrap_or_else(|| STATE.into())
}

/// The names and values of a query.
fn form_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    url::form_urlencoded::parse(query.as_bytes())
}

/// The same as what became of tables.
fn told(report: PublishReport) -> SyncReport {
    let PublishReport {
        place,
        position: _,
        collections,
        other_events,
    } = report;
    let collections = collections.into_iter().map(|(namespace, collection)| {
        let applied: Applied = collection.applied;
        SyncOutcome {
            namespace,
            loaded: None,
            table: place.clone(),
            changes: collection.events,
            applied,
            gaps: Vec::new(),
            failure: None,
        }
    });
    SyncReport {
        collections: collections.collect(),
        other_events,
    }
}
