//! From what `tributary.yaml` and applications say to what runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_flow::TriggerLedger;
use tributary_functions::app::{self, App, Processor as AppProcessor, ServiceKind};
use tributary_functions::endpoint::{EndpointOptions, Endpoints};
use tributary_functions::script::{AppMetadata, Limits, Program, Source as Script};
use tributary_functions::services::{
    AwsClient, AwsSettings, HttpLimits, Reach, ReachSettings, ServiceSettings, Services,
};
use tributary_functions::trigger::{
    EventBridgeProcessor, Occasion, OnFailure, Policy, Processor, ScriptProcessor, Selection,
    Trigger,
};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::{self, FunctionOptions, Plan};

use super::fingerprint::{fingerprint, of_services, place_text, seen};
use super::known::{Known, unknown_triggers};
use super::reach::{Deployments, is_deployment, no_source, other_service, outbound, source_of};
use super::source::{function_name, read, read_function, secrets_as_values};
use crate::ingest::Logs;

/// All that a plan has run.
pub(super) struct Built {
    /// What runs, and those that do not.
    pub(super) triggers: Vec<Trigger>,
    /// What is known of each.
    pub(super) known: Vec<Known>,
    /// Endpoints, by the names of their applications.
    pub(super) endpoints: BTreeMap<String, Arc<Endpoints>>,
}

/// An application, ready to run.
pub(super) struct Ready {
    pub(super) app: App,
    pub(super) program: Arc<Program>,
    pub(super) services: Arc<dyn Services>,
    pub(super) limits: Limits,
    aws: Option<AwsSettings>,
    /// Changes with everything that its functions see.
    seen: u64,
}

/// How many threads functions that run side by side are spread over.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Reads all applications of a plan, and makes of them and of its own triggers what is to run.
pub(super) async fn build(
    plan: &Plan,
    ledger: &Arc<dyn TriggerLedger>,
    logs: &Arc<Logs>,
) -> Result<Built> {
    let mut deployments = Deployments::new(Arc::clone(logs));
    let mut built = Built {
        triggers: Vec::new(),
        known: Vec::new(),
        endpoints: BTreeMap::new(),
    };
    for app in plan.apps.values() {
        let ready = ready(app, &mut deployments)
            .await
            .map_err(|error| error.on("app", &app.name))?;
        unknown_triggers(app, &ready.app)?;
        for one in &ready.app.triggers {
            let trigger = of_app(app, &ready, one, &mut deployments).await?;
            built.triggers.push(trigger);
            built.known.push(Known::of_app(app, &ready.app, one));
        }
        if !ready.app.endpoints.is_empty() {
            let endpoints = Endpoints::new(
                app.name.clone(),
                ready.app.endpoints.clone(),
                &ready.program,
                EndpointOptions {
                    limits: ready.limits,
                    threads: threads(),
                    log_successes: app.options.log_successes,
                },
                Arc::clone(&ready.services),
                Arc::clone(ledger),
            );
            built
                .endpoints
                .insert(app.name.clone(), Arc::new(endpoints));
        }
    }
    for one in plan.triggers.values() {
        let trigger = of_plan(one, &mut deployments)
            .await
            .map_err(|error| error.on("trigger", &one.name))?;
        built.triggers.push(trigger);
        built.known.push(Known::of_plan(one));
    }
    Ok(built)
}

/// Reads an application, and sets its services up.
pub(super) async fn ready(app: &config::App, deployments: &mut Deployments) -> Result<Ready> {
    let read_here = app.clone();
    let read = tokio::task::spawn_blocking(move || read(&read_here))
        .await
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "reading the application ended early").because(error)
        })??;
    let mut services = BTreeMap::new();
    let mut aws = None;
    for service in read.services.values() {
        let settings = match service.kind {
            ServiceKind::MongoDb => match source_of(app, &service.name) {
                Some(end) => ServiceSettings::MongoDb(deployments.documents(end).await?),
                None => return Err(no_source(app, &service.name)),
            },
            _ => other_service(service, &app.reach)?,
        };
        if let ServiceSettings::Aws(settings) = &settings {
            aws.get_or_insert_with(|| settings.clone());
        }
        services.insert(service.name.clone(), settings);
    }
    let program = Arc::new(read.program());
    let reach = Reach::new(ReachSettings {
        services,
        outbound: outbound(&app.reach)?,
        limits: HttpLimits::default(),
    })?;
    Ok(Ready {
        seen: fingerprint(&[&seen(&program, &app.reach), &of_services(&read)]),
        program,
        services: Arc::new(reach),
        limits: limits(&app.options),
        aws,
        app: read,
    })
}

fn limits(options: &FunctionOptions) -> Limits {
    Limits {
        memory: options.memory,
        timeout: options.timeout,
        ..Limits::default()
    }
}

fn policy(options: &FunctionOptions, occasion: &Occasion, maximum_throughput: bool) -> Policy {
    /// Atlas runs 10,000 at once, and 50,000 with its option. Here they share the memory of a few threads.
    const MAXIMUM: usize = 1_000;
    Policy {
        retries: options.retries.times,
        wait: options.retries.wait,
        longest_wait: options.retries.longest_wait,
        on_failure: match options.on_failure {
            config::OnFailure::Skip => OnFailure::Skip,
            config::OnFailure::Suspend => OnFailure::Suspend,
        },
        auto_resume: options.auto_resume,
        concurrency: match maximum_throughput {
            true => options.concurrency.max(MAXIMUM),
            false => options.concurrency,
        },
        // An event as JavaScript's values takes several times the bytes that it has as BSON.
        bytes_in_flight: options.memory / 8 * threads_of(occasion, options),
        log_successes: options.log_successes,
        ..Policy::default()
    }
}

async fn of_app(
    app: &config::App,
    ready: &Ready,
    one: &app::Trigger,
    deployments: &mut Deployments,
) -> Result<Trigger> {
    let options = app.options_of(&one.name);
    let name = format!("{}/{}", app.name, one.name);
    let mut maximum_throughput = false;
    let occasion = match &one.event {
        app::TriggerEvent::Scheduled(scheduled) => Occasion::Moment {
            cron: Box::new(scheduled.cron.clone()),
            skip_catchup: scheduled.skip_catchup_events,
        },
        app::TriggerEvent::Database(database) => {
            maximum_throughput = database.maximum_throughput;
            let end = source_of(app, &database.service)
                .ok_or_else(|| no_source(app, &database.service))?;
            let selection = Selection {
                database: database.database.clone(),
                collection: database.collection.clone(),
                operations: database
                    .operations
                    .iter()
                    .map(|operation| operation.change_stream_name().to_owned())
                    .collect(),
                full_document: database.full_document,
                before_change: database.full_document_before_change,
                matching: database.matching.clone(),
                project: database.project.clone(),
                unordered: database.unordered,
                skip_catchup: database.skip_catchup_events,
                tolerate_resume_errors: database.tolerate_resume_errors,
            };
            Occasion::Change {
                source: deployments.events(end).await?,
                source_name: end.name.clone(),
                selection,
            }
        }
    };
    let (function, processor): (String, Arc<dyn Processor>) = match &one.function {
        AppProcessor::Function(function) => {
            let processor = ScriptProcessor::new(
                function.clone(),
                Arc::clone(&ready.program),
                limits(options),
                Arc::clone(&ready.services),
                threads_of(&occasion, options),
                selection_of(&occasion),
            );
            (function.clone(), Arc::new(processor))
        }
        AppProcessor::EventBridge(bus) => {
            let settings = AwsSettings {
                region: Some(bus.region.clone()),
                endpoint: app.reach.aws_endpoint.clone(),
                ..ready.aws.clone().unwrap_or_default()
            };
            let processor = EventBridgeProcessor::new(
                AwsClient::new(settings, HttpLimits::default())?,
                format!("tributary/{name}"),
                bus.extended_json,
            );
            ("EventBridge".to_owned(), Arc::new(processor))
        }
    };
    let is_disabled = options.disabled.unwrap_or(one.disabled);
    Ok(Trigger {
        fingerprint: fingerprint(&[
            &ready.seen,
            &format!("{:?}", one.event),
            &format!("{:?} {is_disabled}", one.function),
            &format!("{options:?}"),
            &place_text(app.source.iter().chain(app.data_sources.values())),
        ]),
        name,
        app: app.name.clone(),
        function,
        policy: policy(options, &occasion, maximum_throughput),
        occasion,
        processor,
        is_disabled,
    })
}

async fn of_plan(one: &config::Trigger, deployments: &mut Deployments) -> Result<Trigger> {
    let mut services = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    if let Some(end) = one.source.as_ref().filter(|end| is_deployment(end)) {
        // By its own name, and by the one that Atlas gives the first of them.
        for name in [end.name.as_str(), "mongodb-atlas"] {
            services.insert(
                name.to_owned(),
                ServiceSettings::MongoDb(deployments.documents(end).await?),
            );
            kinds.insert(name.to_owned(), ServiceKind::MongoDb.name().to_owned());
        }
    }
    services.insert(
        "aws".to_owned(),
        ServiceSettings::Aws(AwsSettings {
            region: one.reach.aws_region.clone(),
            endpoint: one.reach.aws_endpoint.clone(),
            ..AwsSettings::default()
        }),
    );
    kinds.insert("aws".to_owned(), ServiceKind::Aws.name().to_owned());
    let function = function_name(&one.function);
    let text = read_function(&one.function)?;
    let values = secrets_as_values(&one.reach)?;
    let program = Arc::new(Program {
        functions: [(
            function.clone(),
            Script {
                file: one.function.display().to_string(),
                text: Arc::from(text),
            },
        )]
        .into(),
        values,
        services: kinds,
        app: AppMetadata {
            name: one.name.clone(),
            id: one.name.clone(),
            ..AppMetadata::default()
        },
        ..Program::default()
    });
    let reach: Arc<dyn Services> = Arc::new(Reach::new(ReachSettings {
        services,
        outbound: outbound(&one.reach)?,
        limits: HttpLimits::default(),
    })?);
    let occasion = match &one.occasion {
        config::Occasion::Moments { cron, .. } => Occasion::Moment {
            cron: cron.clone(),
            skip_catchup: one.skip_catchup_events,
        },
        config::Occasion::Changes(changes) => {
            let Some(end) = &one.source else {
                return Err(Error::new(ErrorKind::Internal, "the trigger has no source"));
            };
            Occasion::Change {
                source: deployments.events(end).await?,
                source_name: end.name.clone(),
                selection: Selection {
                    database: changes.database.clone(),
                    collection: changes.collection.clone(),
                    operations: changes
                        .operations
                        .iter()
                        .map(|operation| operation.name().to_owned())
                        .collect(),
                    full_document: changes.full_document,
                    before_change: changes.full_document_before_change,
                    matching: changes.matching.clone(),
                    project: changes.project.clone(),
                    unordered: !changes.ordered,
                    skip_catchup: one.skip_catchup_events,
                    tolerate_resume_errors: changes.tolerate_resume_errors,
                },
            }
        }
    };
    let processor = ScriptProcessor::new(
        function.clone(),
        Arc::clone(&program),
        limits(&one.options),
        reach,
        threads_of(&occasion, &one.options),
        selection_of(&occasion),
    );
    Ok(Trigger {
        fingerprint: fingerprint(&[
            &seen(&program, &one.reach),
            &format!("{one:?}"),
            &place_text(one.source.iter()),
        ]),
        name: one.name.clone(),
        app: String::new(),
        function,
        policy: policy(&one.options, &occasion, false),
        occasion,
        processor: Arc::new(processor),
        is_disabled: one.is_disabled(),
    })
}

fn selection_of(occasion: &Occasion) -> Option<&Selection> {
    match occasion {
        Occasion::Change { selection, .. } => Some(selection),
        Occasion::Moment { .. } => None,
    }
}

/// Those that run one after the other need one thread.
fn threads_of(occasion: &Occasion, options: &FunctionOptions) -> usize {
    match selection_of(occasion) {
        Some(selection) if selection.unordered => threads().min(options.concurrency),
        _ => 1,
    }
}
