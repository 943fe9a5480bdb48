//! What there is to know of a deployment before data is moved.

mod images;
mod members;
mod privileges;

use std::time::{Duration, SystemTime};

use mongodb::bson::{Bson, Document, doc};
use serde::Serialize;
use tributary_flow::{CollectionInfo, SnapshotSource};
use tributary_model::{ErrorKind, Result};

use crate::inspect::members::Readable;
use crate::inspect::privileges::Privileges;
use crate::snapshot::{MongoSource, whole_number};

/// A clock this far from ours is told: positions and lags are compared across both.
const CLOCK_SKEW: Duration = Duration::from_secs(5);
/// Less oplog than this does not outlast a weekend's stop or a long first load.
const SHORT_OPLOG: Duration = Duration::from_secs(24 * 3600);

/// What is looked for beyond what every command needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct InspectOptions {
    /// Collections are to keep pre- and post-images of their changes.
    pub images: bool,
}

/// How much history the oplog holds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OplogWindow {
    /// Hours from its first entry to its last.
    pub hours: f64,
    /// Bytes it may take.
    pub max_bytes: u64,
}

/// Something that is not as it should be, and what to do about it.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Whether it prevents a copy, or is a warning only.
    pub fatal: bool,
    /// What was found.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// A collection that would be copied.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionReport {
    /// What its server knows of it.
    #[serde(flatten)]
    pub info: CollectionInfo,
    /// Whether it keeps the documents before and after a change; none where that cannot be known,
    /// and of what has no changes.
    pub pre_and_post_images: Option<bool>,
}

/// A deployment as it answers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentReport {
    /// Host names and ports.
    pub server: String,
    /// The version of the server that answered.
    pub version: String,
    /// `standalone`, `replica set NAME of N members` or `sharded cluster`.
    pub topology: String,
    /// Which members are read, such as `secondaryPreferred`.
    pub read_preference: String,
    /// Who the connection is authenticated as, if anybody.
    pub users: Vec<String>,
    /// None where there is no oplog, or it may not be read.
    pub oplog: Option<OplogWindow>,
    /// How far the server's clock is ahead of this machine's, in seconds.
    pub clock_skew_seconds: f64,
    /// The collections that would be copied.
    pub collections: Vec<CollectionReport>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

impl MongoSource {
    /// Connects to the deployment and looks at it. Nothing is changed.
    ///
    /// # Errors
    /// It cannot be reached, or the credentials are not accepted. What is merely missing is a
    /// finding of the report.
    pub async fn inspect(&self, options: InspectOptions) -> Result<DeploymentReport> {
        let connection = &self.connection;
        let admin = connection.client.database("admin");
        let run = |command: Document| {
            let admin = admin.clone();
            // Whichever member answers: whether those that are asked for do is looked at by itself.
            async move {
                admin
                    .run_command(command)
                    .selection_criteria(members::any())
                    .await
            }
        };
        let cannot = |error| connection.failed("cannot connect", &error);
        let asked = SystemTime::now();
        let hello = run(doc! { "hello": 1 }).await.map_err(cannot)?;
        let answered = SystemTime::now();
        // `hello` needs no credentials; this does.
        let status = run(doc! { "connectionStatus": 1, "showPrivileges": true })
            .await
            .map_err(cannot)?;
        let build = run(doc! { "buildInfo": 1 }).await.map_err(cannot)?;

        let mut findings = Vec::new();
        let topology = topology(&hello, &mut findings);
        let clock_skew_seconds = clock_skew(&hello, asked, answered);
        if clock_skew_seconds.abs() > CLOCK_SKEW.as_secs_f64() {
            findings.push(Finding {
                fatal: false,
                what: format!(
                    "the server's clock is {clock_skew_seconds:+.1} s from this machine's"
                ),
                remedy: "synchronise both with NTP: lags are computed from both clocks".to_owned(),
            });
        }
        let mut report = DeploymentReport {
            server: connection.server.clone(),
            version: build.get_str("version").unwrap_or("unknown").to_owned(),
            topology,
            read_preference: members::name(&connection.read_from),
            users: users(&status),
            oplog: None,
            clock_skew_seconds,
            collections: Vec::new(),
            findings,
        };
        if self.readable(&mut report.findings).await? == Readable::No {
            // All that follows would wait in vain for such a member.
            return Ok(report);
        }
        let keeps_changes = hello.contains_key("setName");
        if keeps_changes {
            report.oplog = self.oplog(&mut report.findings).await;
        }
        if keeps_changes || is_sharded(&hello) {
            report.findings.extend(self.cannot_follow().await);
        }
        let collections = self.readable_collections(&mut report.findings).await;
        let kept = self.kept_images(&collections).await;
        report.collections = collections
            .into_iter()
            .map(|info| CollectionReport {
                pre_and_post_images: kept.as_ref().and_then(|kept| kept.of(&info)),
                info,
            })
            .collect();
        if options.images {
            let privileges = Privileges::of(&status);
            let found = images::findings(&report, &build, privileges.as_ref());
            report.findings.extend(found);
        }
        Ok(report)
    }

    /// The selected collections, and what of them cannot be read.
    async fn readable_collections(&self, findings: &mut Vec<Finding>) -> Vec<CollectionInfo> {
        let connection = &self.connection;
        let collections = match self.collections().await {
            Ok(collections) => collections,
            Err(error) => {
                let remedy = match error.kind() {
                    ErrorKind::Unreachable | ErrorKind::Unavailable => {
                        "collections are listed by the primary: see whether there is one (rs.status())"
                    }
                    _ => {
                        "grant the user the `read` role on the database (listCollections, collStats and                          find), or correct the name"
                    }
                };
                findings.push(Finding {
                    fatal: true,
                    what: error.to_string(),
                    remedy: remedy.to_owned(),
                });
                return Vec::new();
            }
        };
        for collection in &collections {
            let read = self
                .collection(&collection.namespace)
                .find_one(Document::new())
                .selection_criteria(connection.read_from.clone())
                .await;
            if let Err(error) = read {
                let told = connection.failed("the collection cannot be read", &error);
                let remedy = match told.kind() {
                    ErrorKind::Unreachable | ErrorKind::Unavailable => {
                        "see whether the members that are to be read are up"
                    }
                    _ => "grant the privilege `find` on it: the role `read` on its database has it",
                };
                findings.push(Finding {
                    fatal: true,
                    what: told.on("namespace", &collection.namespace).to_string(),
                    remedy: remedy.to_owned(),
                });
            }
        }
        collections
    }

    async fn oplog(&self, findings: &mut Vec<Finding>) -> Option<OplogWindow> {
        let criteria = &self.connection.read_from;
        let local = self.connection.client.database("local");
        let entries = local.collection::<Document>("oplog.rs");
        let end = |direction: i32| {
            let find = entries
                .find_one(doc! {})
                .sort(doc! { "$natural": direction })
                .projection(doc! { "ts": 1 });
            find.selection_criteria(criteria.clone())
        };
        let seconds = |entry: Option<Document>| {
            entry
                .and_then(|e| e.get_timestamp("ts").ok())
                .map(|ts| ts.time)
        };
        let (first, last) = match (end(1).await, end(-1).await) {
            (Ok(first), Ok(last)) => (seconds(first)?, seconds(last)?),
            (Err(error), _) | (_, Err(error)) => {
                findings.push(Finding {
                    fatal: false,
                    what: format!(
                        "the oplog cannot be read, so its window is not known: {}",
                        error.kind
                    ),
                    remedy: "grant the role `read` on the database `local`, if it is to be watched"
                        .to_owned(),
                });
                return None;
            }
        };
        let window = Duration::from_secs(u64::from(last.saturating_sub(first)));
        let stats = local
            .run_command(doc! { "collStats": "oplog.rs" })
            .selection_criteria(criteria.clone())
            .await
            .ok();
        let number = |key| stats.as_ref().map_or(0, |stats| whole_number(stats, key));
        let (max_bytes, used) = (number("maxSize"), number("size"));
        // A young oplog that is far from full is short because it is young.
        let full = used > 0 && used >= max_bytes / 10 * 9;
        if window < SHORT_OPLOG && full {
            findings.push(Finding {
                fatal: false,
                what: format!("the oplog reaches back {:.1} hours only", window.as_secs_f64() / 3600.0),
                remedy: "enlarge it (replSetResizeOplog) or set minRetentionHours: following changes must not stop for longer than it reaches back".to_owned(),
            });
        }
        Some(OplogWindow {
            hours: window.as_secs_f64() / 3600.0,
            max_bytes,
        })
    }
}

fn topology(hello: &Document, findings: &mut Vec<Finding>) -> String {
    if let Ok(name) = hello.get_str("setName") {
        let members = ["hosts", "passives", "arbiters"]
            .iter()
            .filter_map(|key| hello.get_array(key).ok())
            .map(Vec::len)
            .sum::<usize>();
        let plural = if members == 1 { "member" } else { "members" };
        return format!("replica set {name} of {members} {plural}");
    }
    if is_sharded(hello) {
        return "sharded cluster".to_owned();
    }
    findings.push(Finding {
        fatal: false,
        what: "the server is a standalone: it can be copied, but its changes cannot be followed"
            .to_owned(),
        remedy:
            "make it a replica set of one member: start mongod with --replSet and run rs.initiate()"
                .to_owned(),
    });
    "standalone".to_owned()
}

fn is_sharded(hello: &Document) -> bool {
    hello.get_str("msg").ok() == Some("isdbgrid")
}

fn clock_skew(hello: &Document, asked: SystemTime, answered: SystemTime) -> f64 {
    let Ok(theirs) = hello.get_datetime("localTime") else {
        return 0.0;
    };
    let since_epoch = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    };
    let ours = f64::midpoint(since_epoch(asked), since_epoch(answered));
    // Connecting is part of the wait: within it, no skew can be told.
    let uncertainty = (since_epoch(answered) - since_epoch(asked)) / 2.0;
    let skew = theirs.timestamp_millis() as f64 / 1000.0 - ours;
    if skew.abs() <= uncertainty { 0.0 } else { skew }
}

fn users(status: &Document) -> Vec<String> {
    let info = status.get_document("authInfo").ok();
    let users = info.and_then(|info| info.get_array("authenticatedUsers").ok());
    users
        .into_iter()
        .flatten()
        .filter_map(Bson::as_document)
        .filter_map(|user| {
            Some(format!(
                "{}@{}",
                user.get_str("user").ok()?,
                user.get_str("db").ok()?
            ))
        })
        .collect()
}
