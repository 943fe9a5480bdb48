//! Triggers: what makes a function run.

mod operation;
mod read;

use bytes::Bytes;
use chrono::Utc;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use tributary_convert::extjson;

pub use operation::{Operation, Scope};
pub(super) use read::{Named, check_service, read_triggers};

/// The longest name of a trigger.
const LONGEST_NAME: usize = 64;

/// A trigger.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The file that it is written in, relative to the application's directory.
    pub file: String,
    /// Whether it is not to run.
    pub disabled: bool,
    /// When it fires.
    pub event: TriggerEvent,
    /// What is done then.
    pub function: Processor,
}

impl Trigger {
    /// An enabled trigger.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn new(
        name: impl Into<String>,
        file: impl Into<String>,
        event: TriggerEvent,
        function: Processor,
    ) -> Result<Self, String> {
        let name = name.into();
        check_trigger_name(&name)?;
        Ok(Self {
            name,
            file: file.into(),
            disabled: false,
            event,
            function,
        })
    }
}

/// Checks the name of a trigger: 1 to 64 ASCII letters, digits, `_` and `-`.
///
/// # Errors
/// What is wrong with it.
pub fn check_trigger_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is no name of a trigger: it has letters, digits, `_` and `-`, at most {LONGEST_NAME}"
        )),
    }
}

/// What is done when a trigger fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processor {
    /// The function of this name is called with the event.
    Function(String),
    /// The event is put on a bus.
    EventBridge(EventBridge),
}

/// Where in AWS EventBridge the events of a trigger go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBridge {
    /// The AWS account, twelve digits.
    pub account_id: String,
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// Whether events are written as canonical Extended JSON rather than as plain JSON.
    pub extended_json: bool,
}

impl EventBridge {
    /// A place in AWS.
    ///
    /// # Errors
    /// What is wrong with the account.
    pub fn new(
        account_id: impl Into<String>,
        region: impl Into<String>,
        extended_json: bool,
    ) -> Result<Self, String> {
        let account_id = account_id.into();
        if account_id.len() != 12 || !account_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "`{account_id}` is no AWS account: it has twelve digits"
            ));
        }
        Ok(Self {
            account_id,
            region: region.into(),
            extended_json,
        })
    }
}

/// When a trigger fires.
#[derive(Debug, Clone)]
pub enum TriggerEvent {
    /// When something changes in a deployment.
    Database(DatabaseTrigger),
    /// At times.
    Scheduled(ScheduledTrigger),
}

/// A trigger on changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseTrigger {
    /// The service whose deployment is watched.
    pub service: String,
    /// The database; none for the whole deployment.
    pub database: Option<String>,
    /// The collection; none for all of the database.
    pub collection: Option<String>,
    /// The operations on which it fires; never empty.
    pub operations: Vec<Operation>,
    /// Whether updates come with the document as it is when they are read.
    pub full_document: bool,
    /// Whether events come with the document before the change.
    pub full_document_before_change: bool,
    /// What has to be true of an event, as `$match` says it: a document of raw BSON.
    pub matching: Option<Bytes>,
    /// What is kept of an event, as `$project` says it: a document of raw BSON.
    pub project: Option<Bytes>,
    /// Whether events are processed side by side, whatever their order.
    pub unordered: bool,
    /// Whether what happened while the trigger was not running is left out.
    pub skip_catchup_events: bool,
    /// Whether it goes on with what happens from then on, where the deployment has forgotten its place.
    pub tolerate_resume_errors: bool,
    /// Whether as many events as can be are processed at once.
    pub maximum_throughput: bool,
}

impl DatabaseTrigger {
    /// A trigger on these operations, with everything else as App Services has it by default.
    ///
    /// # Errors
    /// What is wrong: a collection of no database, no operation, or one that never happens where it looks.
    pub fn new(
        service: impl Into<String>,
        database: Option<String>,
        collection: Option<String>,
        operations: Vec<Operation>,
    ) -> Result<Self, String> {
        let scope = Scope::of(database.as_deref(), collection.as_deref())?;
        Ok(Self {
            service: service.into(),
            database,
            collection,
            operations: scope.check(operations)?,
            full_document: false,
            full_document_before_change: false,
            matching: None,
            project: None,
            unordered: false,
            skip_catchup_events: false,
            tolerate_resume_errors: false,
            maximum_throughput: false,
        })
    }

    /// What it watches.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match (&self.database, &self.collection) {
            (None, _) => Scope::Deployment,
            (Some(_), None) => Scope::Database,
            (Some(_), Some(_)) => Scope::Collection,
        }
    }
}

/// Reads a `$match` or `$project` that is written as Extended JSON. An empty document, or none at all, says
/// nothing.
///
/// # Errors
/// What is wrong with it.
pub fn parse_expression(text: &str) -> Result<Option<Bytes>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let document = extjson::parse_document(text).map_err(|error| error.to_string())?;
    // The smallest document is its length and its end.
    Ok((document.len() > 5).then(|| document.into()))
}

/// A trigger at times.
#[derive(Debug, Clone)]
pub struct ScheduledTrigger {
    /// When, in UTC.
    pub cron: Cron,
    /// `cron` as it was written.
    pub text: String,
    /// Whether times that passed while it was not running are left out.
    pub skip_catchup_events: bool,
}

impl ScheduledTrigger {
    /// A trigger at the times of a cron pattern of five fields, in UTC.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn new(text: &str, skip_catchup_events: bool) -> Result<Self, String> {
        // Without this, names such as `@daily` would be taken too.
        if text.split_whitespace().count() != 5 {
            return Err(format!(
                "`{text}` has not the five fields minute, hour, day of month, month and day of week"
            ));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| {
            let error = error.to_string();
            format!(
                "`{text}` is no cron pattern: {}",
                error.trim_end_matches('.').to_lowercase()
            )
        })?;
        if cron.find_next_occurrence(&Utc::now(), false).is_err() {
            return Err(format!("`{text}` is a time that never comes"));
        }
        Ok(Self {
            cron,
            text: text.to_owned(),
            skip_catchup_events,
        })
    }
}
