//! What is off of the bucket that a lake is in, and setting it right.

use serde_json::{Value, json};
use tributary_lake::{AccessLogs, Bucket, BucketSettings, Encryption, Setting, Versioning};
use tributary_model::{Error, ErrorKind, Result};
use tributary_mongo::Finding;

/// How the bucket is to be, beyond what every lake should have.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// It encrypts with this key.
    pub(super) kms_key: Option<String>,
    /// Its access is logged there.
    pub(super) access_logs: Option<AccessLogs>,
}

/// What there is to say of a bucket.
#[derive(Debug)]
pub(super) struct BucketReport {
    /// None where they could not be seen at all.
    pub(super) settings: Option<BucketSettings>,
    pub(super) findings: Vec<Finding>,
    /// What was changed.
    pub(super) changed: Vec<String>,
}

impl BucketReport {
    /// The settings could not be seen.
    pub(super) fn unseen(error: &Error) -> Self {
        let finding = Finding {
            fatal: true,
            what: error.to_string(),
            remedy: "the bucket's settings are not known".to_owned(),
        };
        Self {
            settings: None,
            findings: vec![finding],
            changed: Vec::new(),
        }
    }

    /// The report as part of an event.
    pub(super) fn to_json(&self) -> Value {
        json!(self.settings)
    }
}

/// One setting that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Amiss {
    Versioning(Versioning),
    Encryption(Option<Encryption>),
    AccessLogs(Option<AccessLogs>),
}

/// Looks at a bucket and, where that is asked for, sets what is off.
pub(super) async fn look(bucket: &Bucket, wishes: &Wishes, fix: bool) -> Result<BucketReport> {
    let mut settings = bucket.settings().await?;
    let (mut changed, mut set, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    if fix {
        for amiss in amiss(&settings, wishes) {
            match amiss.set_right(bucket, wishes).await {
                Ok(Some(what)) => {
                    changed.push(what);
                    set.push(amiss);
                }
                Ok(None) => {}
                Err(error) => refused.push((amiss, error)),
            }
        }
        if !changed.is_empty() {
            settings = bucket.settings().await?;
        }
    }
    let mut findings = not_seen(&settings);
    for amiss in amiss(&settings, wishes) {
        if refused.iter().any(|(one, _)| *one == amiss) {
            continue;
        }
        let mut finding = amiss.finding(wishes);
        if set.contains(&amiss) {
            finding.what = format!("{}, though it has just been set", finding.what);
            // https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel
            finding.remedy = "check again in a few minutes: S3 may take them to show it".to_owned();
        }
        findings.push(finding);
    }
    findings.extend(refusals(bucket, &refused));
    Ok(BucketReport {
        settings: Some(settings),
        findings,
        changed,
    })
}

/// What may not be set is told once, with all privileges that are missing.
fn refusals(bucket: &Bucket, refused: &[(Amiss, Error)]) -> Vec<Finding> {
    let (forbidden, others): (Vec<_>, Vec<_>) = refused
        .iter()
        .partition(|(_, error)| error.kind() == ErrorKind::Forbidden);
    let mut findings: Vec<_> = others
        .iter()
        .map(|(amiss, error)| Finding {
            fatal: true,
            what: error.to_string(),
            remedy: format!("{} is as it was", amiss.name()),
        })
        .collect();
    if !forbidden.is_empty() {
        let join = |each: fn(&Amiss) -> &'static str| {
            let each = forbidden.iter().map(|(amiss, _)| each(amiss));
            each.collect::<Vec<_>>().join(", ")
        };
        findings.push(Finding {
            fatal: true,
            what: format!(
                "the credentials may not set of the bucket {}: {}",
                bucket.name(),
                join(Amiss::name)
            ),
            remedy: format!("grant {} on it", join(Amiss::privilege)),
        });
    }
    findings
}

/// What may not be seen, and so is neither judged nor set.
fn not_seen(settings: &BucketSettings) -> Vec<Finding> {
    fn privilege<T>(setting: &Setting<T>) -> Option<&'static str> {
        match setting {
            Setting::NotPermitted(privilege) => Some(privilege),
            Setting::Known(_) | Setting::NotSupported => None,
        }
    }
    let lacking = [
        (Amiss::VERSIONING, privilege(&settings.versioning)),
        (Amiss::ENCRYPTION, privilege(&settings.encryption)),
        (Amiss::ACCESS_LOGS, privilege(&settings.access_logs)),
    ];
    let lacking: Vec<_> = lacking
        .into_iter()
        .filter_map(|(name, privilege)| Some((name, privilege?)))
        .collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    let names: Vec<_> = lacking.iter().map(|(name, _)| *name).collect();
    let privileges: Vec<_> = lacking.iter().map(|(_, privilege)| *privilege).collect();
    vec![Finding {
        fatal: false,
        what: format!(
            "the credentials may not see of the bucket: {}",
            names.join(", ")
        ),
        remedy: format!("grant {}, if it is to be checked", privileges.join(", ")),
    }]
}

fn amiss(settings: &BucketSettings, wishes: &Wishes) -> Vec<Amiss> {
    let mut found = Vec::new();
    if let Setting::Known(versioning) = settings.versioning
        && versioning != Versioning::Enabled
    {
        found.push(Amiss::Versioning(versioning));
    }
    if let Setting::Known(encryption) = &settings.encryption {
        let right = match (encryption, &wishes.kms_key) {
            (Some(encryption), Some(key)) => encryption.uses(key),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !right {
            found.push(Amiss::Encryption(encryption.clone()));
        }
    }
    if let Setting::Known(logs) = &settings.access_logs {
        let right = match (logs, &wishes.access_logs) {
            (Some(logs), Some(wished)) => logs == wished,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !right {
            found.push(Amiss::AccessLogs(logs.clone()));
        }
    }
    found
}

impl Amiss {
    const VERSIONING: &str = "versioning";
    const ENCRYPTION: &str = "default encryption";
    const ACCESS_LOGS: &str = "access logs";

    fn name(&self) -> &'static str {
        match self {
            Self::Versioning(_) => Self::VERSIONING,
            Self::Encryption(_) => Self::ENCRYPTION,
            Self::AccessLogs(_) => Self::ACCESS_LOGS,
        }
    }

    fn privilege(&self) -> &'static str {
        match self {
            Self::Versioning(_) => Versioning::PRIVILEGE,
            Self::Encryption(_) => Encryption::PRIVILEGE,
            Self::AccessLogs(_) => AccessLogs::PRIVILEGE,
        }
    }

    /// Sets it, and tells what it is now; none where it has not been said what it is to be.
    async fn set_right(&self, bucket: &Bucket, wishes: &Wishes) -> Result<Option<String>> {
        let name = bucket.name();
        Ok(match self {
            Self::Versioning(_) => {
                bucket.enable_versioning().await?;
                Some(format!("versioning of the bucket {name} is enabled"))
            }
            Self::Encryption(_) => {
                let key = wishes.kms_key.as_deref();
                bucket.set_encryption(key).await?;
                let by =
                    key.map_or_else(|| "AES256".to_owned(), |key| format!("aws:kms with {key}"));
                Some(format!("the bucket {name} encrypts by default, by {by}"))
            }
            Self::AccessLogs(_) => match &wishes.access_logs {
                Some(logs) => {
                    bucket.log_access(logs).await?;
                    Some(format!("access to the bucket {name} is logged to {logs}"))
                }
                None => None,
            },
        })
    }

    fn finding(&self, wishes: &Wishes) -> Finding {
        const FIX: &str = "set it by --fix";
        let (what, remedy) = match self {
            Self::Versioning(Versioning::Suspended) => (
                "versioning of the bucket is suspended: what is removed or overwritten is lost"
                    .to_owned(),
                FIX.to_owned(),
            ),
            Self::Versioning(_) => (
                "versioning of the bucket is off: what is removed or overwritten is lost"
                    .to_owned(),
                format!(
                    "{FIX}, and let a lifecycle rule expire noncurrent versions, which a lake leaves many of"
                ),
            ),
            Self::Encryption(None) => (
                "the bucket does not encrypt by default".to_owned(),
                format!("{FIX}: AES256, or a key of KMS by --kms-key"),
            ),
            Self::Encryption(Some(encryption)) => (
                format!(
                    "the bucket encrypts by {encryption}, and not with the key that is asked for"
                ),
                format!("{FIX}; objects that are there stay as they are"),
            ),
            Self::AccessLogs(None) => (
                "access to the bucket is not logged".to_owned(),
                match &wishes.access_logs {
                    Some(_) => FIX.to_owned(),
                    None => format!(
                        "{FIX} with --log-bucket s3://bucket/prefix, which says where logs go"
                    ),
                },
            ),
            Self::AccessLogs(Some(logs)) => (
                format!("access to the bucket is logged to {logs}, and not where it is asked for"),
                FIX.to_owned(),
            ),
        };
        Finding {
            fatal: false,
            what,
            remedy,
        }
    }
}

/// What is set, as lines of a report.
pub(super) fn facts(settings: &BucketSettings) -> Vec<[String; 2]> {
    fn shown<T>(setting: &Setting<T>, known: impl FnOnce(&T) -> String) -> String {
        match setting {
            Setting::Known(value) => known(value),
            Setting::NotPermitted(_) => "may not be seen".to_owned(),
            Setting::NotSupported => "the store has no such setting".to_owned(),
        }
    }
    let versioning = shown(&settings.versioning, |versioning| {
        let text = match versioning {
            Versioning::Enabled => "enabled",
            Versioning::Suspended => "suspended",
            Versioning::Off => "off",
        };
        text.to_owned()
    });
    let encryption = shown(&settings.encryption, |encryption| match encryption {
        Some(encryption) => encryption.to_string(),
        None => "none".to_owned(),
    });
    let access_logs = shown(&settings.access_logs, |logs| match logs {
        Some(logs) => format!("to {logs}"),
        None => "none".to_owned(),
    });
    vec![
        [Amiss::VERSIONING.to_owned(), versioning],
        [Amiss::ENCRYPTION.to_owned(), encryption],
        [Amiss::ACCESS_LOGS.to_owned(), access_logs],
    ]
}
