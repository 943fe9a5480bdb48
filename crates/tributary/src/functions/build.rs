//! From what `tributary.yaml` and applications say to what runs.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use croner::Cron;
use serde::Serialize;
use tributary_flow::{DocumentStore, EventSource, TriggerLedger};
use tributary_functions::app::{
    self, App, AppSettings, Finding, Processor as AppProcessor, ServiceKind, Summary,
};
use tributary_functions::endpoint::Endpoints;
use tributary_functions::script::{Limits, Program, Source as Script};
use tributary_functions::services::{
    AwsClient, AwsSettings, HttpLimits, OutboundRules, PushCredentials, PushSettings, Reach,
    ReachSettings, ServiceSettings, Services, TWILIO, TwilioSettings,
};
use tributary_functions::trigger::{
    self, EventBridgeProcessor, Occasion, OnFailure, Policy, Processor, ScriptProcessor, Selection,
    Trigger,
};
use tributary_model::{Error, ErrorKind, Result};
use tributary_mongo::{Connection, MongoDocuments, MongoEvents};
use tributary_orchestrator::config::{self, End, FunctionOptions, Place, Plan};
use tributary_orchestrator::engine::KnownTrigger;
use tributary_orchestrator::status::TriggerKind;

use crate::address;
use crate::engine::arguments::read_preference;

/// A larger function of a trigger without an application is a mistake.
const LARGEST_FUNCTION: u64 = 8 << 20;

/// All that a plan has run.
pub(super) struct Built {
    /// What runs, and those that do not.
    pub(super) triggers: Vec<Trigger>,
    /// What is known of each.
    pub(super) known: Vec<Known>,
    /// Endpoints, by the names of their applications.
    pub(super) endpoints: BTreeMap<String, Arc<Endpoints>>,
}

/// A trigger, whether it runs or not.
pub(super) struct Known {
    trigger: KnownTrigger,
    /// When it runs, where it runs at moments.
    cron: Option<Cron>,
}

impl Known {
    /// What is known of it now.
    pub(super) fn now(&self) -> KnownTrigger {
        let next = self
            .cron
            .as_ref()
            .and_then(|cron| cron.find_next_occurrence(&Utc::now(), false).ok());
        KnownTrigger {
            next_at: next,
            ..self.trigger.clone()
        }
    }

    fn of_app(app: &config::App, one: &app::Trigger) -> Self {
        let (kind, watches, source, cron) = match &one.event {
            app::TriggerEvent::Scheduled(scheduled) => (
                TriggerKind::Scheduled,
                scheduled.text.clone(),
                None,
                Some(scheduled.cron.clone()),
            ),
            app::TriggerEvent::Database(database) => {
                let watches = match (&database.database, &database.collection) {
                    (Some(database), Some(collection)) => format!("{database}.{collection}"),
                    (Some(database), None) => database.clone(),
                    (None, _) => "all databases".to_owned(),
                };
                let source = source_of(app, &database.service).map(|end| end.name.clone());
                (TriggerKind::Database, watches, source, None)
            }
        };
        let options = app.options_of(&one.name);
        Self {
            trigger: KnownTrigger {
                name: format!("{}/{}", app.name, one.name),
                app: Some(app.name.clone()),
                kind,
                function: match &one.function {
                    AppProcessor::Function(function) => function.clone(),
                    AppProcessor::EventBridge(_) => "EventBridge".to_owned(),
                },
                source,
                watches,
                is_disabled: options.disabled.unwrap_or(one.disabled),
                next_at: None,
            },
            cron,
        }
    }

    fn of_plan(one: &config::Trigger) -> Self {
        let cron = match &one.occasion {
            config::Occasion::Moments { cron, .. } => Some((**cron).clone()),
            config::Occasion::Changes(_) => None,
        };
        Self {
            trigger: KnownTrigger::of(one),
            cron,
        }
    }
}

/// All triggers of a plan, those of its applications included.
///
/// # Errors
/// An application cannot be read.
pub(crate) fn known(plan: &Plan) -> Result<Vec<KnownTrigger>> {
    let mut all = Vec::new();
    for app in plan.apps.values() {
        let read = read(app).map_err(|error| error.on("app", &app.name))?;
        all.extend(
            read.triggers
                .iter()
                .map(|one| Known::of_app(app, one).now()),
        );
    }
    all.extend(plan.triggers.values().map(|one| Known::of_plan(one).now()));
    Ok(all)
}

/// What an application has, and what of it cannot be honoured.
#[derive(Debug, Serialize)]
pub(crate) struct AppReport {
    /// Its name.
    pub(crate) name: String,
    /// What it has.
    pub(crate) summary: Summary,
    /// What cannot be honoured.
    pub(crate) findings: Vec<Finding>,
}

/// Looks at all applications and functions of a plan, and reaches nothing.
///
/// # Errors
/// One of them could not run.
pub(crate) fn look(plan: &Plan) -> Result<Vec<AppReport>> {
    let mut reports = Vec::new();
    for app in plan.apps.values() {
        let look = || {
            let read = read(app)?;
            unknown_triggers(app, &read)?;
            outbound(&app.reach)?;
            for service in read.services.values() {
                match service.kind {
                    ServiceKind::MongoDb if source_of(app, &service.name).is_none() => {
                        return Err(no_source(app, &service.name));
                    }
                    ServiceKind::MongoDb => {}
                    _ => drop(other_service(service, &app.reach)?),
                }
            }
            Ok(read)
        };
        let read: App = look().map_err(|error: Error| error.on("app", &app.name))?;
        reports.push(AppReport {
            name: app.name.clone(),
            summary: read.summary(),
            findings: read.findings,
        });
    }
    for trigger in plan.triggers.values() {
        let on = |error: Error| error.on("trigger", &trigger.name);
        read_function(&trigger.function).map_err(on)?;
        outbound(&trigger.reach).map_err(on)?;
    }
    Ok(reports)
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

/// Deployments, each connected to once.
#[derive(Default)]
pub(super) struct Deployments(BTreeMap<String, Connection>);

impl Deployments {
    pub(super) async fn connection(&mut self, end: &End) -> Result<Connection> {
        if let Some(connection) = self.0.get(&end.name) {
            return Ok(connection.clone());
        }
        let Place::Source(source) = &end.place else {
            return Err(Error::new(ErrorKind::Internal, "a source is none").on("name", &end.name));
        };
        let uri = address(source.uri.as_str())?;
        let connection = Connection::open(
            &uri,
            source
                .read_preference
                .map(|preference| read_preference(preference).into()),
        )
        .await?;
        self.0.insert(end.name.clone(), connection.clone());
        Ok(connection)
    }

    async fn documents(&mut self, end: &End) -> Result<Arc<dyn DocumentStore>> {
        Ok(Arc::new(MongoDocuments::new(self.connection(end).await?)))
    }

    async fn events(&mut self, end: &End) -> Result<Arc<dyn EventSource>> {
        Ok(Arc::new(MongoEvents::new(self.connection(end).await?)))
    }
}

/// How many threads functions that run side by side are spread over.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Reads all applications of a plan, and makes of them and of its own triggers what is to run.
pub(super) async fn build(plan: &Plan, ledger: &Arc<dyn TriggerLedger>) -> Result<Built> {
    let mut deployments = Deployments::default();
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
            built.known.push(Known::of_app(app, one));
        }
        if !ready.app.endpoints.is_empty() {
            let endpoints = Endpoints::new(
                app.name.clone(),
                ready.app.endpoints.clone(),
                &ready.program,
                ready.limits,
                Arc::clone(&ready.services),
                threads(),
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

/// Reads an application.
pub(super) fn read(app: &config::App) -> Result<App> {
    let secret = |name: &str| match app.reach.secrets.get(name) {
        Some(secret) => Some(secret.as_str().to_owned()),
        None => std::env::var(name)
            .or_else(|_| std::env::var(app::secret_variable(name)))
            .ok(),
    };
    App::read(
        &app.path,
        &AppSettings {
            environment: app
                .environment
                .map(|environment| environment.name().to_owned())
                .unwrap_or_default(),
            secret: &secret,
        },
    )
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
        seen: seen(&program, &app.reach),
        program,
        services: Arc::new(reach),
        limits: limits(&app.options),
        aws,
        app: read,
    })
}

/// The source that a data source of an application stands for.
fn source_of<'a>(app: &'a config::App, service: &str) -> Option<&'a End> {
    app.data_sources.get(service).or(app.source.as_ref())
}

fn no_source(app: &config::App, service: &str) -> Error {
    Error::new(
        ErrorKind::Usage,
        "it is not said which source a data source of the application stands for",
    )
    .on("app", &app.name)
    .on("data source", service)
    .remedy("name a source with `source`, or one for each data source under `data_sources`")
}

fn outbound(reach: &config::Reach) -> Result<OutboundRules> {
    match &reach.allow_hosts {
        Some(hosts) => OutboundRules::parse(hosts),
        None => Ok(OutboundRules::default()),
    }
}

/// A service that is no database.
fn other_service(service: &app::Service, reach: &config::Reach) -> Result<ServiceSettings> {
    let text = |name: &str| {
        let setting = service.settings.get(name)?;
        setting.as_str().map(str::to_owned)
    };
    let secret = |name: &str| service.secrets.get(name).cloned();
    let needed = |name: &str| {
        secret(name).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "a service lacks a secret")
                .on("service", &service.name)
                .on("setting", name)
                .remedy("name a secret for it under `secret_config`")
        })
    };
    Ok(match service.kind {
        ServiceKind::Aws => ServiceSettings::Aws(AwsSettings {
            region: reach.aws_region.clone().or_else(|| text("region")),
            access_key_id: text("accessKeyId"),
            secret_access_key: secret("secretAccessKey"),
            session_token: secret("sessionToken"),
            endpoint: reach.aws_endpoint.clone(),
            role_arn: text("roleArn"),
        }),
        ServiceKind::Twilio => ServiceSettings::Twilio(TwilioSettings {
            account_sid: text("sid").unwrap_or_default(),
            auth_token: needed("auth_token")?,
            base_url: text("baseUrl").unwrap_or_else(|| TWILIO.to_owned()),
        }),
        ServiceKind::Push => ServiceSettings::Push(PushSettings {
            credentials: match secret("serviceAccount") {
                Some(account) => PushCredentials::ServiceAccount(account),
                None => PushCredentials::ServerKey(needed("apiKey")?),
            },
            base_url: text("baseUrl")
                .unwrap_or_else(|| tributary_functions::services::FCM.to_owned()),
        }),
        ServiceKind::GitHub => ServiceSettings::GitHub,
        ServiceKind::Http | ServiceKind::MongoDb => ServiceSettings::Http,
    })
}

fn limits(options: &FunctionOptions) -> Limits {
    Limits {
        memory: options.memory,
        timeout: options.timeout,
        ..Limits::default()
    }
}

fn policy(options: &FunctionOptions, maximum_throughput: bool) -> Policy {
    /// As many as Atlas's option has: a thousand.
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
        log_successes: options.log_successes,
        ..Policy::default()
    }
}

/// The first override of a trigger that the application does not have.
fn unknown_triggers(app: &config::App, read: &App) -> Result<()> {
    for name in app.triggers.keys() {
        if !read.triggers.iter().any(|trigger| trigger.name == *name) {
            let known: Vec<&str> = read.triggers.iter().map(|one| one.name.as_str()).collect();
            return Err(
                Error::new(ErrorKind::Usage, "the application has no such trigger")
                    .on("app", &app.name)
                    .on("trigger", name)
                    .remedy(match known.is_empty() {
                        true => "it has none at all".to_owned(),
                        false => format!("it has {}", known.join(", ")),
                    }),
            );
        }
    }
    Ok(())
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
        policy: policy(options, maximum_throughput),
        occasion,
        processor,
        is_disabled,
    })
}

async fn of_plan(one: &config::Trigger, deployments: &mut Deployments) -> Result<Trigger> {
    let mut services = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    if let Some(end) = &one.source {
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
        app: (one.name.clone(), one.name.clone()),
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
        policy: policy(&one.options, false),
        occasion,
        processor: Arc::new(processor),
        is_disabled: one.is_disabled(),
    })
}

fn function_name(file: &Path) -> String {
    file.file_stem().map_or_else(
        || "function".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

fn read_function(file: &Path) -> Result<String> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Usage, "cannot read the function of a trigger")
            .on("file", file.display())
            .because(error)
            .remedy("name the JavaScript file with `function`")
    };
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > LARGEST_FUNCTION {
        return Err(
            Error::new(ErrorKind::Usage, "the function of a trigger is too large")
                .on("file", file.display())
                .on("bytes", size),
        );
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// What functions of triggers without an application find in `context.values`: the secrets that they are given.
fn secrets_as_values(reach: &config::Reach) -> Result<BTreeMap<String, bytes::Bytes>> {
    let mut values = BTreeMap::new();
    for (name, secret) in &reach.secrets {
        let document = super::value_document(secret.as_str())?;
        values.insert(name.clone(), document);
    }
    Ok(values)
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

/// Changes with everything that functions see.
fn seen(program: &Program, reach: &config::Reach) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, source) in program.functions.iter().chain(&program.modules) {
        (name, &source.text).hash(&mut hasher);
    }
    for (name, value) in program.values.iter().chain(&program.environment_values) {
        (name, value).hash(&mut hasher);
    }
    (&program.services, &program.environment).hash(&mut hasher);
    for (name, secret) in &reach.secrets {
        (name, secret.as_str()).hash(&mut hasher);
    }
    format!(
        "{:?} {:?} {:?}",
        reach.allow_hosts, reach.aws_endpoint, reach.aws_region
    )
    .hash(&mut hasher);
    hasher.finish()
}

fn place_text<'a>(ends: impl Iterator<Item = &'a End>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for end in ends {
        end.name.hash(&mut hasher);
        if let Place::Source(source) = &end.place {
            source.uri.as_str().hash(&mut hasher);
            format!("{:?}", source.read_preference).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// One number of many things.
fn fingerprint(parts: &[&dyn Fingerprinted]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in parts {
        part.feed(&mut hasher);
    }
    hasher.finish()
}

trait Fingerprinted {
    fn feed(&self, hasher: &mut DefaultHasher);
}

impl<T: Hash> Fingerprinted for T {
    fn feed(&self, hasher: &mut DefaultHasher) {
        self.hash(hasher);
    }
}

/// What the runtime's numbers are to the orchestrator.
pub(super) fn durations(of: &trigger::Durations) -> tributary_orchestrator::engine::Durations {
    tributary_orchestrator::engine::Durations {
        bounds: trigger::DURATION_BOUNDS.to_vec(),
        counts: of.counts.to_vec(),
        sum: of.sum,
    }
}
