//! Where a lake is: a directory, an S3 bucket or an Azure container, and a path below it.

use std::fmt;
use std::ops::Range;
use std::path::{Component, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AwsCredentialProvider};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::{Path, PathPart};
use object_store::{
    BackoffConfig, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use tributary_model::{Error, ErrorKind, Result};
use url::Url;

use crate::error::store_failed;

/// A place in an object store or file system.
#[derive(Clone)]
pub struct Location {
    /// The bucket, container or file system.
    root: Arc<dyn ObjectStore>,
    /// The path below it.
    path: Path,
    /// The address of the bucket, container or file system.
    root_url: Url,
    shown: String,
    is_local: bool,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({})", self.shown)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// How long a store that does not answer is tried: long enough for a throttled one, and short
/// enough that a wrong endpoint is told while somebody is still looking.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 8,
        retry_timeout: Duration::from_secs(30),
    }
}

impl Location {
    /// Parses a path, `s3://bucket/prefix`, `az://container/prefix` or
    /// `abfss://container@account.dfs.core.windows.net/prefix`. Credentials and endpoints come from
    /// the providers' usual environment variables. Nothing is reached or created yet.
    ///
    /// # Errors
    /// The address is malformed, or the environment lacks what the provider needs.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once("://") {
            None => Self::local(text),
            Some(("file", _)) => {
                let url = Url::parse(text).map_err(|e| malformed(text).because(e))?;
                let path = url.to_file_path().map_err(|()| malformed(text))?;
                Self::local(&path.to_string_lossy())
            }
            Some(("s3" | "s3a", _)) => Self::s3(text),
            Some(("az" | "azure" | "abfs" | "abfss" | "adl", _)) => Self::azure(text),
            Some((scheme, _)) => Err(malformed(text).because(format!("unknown scheme `{scheme}`"))),
        }
    }

    fn local(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(malformed(text));
        }
        let absolute = std::path::absolute(text).map_err(|e| malformed(text).because(e))?;
        let absolute = without_parents(&absolute);
        let path = Path::from_absolute_path(&absolute).map_err(|e| malformed(text).because(e))?;
        let root_url = Url::parse("file:///").map_err(|e| malformed(text).because(e))?;
        Ok(Self {
            root: Arc::new(LocalFileSystem::new()),
            path,
            root_url,
            shown: text.trim_end_matches('/').to_owned(),
            is_local: true,
        })
    }

    fn s3(text: &str) -> Result<Self> {
        Ok(Self::s3_with_keys(text)?.0)
    }

    /// A place in S3, and what gives the keys that it is reached with.
    pub(crate) fn s3_with_keys(text: &str) -> Result<(Self, AwsCredentialProvider)> {
        let url = Url::parse(text).map_err(|e| malformed(text).because(e))?;
        let bucket = url.host_str().ok_or_else(|| malformed(text))?;
        let store = s3_settings(bucket)
            .build()
            .map_err(|error| store_failed("cannot use the bucket", text, error))?;
        let keys = Arc::clone(store.credentials());
        let place = Self::remote(text, &url, &format!("s3://{bucket}"), Arc::new(store))?;
        Ok((place, keys))
    }

    fn azure(text: &str) -> Result<Self> {
        let url = Url::parse(text).map_err(|e| malformed(text).because(e))?;
        let container = if url.username().is_empty() {
            url.host_str()
        } else {
            Some(url.username())
        };
        let container = container.ok_or_else(|| malformed(text))?;
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_url(text)
            .with_retry(retries());
        if is_loopback(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]) {
            builder = builder.with_allow_http(true);
        }
        let store = builder
            .build()
            .map_err(|error| store_failed("cannot use the container", text, error))?;
        let authority = if url.username().is_empty() {
            container.to_owned()
        } else {
            format!("{container}@{}", url.host_str().unwrap_or_default())
        };
        Self::remote(
            text,
            &url,
            &format!("{}://{authority}", url.scheme()),
            Arc::new(store),
        )
    }

    fn remote(text: &str, url: &Url, root: &str, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let path = Path::from_url_path(url.path()).map_err(|e| malformed(text).because(e))?;
        let root_url = Url::parse(root).map_err(|e| malformed(text).because(e))?;
        Ok(Self {
            root: store,
            path,
            root_url,
            shown: text.trim_end_matches('/').to_owned(),
            is_local: false,
        })
    }

    /// The place `name` below this one. It is called just that, but for a few characters; see
    /// `escaped`.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let name = escaped(name);
        // What is escaped can be parsed.
        let part = PathPart::parse(&name).unwrap_or_else(|_| PathPart::from(name.as_str()));
        let path = self.path.clone().join(part);
        let shown = match path.filename() {
            Some(part) => format!("{}/{part}", self.shown),
            None => self.shown.clone(),
        };
        Self {
            path,
            shown,
            ..self.clone()
        }
    }

    /// The same place, whose store is reached through `decorate`.
    #[must_use]
    pub fn through(
        self,
        decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> Self {
        Self {
            root: decorate(self.root),
            ..self
        }
    }

    /// Whether this is a directory of this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// The directory, where this is one.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        self.is_local
            .then(|| PathBuf::from(format!("/{}", self.path)))
    }

    pub(crate) fn root(&self) -> &Arc<dyn ObjectStore> {
        &self.root
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The address of the bucket, container or file system.
    pub(crate) fn root_address(&self) -> &str {
        self.root_url.as_str().trim_end_matches('/')
    }

    /// The address as a URL.
    pub(crate) fn url(&self) -> Url {
        let mut url = self.root_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear();
            for part in self.path.parts() {
                segments.push(part.as_ref());
            }
        }
        url
    }

    /// The address as Hadoop's file systems take it: nothing in it is escaped.
    pub(crate) fn unescaped_url(&self) -> String {
        let root = match self.is_local {
            true => "file:",
            false => self.root_url.as_str().trim_end_matches('/'),
        };
        match self.path.as_ref() {
            "" => root.to_owned(),
            path => format!("{root}/{path}"),
        }
    }

    /// Whether this is in an S3 bucket.
    pub(crate) fn is_s3(&self) -> bool {
        self.root_url.scheme() == "s3"
    }

    /// The bucket, where this is in S3.
    #[must_use]
    pub fn bucket(&self) -> Option<&str> {
        self.root_address().strip_prefix("s3://")
    }

    pub(crate) fn failed(&self, what: &str, error: object_store::Error) -> Error {
        store_failed(what, &self.shown, error)
    }

    /// Writes a small object and removes it again, to see whether that is possible.
    ///
    /// # Errors
    /// It is not.
    pub async fn probe(&self) -> Result<()> {
        let existed = self.directory().is_none_or(|directory| directory.exists());
        let probe = self.child(&format!(
            ".tributary-probe-{}",
            uuid::Uuid::new_v4().simple()
        ));
        probe
            .write(b"written by `tributary check`, and removed again".to_vec())
            .await?;
        probe.remove(probe.path()).await?;
        if let (false, Some(directory)) = (existed, self.directory()) {
            // Leaves what others may have put there meanwhile.
            let _ = tokio::fs::remove_dir(directory).await;
        }
        Ok(())
    }

    /// The bytes of a small object; none where there is no such object.
    pub(crate) async fn read(&self) -> Result<Option<Vec<u8>>> {
        match self.root.get(&self.path).await {
            Ok(found) => {
                let bytes = found
                    .bytes()
                    .await
                    .map_err(|e| self.failed("cannot read", e))?;
                Ok(Some(bytes.to_vec()))
            }
            Err(object_store::Error::NotFound { source, .. }) => {
                let text = source.to_string();
                if text.contains("NoSuchBucket") || text.contains("ContainerNotFound") {
                    let path = self.path.to_string();
                    return Err(self.failed(
                        "cannot read",
                        object_store::Error::NotFound { path, source },
                    ));
                }
                Ok(None)
            }
            Err(error) => Err(self.failed("cannot read", error)),
        }
    }

    /// A range of an object's bytes.
    pub(crate) async fn read_range(&self, range: Range<u64>) -> Result<Bytes> {
        self.root
            .get_range(&self.path, range)
            .await
            .map_err(|e| self.failed("cannot read", e))
    }

    /// Writes a small object as a whole.
    pub(crate) async fn write(&self, bytes: Vec<u8>) -> Result<()> {
        self.root
            .put(&self.path, PutPayload::from(bytes))
            .await
            .map(drop)
            .map_err(|e| self.failed("cannot write", e))
    }

    /// Writes a small object unless there is one already; false where there is.
    pub(crate) async fn create(&self, bytes: Vec<u8>) -> Result<bool> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        match self
            .root
            .put_opts(&self.path, PutPayload::from(bytes), options)
            .await
        {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(self.failed("cannot write", error)),
        }
    }

    /// Every object below this place.
    pub(crate) async fn list(&self) -> Result<Vec<ObjectMeta>> {
        match self.root.list(Some(&self.path)).try_collect().await {
            Ok(found) => Ok(found),
            Err(object_store::Error::NotFound { source, .. })
                if !source.to_string().contains("NoSuchBucket") =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(self.failed("cannot list", error)),
        }
    }

    /// Names of what is directly below this place as a directory.
    pub(crate) async fn directories(&self) -> Result<Vec<String>> {
        let prefix = (!self.path.as_ref().is_empty()).then_some(&self.path);
        match self.root.list_with_delimiter(prefix).await {
            Ok(found) => Ok(found
                .common_prefixes
                .iter()
                .filter_map(|p| p.filename().map(unescaped))
                .collect()),
            Err(object_store::Error::NotFound { source, .. })
                if !source.to_string().contains("NoSuchBucket") =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(self.failed("cannot list", error)),
        }
    }

    /// Removes an object; one that is gone already is no error.
    pub(crate) async fn remove(&self, path: &Path) -> Result<()> {
        match self.root.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("cannot remove a file", error)),
        }
    }

    /// Removes every object below this place, and the directory where it is one.
    pub(crate) async fn remove_all(&self) -> Result<()> {
        if let Some(directory) = self.directory() {
            return match tokio::fs::remove_dir_all(&directory).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::new(ErrorKind::Storage, "cannot remove a directory")
                        .on("target", &self.shown)
                        .because(error))
                }
                _ => Ok(()),
            };
        }
        for object in self.list().await? {
            self.remove(&object.location).await?;
        }
        Ok(())
    }
}

/// The same place without `..`, which a store does not take. Above a link is what is above the place that it
/// leads to, as everywhere else.
fn without_parents(path: &std::path::Path) -> PathBuf {
    let mut found = PathBuf::new();
    for component in path.components() {
        if component != Component::ParentDir {
            found.push(component);
            continue;
        }
        if found.is_symlink()
            && let Ok(place) = found.canonicalize()
        {
            found = place;
        }
        found.pop();
    }
    found
}

/// How the environment says that a bucket in S3 is reached.
pub(crate) fn s3_settings(bucket: &str) -> AmazonS3Builder {
    let settings = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retries());
    match is_loopback(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]) {
        true => settings.with_allow_http(true),
        false => settings,
    }
}

/// Whether the first of the variables that is set names a server on this machine: a stand-in that
/// speaks plain HTTP.
fn is_loopback(variables: &[&str]) -> bool {
    variables
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .and_then(|text| Url::parse(&text).ok())
        .is_some_and(|url| match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        })
}

fn malformed(text: &str) -> Error {
    Error::new(ErrorKind::Usage, "not a place for a lake")
        .on("target", text)
        .remedy("use a directory, s3://bucket/prefix, az://container/prefix or abfss://container@account.dfs.core.windows.net/prefix")
}

/// A name as it stands in a path: itself, but for control characters, `/`, `\` and `%`, which readers
/// of tables take for something else, and a name that is only dots. Each of those becomes `=` and two
/// hexadecimal digits, and so does a `=` that would look like one.
fn escaped(name: &str) -> String {
    let is_dots = matches!(name, "." | "..");
    let mut escaped = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        let looks_escaped = c == '=' && hex_digits(&name[at + 1..]).is_some();
        if c.is_ascii_control() || matches!(c, '/' | '\\' | '%') || is_dots || looks_escaped {
            escaped.push_str(&format!("={:02X}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The name that [`escaped`] made this of.
fn unescaped(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        name.push_str(before);
        match hex_digits(after) {
            Some(c) => {
                name.push(c);
                rest = &after[2..];
            }
            None => {
                name.push('=');
                rest = after;
            }
        }
    }
    name.push_str(rest);
    name
}

/// The ASCII character that the first two characters are the hexadecimal digits of.
fn hex_digits(text: &str) -> Option<char> {
    let digits = text.get(..2)?;
    let are_digits = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    let code = u8::from_str_radix(digits, 16).ok()?;
    (are_digits && code.is_ascii()).then_some(char::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were() {
        for (name, path) in [
            ("orders", "orders"),
            ("日本 \"#?*[x]'", "日本 \"#?*[x]'"),
            ("a/b\\c", "a=2Fb=5Cc"),
            ("100%", "100=25"),
            ("tab\t", "tab=09"),
            ("..", "=2E=2E"),
            ("a=b", "a=b"),
            ("a=2Fb", "a=3D2Fb"),
            ("a==3D", "a==3D3D"),
            ("=é", "=é"),
        ] {
            assert_eq!(escaped(name), path);
            assert_eq!(unescaped(path), name);
            let place = Location::parse("/lake").unwrap().child(name);
            assert_eq!(place.path().as_ref(), format!("lake/{path}"));
        }
    }

    #[test]
    fn a_path_may_lead_upwards() {
        let directory = tempfile::TempDir::new().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        std::os::unix::fs::symlink(root.join("a/b/c"), root.join("link")).unwrap();
        for (text, expected) in [
            ("a/../lake", "lake"),
            ("a/b/../../lake/./x/..", "lake"),
            ("missing/../lake", "lake"),
            ("link/../lake", "a/b/lake"),
            ("link/lake", "link/lake"),
        ] {
            let text = root.join(text).to_string_lossy().into_owned();
            let place = Location::parse(&text).unwrap();
            assert_eq!(place.directory().unwrap(), root.join(expected), "{text}");
            let place = Location::parse(&format!("file://{text}"));
            assert!(place.is_ok(), "{text}");
        }
        let above = std::env::current_dir().unwrap();
        let above = above.parent().unwrap().join("lake");
        let place = Location::parse("../lake").unwrap();
        assert_eq!(place.directory().unwrap(), above);
        assert_eq!(place.to_string(), "../lake");
        let above_all = Location::parse("/../../lake").unwrap();
        assert_eq!(above_all.path().as_ref(), "lake");
    }
}
