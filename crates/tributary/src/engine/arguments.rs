//! What `tributary.yaml` says as the arguments of the command that does the same. What it does not say is
//! as on the command line, whose parser gives it.

use clap::Parser;
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::{
    Copy, End, Files, FollowEntry, Format, JsonSpelling, OnDrop, OnLostHistory, OnSchemaChange,
    Place, ReadPreference, Route, Source, Stream, Text, Verify, Warehouse,
};
use url::form_urlencoded::Serializer;

use crate::cli::{
    self, Cli, CollectionArguments, Command, CopyArguments, OutputFormat, PublishArguments,
    SchemaPolicy, SyncArguments, VerifyArguments, WarehouseArguments,
};

/// A flow's; `once` if it ends when it has caught up.
pub(super) fn sync(route: &Route, options: &FollowEntry, once: bool) -> Result<SyncArguments> {
    let Some(Command::Sync(mut arguments)) = defaults("sync") else {
        return Err(unparsed());
    };
    arguments.source = collections(route);
    match &route.to.place {
        Place::Stream(stream) => {
            (arguments.target, arguments.publish) = of_stream(stream);
            // Two sources may have databases of the same name, and each has a position of its own.
            arguments.publish.state = Some(stream.positions.join(&route.from.name));
        }
        Place::Files(files) => (arguments.target, arguments.publish) = of_files(files),
        _ => address(&route.to).clone_into(&mut arguments.target),
    }
    arguments.warehouse = warehouse(route);
    arguments.once = once;
    let FollowEntry {
        commit_interval,
        retention,
        heartbeat,
        parallel,
        on_lost_history,
        on_drop,
        on_schema_change,
        history,
        deletion_vectors,
        symlink_manifest,
        index,
    } = options;
    let times = [
        (commit_interval, &mut arguments.commit_interval),
        (retention, &mut arguments.retention),
        (heartbeat, &mut arguments.heartbeat),
    ];
    for (said, argument) in times {
        if let Some(period) = said {
            *argument = period.0;
        }
    }
    arguments.parallel = parallel.map(|parallel| parallel.0);
    if let Some(choice) = on_lost_history {
        arguments.on_lost_history = match choice {
            OnLostHistory::Fail => cli::OnLostHistory::Fail,
            OnLostHistory::Reload => cli::OnLostHistory::Reload,
            OnLostHistory::Accept => cli::OnLostHistory::Accept,
        };
    }
    if let Some(choice) = on_drop {
        arguments.on_drop = match choice {
            OnDrop::Keep => cli::OnDrop::Keep,
            OnDrop::Clear => cli::OnDrop::Clear,
            OnDrop::Stop => cli::OnDrop::Stop,
        };
    }
    if let Some(policy) = on_schema_change {
        arguments.on_schema_change = match policy {
            OnSchemaChange::Evolve => SchemaPolicy::Evolve,
            OnSchemaChange::Rescue => SchemaPolicy::Rescue,
            OnSchemaChange::Stop => SchemaPolicy::Stop,
        };
    }
    arguments.history = history.unwrap_or(arguments.history);
    arguments.no_deletion_vectors = deletion_vectors.is_some_and(|wanted| !wanted);
    arguments.symlink_manifest = symlink_manifest.unwrap_or(arguments.symlink_manifest);
    arguments.index = index.as_ref().map(|path| path.as_str().into());
    Ok(*arguments)
}

pub(super) fn copy(work: &Copy) -> Result<CopyArguments> {
    let Some(Command::Copy(mut arguments)) = defaults("copy") else {
        return Err(unparsed());
    };
    arguments.source = collections(&work.route);
    address(&work.route.to).clone_into(&mut arguments.target);
    arguments.warehouse = warehouse(&work.route);
    arguments.part.filter = work.filter.as_ref().map(ToString::to_string);
    arguments.part.fields = texts(&work.fields);
    arguments.format = match work.format {
        Format::Delta => OutputFormat::Delta,
        Format::Parquet => OutputFormat::Parquet,
        Format::Jsonl => OutputFormat::Jsonl,
        Format::Csv => OutputFormat::Csv,
        Format::Avro => OutputFormat::Avro,
    };
    arguments.overwrite = work.overwrite;
    arguments.parallel = work.parallel.map(|parallel| parallel.0);
    Ok(*arguments)
}

pub(super) fn verify(work: &Verify) -> Result<VerifyArguments> {
    let Some(Command::Verify(mut arguments)) = defaults("verify") else {
        return Err(unparsed());
    };
    arguments.source = collections(&work.route);
    address(&work.route.to).clone_into(&mut arguments.target);
    arguments.wait = work.wait.unwrap_or(arguments.wait);
    arguments.parallel = work.parallel.map(|parallel| parallel.0);
    Ok(*arguments)
}

/// The address of a place, with its password.
pub(super) fn address(end: &End) -> &str {
    match &end.place {
        Place::Source(source) => source.uri.as_str(),
        // It has none: its log is found by its name.
        Place::Ingest(_) => &end.name,
        Place::Lake(lake) => lake,
        Place::Warehouse(warehouse) => warehouse.uri.as_str(),
        Place::Stream(stream) => &stream.uri,
        Place::Files(files) => &files.path,
    }
}

/// The address of a stream with all that leads to it, and how changes go there.
pub(crate) fn of_stream(stream: &Stream) -> (String, PublishArguments) {
    let Stream {
        uri,
        region,
        endpoint,
        partition_key,
        json,
        positions: _,
    } = stream;
    let mut query = Serializer::new(String::new());
    for (name, value) in [("region", region), ("endpoint", endpoint)] {
        if let Some(value) = value {
            query.append_pair(name, value.as_str());
        }
    }
    let publish = PublishArguments {
        json: Some(spelling(*json)),
        partition_key: partition_key.as_ref().map(ToString::to_string),
        ..PublishArguments::default()
    };
    (format!("{uri}?{}", query.finish()), publish)
}

/// The address of files of changes, and how these are written.
fn of_files(files: &Files) -> (String, PublishArguments) {
    let Files {
        path,
        json,
        gzip,
        batch_events,
    } = files;
    let publish = PublishArguments {
        changes: true,
        json: Some(spelling(*json)),
        batch_events: batch_events.map(|events| events.0),
        gzip: *gzip,
        ..PublishArguments::default()
    };
    (path.clone(), publish)
}

fn spelling(json: JsonSpelling) -> cli::JsonSpelling {
    match json {
        JsonSpelling::Relaxed => cli::JsonSpelling::Relaxed,
        JsonSpelling::Canonical => cli::JsonSpelling::Canonical,
    }
}

/// A command with a source and a target that are still to be said.
fn defaults(command: &str) -> Option<Command> {
    let parsed = Cli::try_parse_from(["tributary", command, "", ""]);
    parsed.ok().map(|cli| cli.command)
}

fn unparsed() -> Error {
    Error::new(ErrorKind::Internal, "the command line has no such command")
}

fn collections(route: &Route) -> CollectionArguments {
    let collections = texts(&route.collections);
    match &route.from.place {
        Place::Source(source) => of_source(source, collections),
        Place::Ingest(_)
        | Place::Lake(_)
        | Place::Warehouse(_)
        | Place::Stream(_)
        | Place::Files(_) => CollectionArguments {
            source: address(&route.from).to_owned(),
            collections,
            ..CollectionArguments::default()
        },
    }
}

/// Some collections of a source; none for all.
pub(crate) fn of_source(source: &Source, collections: Vec<String>) -> CollectionArguments {
    CollectionArguments {
        source: source.uri.as_str().to_owned(),
        collections,
        read_preference: source.read_preference.map(read_preference),
        log: None,
    }
}

/// Which members are read.
pub(crate) fn read_preference(preference: ReadPreference) -> cli::ReadPreference {
    match preference {
        ReadPreference::Primary => cli::ReadPreference::Primary,
        ReadPreference::PrimaryPreferred => cli::ReadPreference::PrimaryPreferred,
        ReadPreference::Secondary => cli::ReadPreference::Secondary,
        ReadPreference::SecondaryPreferred => cli::ReadPreference::SecondaryPreferred,
        ReadPreference::Nearest => cli::ReadPreference::Nearest,
    }
}

/// How a route into a warehouse gets there.
fn warehouse(route: &Route) -> WarehouseArguments {
    let Place::Warehouse(warehouse) = &route.to.place else {
        return WarehouseArguments::default();
    };
    let stage = match route.through.as_ref().map(|end| &end.place) {
        Some(Place::Lake(lake)) => Some(lake.clone()),
        _ => None,
    };
    WarehouseArguments {
        stage,
        ..of_warehouse(warehouse)
    }
}

/// How a warehouse is written to.
pub(crate) fn of_warehouse(warehouse: &Warehouse) -> WarehouseArguments {
    let Warehouse {
        uri: _,
        s3_staging,
        iam_role,
        layouts,
    } = warehouse;
    let mut arguments = WarehouseArguments {
        s3_staging: s3_staging.as_ref().map(ToString::to_string),
        iam_role: iam_role.as_ref().map(ToString::to_string),
        ..WarehouseArguments::default()
    };
    for (table, layout) in layouts {
        let of_table = |value: &str| match table {
            Some(table) => format!("{table}={value}"),
            None => value.to_owned(),
        };
        let distribution = layout.distribution.iter();
        arguments
            .distribution
            .extend(distribution.map(|style| of_table(style.as_str())));
        if !layout.sort_key.is_empty() {
            let fields = texts(&layout.sort_key).join(",");
            arguments.sort_key.push(of_table(&fields));
        }
        if !layout.primary_key.is_empty() {
            let fields = texts(&layout.primary_key).join(",");
            arguments.primary_key.push(of_table(&fields));
        }
    }
    arguments
}

fn texts(texts: &[Text]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}
