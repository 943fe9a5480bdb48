//! `tributary copy` and `tributary sync` into a warehouse: from a lake, or from MongoDB through one.

mod staging;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tributary_flow::{SyncReport, TableOptions, TableSink, TableSource, take_over};
use tributary_lake::{LakeFeed, Location, S3Stage};
use tributary_model::{Error, ErrorKind, Namespace, OnSchemaChange, Result};
use tributary_mongo::{Connection, Selection, SelectionOptions};
use tributary_warehouse::{
    RedshiftOptions, Server, TableLayouts, WarehouseOptions, postgres_sink, redshift_sink,
};

use crate::cli::{
    CollectionArguments, CopyArguments, JsonSpelling, OnDrop, OnLostHistory, OutputFormat,
    SyncArguments, WarehouseArguments,
};
use crate::{SharedObserver, address, console, copy, is_mongodb, sync};
use staging::{Staged, Staging};

/// What `sync` takes where these are not given.
pub(crate) const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(600);

/// Whether a target is a warehouse; one that cannot be read from the environment is told later.
pub(crate) fn is_address(target: &str) -> bool {
    address(target).is_ok_and(|address| Server::of(&address).is_some())
}

/// Takes over what a lake holds now.
pub(crate) async fn copy(
    arguments: &CopyArguments,
    observer: SharedObserver,
    stop: &CancellationToken,
) -> Result<SyncReport> {
    let sink = SinkArguments::new(
        &arguments.target,
        &arguments.warehouse,
        arguments.overwrite,
        OnSchemaChange::Evolve,
    )?;
    let transfer = Transfer::new(&arguments.source, &arguments.warehouse, sink).await?;
    let part = &arguments.part;
    if !transfer.is_staged {
        refuse(&[
            ("--filter", part.filter.is_some()),
            ("--fields", !part.fields.is_empty()),
            (
                "--read-preference",
                arguments.source.read_preference.is_some(),
            ),
        ])?;
    }
    refuse(&[
        ("--format", arguments.format != OutputFormat::Delta),
        ("--json", arguments.json != JsonSpelling::Relaxed),
    ])?;
    let mut staged = None;
    if transfer.is_staged {
        let staging = Arc::new(Staging::new(Arc::clone(&observer)));
        let (report, copy) = copy::into_files(arguments, &transfer.lake, staging, stop).await?;
        if copy::failures(&report).next().is_some() {
            copy::conclude(&copy, copy::failures(&report), arguments.overwrite).await?;
        }
        for outcome in report.collections {
            outcome.result?;
        }
        staged = Some(copy);
    }
    let options = TableOptions {
        interval: Duration::from_secs(1),
        parallel: copy::parallel(arguments.parallel),
        once: true,
    };
    let report = transfer.run(options, observer, None, stop).await?;
    if let Some(copy) = staged
        && !stop.is_cancelled()
    {
        let collections = report.collections.iter();
        let failures = collections.filter_map(|collection| collection.failure.as_ref());
        copy::conclude(&copy, failures, arguments.overwrite).await?;
    }
    Ok(report)
}

/// Hears what became of the collections on their way into the lake before a warehouse.
pub(crate) type ToldStaged = dyn Fn(&SyncReport) + Send + Sync;

/// Takes over what a lake holds, and then each of its versions.
pub(crate) async fn sync(
    arguments: &SyncArguments,
    observer: SharedObserver,
    told_staged: &ToldStaged,
    stop: &CancellationToken,
) -> Result<SyncReport> {
    let sink = SinkArguments::new(
        &arguments.target,
        &arguments.warehouse,
        arguments.overwrite,
        arguments.on_schema_change.into(),
    )?;
    let transfer = Transfer::new(&arguments.source, &arguments.warehouse, sink).await?;
    let options = TableOptions {
        interval: arguments.commit_interval,
        parallel: copy::parallel(arguments.parallel),
        once: arguments.once,
    };
    if !transfer.is_staged {
        refuse(&[
            (
                "--read-preference",
                arguments.source.read_preference.is_some(),
            ),
            ("--history", arguments.history),
            ("--index", arguments.index.is_some()),
            ("--retention", arguments.retention != DEFAULT_RETENTION),
            ("--heartbeat", arguments.heartbeat != DEFAULT_HEARTBEAT),
            ("--no-deletion-vectors", arguments.no_deletion_vectors),
            ("--on-drop", arguments.on_drop != OnDrop::Keep),
            (
                "--on-lost-history",
                arguments.on_lost_history != OnLostHistory::Fail,
            ),
        ])?;
        return transfer.run(options, observer, None, stop).await;
    }
    let staging = Arc::new(Staging::new(Arc::clone(&observer)));
    let staged = sync::into_lake(arguments, &transfer.lake, staging.clone(), stop);
    if arguments.once {
        told_staged(&staged.await?);
        return transfer.run(options, observer, None, stop).await;
    }
    // The one that fails as a whole ends the other.
    let both = stop.child_token();
    let staged = async {
        let ended = staged.await;
        both.cancel();
        ended
    };
    let taken = async {
        let ended = transfer
            .run_when_there(options, observer, staging, &both)
            .await;
        if ended.is_err() {
            stop.cancel();
        }
        ended
    };
    let (staged, taken) = tokio::join!(staged, taken);
    told_staged(&staged?);
    taken
}

/// Refuses the options that say nothing about taking a lake over.
fn refuse(options: &[(&str, bool)]) -> Result<()> {
    let why = "the option has no meaning for a lake that is taken over into a warehouse";
    let remedy = "leave it out: it is for what follows a MongoDB into the lake";
    refuse_because(why, remedy, options)
}

/// Refuses the first of the options that is given.
pub(crate) fn refuse_because(why: &str, remedy: &str, options: &[(&str, bool)]) -> Result<()> {
    match options.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(ErrorKind::Usage, why)
            .on("option", name)
            .remedy(remedy)),
    }
}

/// Refuses what is for warehouses where the target is none.
pub(crate) fn refuse_options(arguments: &WarehouseArguments) -> Result<()> {
    if let Some(lake) = &arguments.stage {
        return Err(Error::new(ErrorKind::Usage, "--stage is for a warehouse")
            .on("stage", lake)
            .remedy("leave it out: the target is a lake already"));
    }
    refuse_because(
        "the option is for a warehouse",
        "leave it out",
        &[
            ("--s3-staging", arguments.s3_staging.is_some()),
            ("--iam-role", arguments.iam_role.is_some()),
            ("--distribution", !arguments.distribution.is_empty()),
            ("--sort-key", !arguments.sort_key.is_empty()),
            ("--primary-key", !arguments.primary_key.is_empty()),
        ],
    )
}

/// The warehouse, and how its tables are made.
pub(crate) struct SinkArguments {
    address: String,
    replace: bool,
    layouts: TableLayouts,
    on_schema_change: OnSchemaChange,
    redshift: Option<RedshiftOptions>,
}

impl SinkArguments {
    pub(crate) fn new(
        target: &str,
        arguments: &WarehouseArguments,
        replace: bool,
        on_schema_change: OnSchemaChange,
    ) -> Result<Self> {
        let address = address(target)?;
        let is_redshift = Server::of(&address) == Some(Server::Redshift);
        if !is_redshift {
            refuse_because(
                "the option is for Redshift",
                "leave it out",
                &[
                    ("--s3-staging", arguments.s3_staging.is_some()),
                    ("--iam-role", arguments.iam_role.is_some()),
                    ("--distribution", !arguments.distribution.is_empty()),
                    ("--sort-key", !arguments.sort_key.is_empty()),
                ],
            )?;
        }
        let mut layouts = TableLayouts::default();
        for said in &arguments.distribution {
            layouts.distribute(said)?;
        }
        for said in &arguments.sort_key {
            layouts.sort(said)?;
        }
        for said in &arguments.primary_key {
            layouts.key(said)?;
        }
        let redshift = match &arguments.s3_staging {
            Some(prefix) => Some(RedshiftOptions {
                stage: Arc::new(S3Stage::new(prefix)?),
                role: arguments.iam_role.clone(),
            }),
            None if is_redshift => {
                return Err(Error::new(
                    ErrorKind::Usage,
                    "Redshift copies rows from S3, and no place there is given",
                )
                .remedy("name one with --s3-staging s3://bucket/prefix, and the role that may read it with --iam-role"));
            }
            None => None,
        };
        Ok(Self {
            address,
            replace,
            layouts,
            on_schema_change,
            redshift,
        })
    }

    pub(crate) fn sink(&self, source: String) -> Result<Arc<dyn TableSink>> {
        let options = WarehouseOptions {
            source,
            replace: self.replace,
            layouts: self.layouts.clone(),
            on_schema_change: self.on_schema_change,
        };
        match &self.redshift {
            Some(redshift) => redshift_sink(&self.address, options, redshift.clone()),
            None => postgres_sink(&self.address, options),
        }
    }
}

/// Tells which collections did not reach the lake.
pub(crate) fn tell_failures(staged: &SyncReport) {
    for collection in &staged.collections {
        if let Some(error) = &collection.failure {
            console::report(error);
        }
    }
}

/// What is taken over, and where to.
struct Transfer {
    sink: SinkArguments,
    lake: String,
    /// The lake is filled at the same time.
    is_staged: bool,
    /// The only database that is taken over.
    database: Option<String>,
    selection: Selection,
}

impl Transfer {
    async fn new(
        source: &CollectionArguments,
        arguments: &WarehouseArguments,
        sink: SinkArguments,
    ) -> Result<Self> {
        let stage = arguments.stage.as_deref();
        let selection = Selection::new(&SelectionOptions {
            collections: source.collections.clone(),
            ..SelectionOptions::default()
        })?;
        if let (Some(_), Some(lake)) = (&source.log, stage) {
            return Ok(Self {
                sink,
                lake: lake.to_owned(),
                is_staged: true,
                database: None,
                selection,
            });
        }
        let from = address(&source.source)?;
        if !is_mongodb(&from) {
            if stage.is_some() {
                return Err(Error::new(ErrorKind::Usage, "--stage is for a MongoDB")
                    .on("source", &source.source)
                    .remedy("leave it out: the source is a lake already"));
            }
            return Ok(Self {
                sink,
                lake: from,
                is_staged: false,
                database: None,
                selection,
            });
        }
        let Some(lake) = stage else {
            return Err(Error::new(
                ErrorKind::Usage,
                "a MongoDB is taken into a warehouse through a lake",
            )
            .remedy("name the lake with --stage, or take an existing one as the source"));
        };
        let connection = Connection::open(&from, None).await?;
        Ok(Self {
            sink,
            lake: lake.to_owned(),
            is_staged: true,
            database: connection.database().map(str::to_owned),
            selection,
        })
    }

    /// `staging` knows the lake's tables while they are being filled.
    async fn run(
        &self,
        options: TableOptions,
        observer: SharedObserver,
        staging: Option<Arc<Staging>>,
        stop: &CancellationToken,
    ) -> Result<SyncReport> {
        let place = Location::parse(&self.lake)?;
        let sink = self.sink.sink(place.to_string())?;
        let (database, selection) = (self.database.clone(), self.selection.clone());
        let feed = LakeFeed::new(place, move |table: &Namespace| {
            database.as_ref().is_none_or(|name| *name == table.database)
                && selection.includes(&table.collection)
        });
        let feed: Arc<dyn TableSource> = match staging {
            Some(staging) => Arc::new(Staged { feed, staging }),
            None => Arc::new(feed),
        };
        take_over(feed, sink, observer, options, stop.clone()).await
    }

    /// As [`run`](Self::run), from when the lake has its first table on.
    async fn run_when_there(
        &self,
        options: TableOptions,
        observer: SharedObserver,
        staging: Arc<Staging>,
        stop: &CancellationToken,
    ) -> Result<SyncReport> {
        loop {
            let (options, observer) = (options.clone(), Arc::clone(&observer));
            let staging = Some(Arc::clone(&staging));
            match self.run(options, observer, staging, stop).await {
                Err(error) if error.kind() == ErrorKind::NotFound && !stop.is_cancelled() => {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(Duration::from_millis(200)) => {}
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(SyncReport::default());
                }
                ended => return ended,
            }
        }
    }
}
