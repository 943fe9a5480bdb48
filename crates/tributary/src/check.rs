//! `tributary check`.

mod bucket;
mod file;
mod report;

use tokio_util::sync::CancellationToken;
use tributary_lake::{AccessLogs, Bucket, Location};
use tributary_model::{Error, ErrorKind, Namespace, Result};
use tributary_mongo::{DeploymentReport, Finding, InspectOptions, MongoSource};
use tributary_orchestrator::config::json_schema;

use crate::check::bucket::{BucketReport, Wishes};
use crate::cli::{CheckArguments, CollectionArguments, Output};
use crate::{DONE, FAILED, console, copy};

/// What there is to say of the source.
struct SourceReport {
    deployment: DeploymentReport,
    /// What was changed.
    changed: Vec<String>,
}

/// What there is to say of the target.
struct TargetReport {
    place: String,
    /// Whether it can be written.
    probe: Result<()>,
    /// Its bucket, where it is in S3 and was looked at.
    bucket: Option<BucketReport>,
}

impl TargetReport {
    fn findings(&self) -> &[Finding] {
        self.bucket.as_ref().map_or(&[], |bucket| &bucket.findings)
    }

    fn changed(&self) -> &[String] {
        self.bucket.as_ref().map_or(&[], |bucket| &bucket.changed)
    }
}

pub(crate) async fn run(arguments: CheckArguments, stop: CancellationToken) -> Result<u8> {
    if arguments.schema {
        console::say(&format!("{:#}", json_schema()));
        return Ok(DONE);
    }
    let checks = async {
        match is_file(&arguments.subject) {
            true => file::check(&arguments).await,
            false => check(&arguments).await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(DONE),
        code = checks => code,
    }
}

/// Whether it is the file that `run` takes, and no address.
fn is_file(subject: &str) -> bool {
    !subject.contains("://") && !subject.starts_with("env:")
}

async fn check(arguments: &CheckArguments) -> Result<u8> {
    let collections = CollectionArguments {
        source: arguments.subject.clone(),
        collections: arguments.collections.clone(),
        read_preference: arguments.read_preference,
        log: None,
    };
    let source = copy::source(&collections, &arguments.part).await?;
    let place = arguments
        .target
        .as_deref()
        .map(Location::parse)
        .transpose()?;
    let wishes = wishes(arguments, place.as_ref())?;
    let options = InspectOptions {
        images: arguments.pre_and_post_images,
    };
    let source = look_at_source(&source, options, arguments.fix).await?;
    let target = match &place {
        Some(place) => Some(look_at_target(place, &wishes, arguments.fix).await),
        None => None,
    };
    match arguments.output {
        Output::Text => report::tell(&source, target.as_ref(), arguments),
        Output::Json => report::emit(&source, target.as_ref()),
    }
    let of_target = target.iter().flat_map(|target| target.findings());
    let mut findings = source.deployment.findings.iter().chain(of_target);
    let failed = findings.any(|finding| finding.fatal)
        || target.as_ref().is_some_and(|target| target.probe.is_err());
    Ok(if failed { FAILED } else { DONE })
}

/// What is wanted of the bucket.
fn wishes(arguments: &CheckArguments, place: Option<&Location>) -> Result<Wishes> {
    let wishes = Wishes {
        kms_key: arguments.kms_key.clone(),
        access_logs: arguments
            .log_bucket
            .as_deref()
            .map(AccessLogs::parse)
            .transpose()?,
    };
    let bucket = place.and_then(Location::bucket);
    if bucket.is_none() && (wishes.kms_key.is_some() || wishes.access_logs.is_some()) {
        return Err(
            Error::new(ErrorKind::Usage, "the target is in no bucket of S3").remedy(
                "leave --kms-key and --log-bucket out, or name a target s3://bucket/prefix",
            ),
        );
    }
    if let (Some(bucket), Some(logs)) = (bucket, &wishes.access_logs)
        && logs.bucket == bucket
    {
        // Each log that is written would be logged.
        return Err(
            Error::new(ErrorKind::Usage, "a bucket cannot take the logs of itself")
                .on("bucket", bucket)
                .remedy("name another bucket of the same account and region"),
        );
    }
    Ok(wishes)
}

async fn look_at_source(
    source: &MongoSource,
    options: InspectOptions,
    fix: bool,
) -> Result<SourceReport> {
    let mut deployment = source.inspect(options).await?;
    let mut changed = Vec::new();
    if fix && options.images {
        let lacking: Vec<Namespace> = deployment.without_images().into_iter().cloned().collect();
        let lacking: Vec<&Namespace> = lacking.iter().collect();
        if !lacking.is_empty() {
            let (done, refused) = source.keep_images(&lacking).await?;
            if !done.is_empty() {
                deployment = source.inspect(options).await?;
            }
            changed.extend(
                done.iter()
                    .map(|namespace| format!("pre- and post-images of {namespace} are kept")),
            );
            deployment.findings.extend(refused);
        }
    }
    Ok(SourceReport {
        deployment,
        changed,
    })
}

async fn look_at_target(place: &Location, wishes: &Wishes, fix: bool) -> TargetReport {
    let probe = place.probe().await;
    // Who may write nothing may still see the settings. Of a bucket that is not there or does not
    // answer, the same would be told once more.
    let worth_asking = match &probe {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::Forbidden,
    };
    let bucket = match Bucket::of(place).await {
        Ok(Some(bucket)) if worth_asking => Some(bucket::look(&bucket, wishes, fix).await),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    };
    let bucket = match bucket {
        Some(Ok(report)) => Some(report),
        Some(Err(error)) if probe.is_ok() => Some(BucketReport::unseen(&error)),
        Some(Err(_)) | None => None,
    };
    TargetReport {
        place: place.to_string(),
        probe,
        bucket,
    }
}
