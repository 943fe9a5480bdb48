//! The objects that a `COPY` reads, and who may read them.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, path::Path};
use serde_json::Value;

use super::{Authority, Copy};
use crate::redshift::refusal::Refusal;

/// The buckets that someone may read.
#[derive(Debug, Clone)]
pub(in crate::redshift) struct Grant {
    pub(in crate::redshift) authority: Authority,
    pub(in crate::redshift) buckets: Vec<String>,
}

/// Where objects are, and who may read them.
#[derive(Debug, Clone, Default)]
pub(in crate::redshift) struct Storage {
    pub(in crate::redshift) endpoint: Option<String>,
    pub(in crate::redshift) grants: Vec<Grant>,
}

/// An object of Parquet.
#[derive(Debug)]
pub(in crate::redshift) struct Object {
    /// As Redshift's messages name it.
    pub(in crate::redshift) url: String,
    pub(in crate::redshift) content: Bytes,
}

impl Storage {
    /// Refuses whoever may not read the bucket.
    fn check(&self, authority: &Authority, bucket: &str) -> Result<(), Refusal> {
        let grant = self
            .grants
            .iter()
            .find(|grant| grant.authority == *authority)
            .ok_or_else(|| match authority {
                Authority::Role(arn) => Refusal::internal(format!(
                    "User arn:aws:redshift:us-east-1:123456789012:dbuser:stand-in/loader is not authorized to \
                     assume IAM Role {arn}"
                )),
                Authority::DefaultRole => {
                    Refusal::internal("Cannot find default IAM role: the cluster has none")
                }
                Authority::Key { .. } => denied("InvalidAccessKeyId"),
            })?;
        if grant.buckets.iter().any(|own| own == bucket) {
            Ok(())
        } else {
            Err(denied("AccessDenied"))
        }
    }

    /// The places of all objects that the `COPY` is about, in order of their names.
    pub(in crate::redshift) async fn find(&self, copy: &Copy) -> Result<Vec<String>, Refusal> {
        let found = if copy.manifest {
            self.read_manifest(copy).await?
        } else {
            self.list(copy, &copy.source).await?
        };
        if found.is_empty() {
            return Err(Refusal::internal(format!(
                "The specified S3 prefix '{}' does not exist",
                parts(&copy.source).1
            )));
        }
        Ok(found)
    }

    /// An object by its place.
    pub(in crate::redshift) async fn read(
        &self,
        copy: &Copy,
        url: &str,
    ) -> Result<Object, Refusal> {
        let (bucket, key) = parts(url);
        let store = self.open(copy, bucket)?;
        let path = Path::parse(key).map_err(|error| failed(&error))?;
        let got = store.get(&path).await;
        let got = got.map_err(|error| of_store(&error, key))?;
        let content = got.bytes().await.map_err(|error| failed(&error))?;
        Ok(Object {
            url: url.to_owned(),
            content,
        })
    }

    fn open(&self, copy: &Copy, bucket: &str) -> Result<impl ObjectStore, Refusal> {
        self.check(&copy.authority, bucket)?;
        let endpoint = self.endpoint.as_deref().ok_or_else(|| {
            Refusal::internal("the stand-in for Redshift was started without an S3 endpoint")
        })?;
        AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_virtual_hosted_style_request(false)
            .with_region("us-east-1")
            .with_bucket_name(bucket)
            .with_access_key_id("testkit")
            .with_secret_access_key("testkit")
            .build()
            .map_err(|error| failed(&error))
    }

    /// A prefix need not end with a part of the path, so what is beside it is listed as well.
    async fn list(&self, copy: &Copy, url: &str) -> Result<Vec<String>, Refusal> {
        let (bucket, prefix) = parts(url);
        let store = self.open(copy, bucket)?;
        let directory = prefix
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory);
        let directory = Path::parse(directory).map_err(|error| failed(&error))?;
        let objects: Vec<_> = store
            .list(Some(&directory))
            .try_collect()
            .await
            .map_err(|error| of_store(&error, prefix))?;
        let mut found: Vec<_> = objects
            .into_iter()
            .filter(|object| object.size > 0 && object.location.as_ref().starts_with(prefix))
            .map(|object| format!("s3://{bucket}/{}", object.location))
            .collect();
        found.sort();
        Ok(found)
    }

    /// `{"entries": [{"url": "s3://…", "mandatory": true, "meta": {"content_length": 1}}]}`, where the length is
    /// required for Parquet.
    async fn read_manifest(&self, copy: &Copy) -> Result<Vec<String>, Refusal> {
        let manifest = self.read(copy, &copy.source).await?;
        let manifest: Value = serde_json::from_slice(&manifest.content)
            .map_err(|error| Refusal::internal(format!("the manifest is not JSON: {error}")))?;
        let entries = manifest.get("entries").and_then(Value::as_array);
        let entries = entries.ok_or_else(|| Refusal::internal("the manifest has no entries"))?;
        let mut found = Vec::new();
        for entry in entries {
            let url = entry.get("url").and_then(Value::as_str);
            let url =
                url.ok_or_else(|| Refusal::internal("an entry of the manifest has no url"))?;
            if entry
                .pointer("/meta/content_length")
                .and_then(Value::as_u64)
                .is_none()
            {
                return Err(Refusal::internal(format!(
                    "the manifest has no meta key with content_length for {url}, which Parquet requires"
                )));
            }
            let mandatory = entry.get("mandatory").and_then(Value::as_bool) == Some(true);
            let is_there = self.list(copy, url).await?.iter().any(|found| found == url);
            if is_there {
                found.push(url.to_owned());
            } else if mandatory {
                return Err(Refusal::internal(format!(
                    "Mandatory url is not present in manifest: {url}"
                )));
            }
        }
        Ok(found)
    }
}

/// Bucket and key.
fn parts(url: &str) -> (&str, &str) {
    let path = url.strip_prefix("s3://").unwrap_or(url);
    path.split_once('/').unwrap_or((path, ""))
}

fn denied(error: &str) -> Refusal {
    Refusal::internal(format!(
        "S3ServiceException:Access Denied,Status 403,Error {error}"
    ))
}

fn of_store(error: &object_store::Error, key: &str) -> Refusal {
    if format!("{error:?}").contains("NoSuchBucket") {
        return Refusal::internal(
            "S3ServiceException:The specified bucket does not exist,Status 404,Error NoSuchBucket",
        );
    }
    match error {
        object_store::Error::NotFound { .. } => {
            Refusal::internal(format!("The specified S3 prefix '{key}' does not exist"))
        }
        other => failed(other),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::internal(format!("S3ServiceException:{error}"))
}
