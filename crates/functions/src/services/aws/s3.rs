//! S3: objects.

use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document};
use bytes::Bytes;
use chrono::Utc;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::send::{AwsRequest, Errors, Service};
use super::{AwsClient, AwsError, needed, only_known, unknown_action, xml};
use crate::services::arguments;
use crate::services::web::WebResponse;

const S3: Service = Service {
    signing: "s3",
    host: "s3",
    id: "S3",
    errors: Errors::Xml,
};

/// What stays as it is in a key.
const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// An action on one object, or on a list of them.
struct Action {
    name: &'static str,
    method: Method,
    /// Arguments that are headers.
    headers: &'static [(&'static str, &'static str)],
    /// Arguments that are part of the query.
    query: &'static [(&'static str, &'static str)],
}

const OF_ALL: [(&str, &str); 2] = [
    ("ExpectedBucketOwner", "x-amz-expected-bucket-owner"),
    ("RequestPayer", "x-amz-request-payer"),
];

const OF_READING: &[(&str, &str)] = &[
    ("IfMatch", "if-match"),
    ("IfModifiedSince", "if-modified-since"),
    ("IfNoneMatch", "if-none-match"),
    ("IfUnmodifiedSince", "if-unmodified-since"),
    ("Range", "range"),
];

const READ_FROM: &[(&str, &str)] = &[
    ("PartNumber", "partNumber"),
    ("ResponseCacheControl", "response-cache-control"),
    ("ResponseContentDisposition", "response-content-disposition"),
    ("ResponseContentEncoding", "response-content-encoding"),
    ("ResponseContentLanguage", "response-content-language"),
    ("ResponseContentType", "response-content-type"),
    ("VersionId", "versionId"),
];

const ACTIONS: [Action; 5] = [
    Action {
        name: "PutObject",
        method: Method::PUT,
        headers: &[
            ("ACL", "x-amz-acl"),
            (
                "BucketKeyEnabled",
                "x-amz-server-side-encryption-bucket-key-enabled",
            ),
            ("CacheControl", "cache-control"),
            ("ContentDisposition", "content-disposition"),
            ("ContentEncoding", "content-encoding"),
            ("ContentLanguage", "content-language"),
            ("ContentMD5", "content-md5"),
            ("ContentType", "content-type"),
            ("Expires", "expires"),
            ("GrantFullControl", "x-amz-grant-full-control"),
            ("GrantRead", "x-amz-grant-read"),
            ("GrantReadACP", "x-amz-grant-read-acp"),
            ("GrantWriteACP", "x-amz-grant-write-acp"),
            ("IfMatch", "if-match"),
            ("IfNoneMatch", "if-none-match"),
            ("ObjectLockLegalHoldStatus", "x-amz-object-lock-legal-hold"),
            ("ObjectLockMode", "x-amz-object-lock-mode"),
            (
                "SSEKMSEncryptionContext",
                "x-amz-server-side-encryption-context",
            ),
            ("SSEKMSKeyId", "x-amz-server-side-encryption-aws-kms-key-id"),
            ("ServerSideEncryption", "x-amz-server-side-encryption"),
            ("StorageClass", "x-amz-storage-class"),
            ("Tagging", "x-amz-tagging"),
            ("WebsiteRedirectLocation", "x-amz-website-redirect-location"),
        ],
        query: &[],
    },
    Action {
        name: "GetObject",
        method: Method::GET,
        headers: OF_READING,
        query: READ_FROM,
    },
    Action {
        name: "HeadObject",
        method: Method::HEAD,
        headers: OF_READING,
        query: READ_FROM,
    },
    Action {
        name: "DeleteObject",
        method: Method::DELETE,
        headers: &[
            (
                "BypassGovernanceRetention",
                "x-amz-bypass-governance-retention",
            ),
            ("MFA", "x-amz-mfa"),
        ],
        query: &[("VersionId", "versionId")],
    },
    Action {
        name: "ListObjectsV2",
        method: Method::GET,
        headers: &[],
        query: &[
            ("ContinuationToken", "continuation-token"),
            ("Delimiter", "delimiter"),
            ("MaxKeys", "max-keys"),
            ("Prefix", "prefix"),
            ("StartAfter", "start-after"),
        ],
    },
];

/// What the name of an action adds to the arguments that are headers or in the query.
fn extras(action: &str) -> &'static [&'static str] {
    match action {
        "PutObject" => &["Bucket", "Key", "Body", "Metadata"],
        "ListObjectsV2" => &["Bucket"],
        _ => &["Bucket", "Key"],
    }
}

/// What stands beside an object in an answer's headers.
const OF_OBJECTS: [(&str, &str, Kind); 17] = [
    ("accept-ranges", "AcceptRanges", Kind::Text),
    ("cache-control", "CacheControl", Kind::Text),
    ("content-disposition", "ContentDisposition", Kind::Text),
    ("content-encoding", "ContentEncoding", Kind::Text),
    ("content-language", "ContentLanguage", Kind::Text),
    ("content-length", "ContentLength", Kind::Number),
    ("content-range", "ContentRange", Kind::Text),
    ("content-type", "ContentType", Kind::Text),
    ("expires", "Expires", Kind::Text),
    ("last-modified", "LastModified", Kind::Moment),
    ("x-amz-missing-meta", "MissingMeta", Kind::Number),
    ("x-amz-mp-parts-count", "PartsCount", Kind::Number),
    ("x-amz-replication-status", "ReplicationStatus", Kind::Text),
    ("x-amz-restore", "Restore", Kind::Text),
    ("x-amz-storage-class", "StorageClass", Kind::Text),
    ("x-amz-tagging-count", "TagCount", Kind::Number),
    (
        "x-amz-website-redirect-location",
        "WebsiteRedirectLocation",
        Kind::Text,
    ),
];

/// What stands in the headers of all answers.
const OF_ANSWERS: [(&str, &str, Kind); 8] = [
    ("etag", "ETag", Kind::Text),
    ("x-amz-delete-marker", "DeleteMarker", Kind::Flag),
    ("x-amz-expiration", "Expiration", Kind::Text),
    ("x-amz-request-charged", "RequestCharged", Kind::Text),
    (
        "x-amz-server-side-encryption",
        "ServerSideEncryption",
        Kind::Text,
    ),
    (
        "x-amz-server-side-encryption-aws-kms-key-id",
        "SSEKMSKeyId",
        Kind::Text,
    ),
    (
        "x-amz-server-side-encryption-bucket-key-enabled",
        "BucketKeyEnabled",
        Kind::Flag,
    ),
    ("x-amz-version-id", "VersionId", Kind::Text),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
    Moment,
}

const METADATA: &str = "x-amz-meta-";

/// Does one of [`ACTIONS`] or `PresignURL`, with the names that Amazon's SDK for Go gives arguments and results.
pub(super) async fn call(
    client: &AwsClient,
    action: &str,
    args: &Document,
    region: Option<&str>,
) -> Result<Bson, AwsError> {
    if action == "PresignURL" {
        return presign(client, args, region).await;
    }
    let Some(action) = ACTIONS.iter().find(|known| known.name == action) else {
        let known: Vec<&str> = ACTIONS.iter().map(|known| known.name).collect();
        return Err(unknown_action(
            "s3",
            action,
            &[&known[..], &["PresignURL"]].concat(),
        ));
    };
    let request = request(action, args, region)?;
    let response = client.send(request).await.map_err(said_by_status)?;
    let mut result = Document::new();
    read_headers(&response, &OF_ANSWERS, &mut result);
    match action.name {
        "GetObject" | "HeadObject" => {
            read_headers(&response, &OF_OBJECTS, &mut result);
            result.insert("Metadata", metadata(&response));
            if action.name == "GetObject" {
                result.insert("Body", binary(&response.body));
            }
        }
        "ListObjectsV2" => {
            let listing = String::from_utf8_lossy(&response.body);
            result = listed(&listing)?;
        }
        _ => {}
    }
    Ok(Bson::Document(result))
}

/// An answer to HEAD has no body to say more.
fn said_by_status(mut error: AwsError) -> AwsError {
    if error.status == Some(404) && error.code == "NotFound" {
        "there is no such object".clone_into(&mut error.message);
    }
    error
}

fn request<'a>(
    action: &Action,
    args: &'a Document,
    region: Option<&'a str>,
) -> Result<AwsRequest<'a>, AwsError> {
    let names = action.headers.iter().chain(action.query).chain(&OF_ALL);
    let known: Vec<&str> = extras(action.name)
        .iter()
        .copied()
        .chain(names.map(|(name, _)| *name))
        .collect();
    only_known(args, &known)?;
    let path = match action.name {
        "ListObjectsV2" => "/".to_owned(),
        _ => path(needed(args, "Key")?)?,
    };
    let mut request = AwsRequest {
        service: S3,
        region,
        method: action.method.clone(),
        bucket: Some(bucket(args)?),
        path,
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    for (name, header) in action.headers.iter().chain(&OF_ALL) {
        if let Some(value) = plain(args, name)? {
            request.header(header, &value)?;
        }
    }
    for (name, parameter) in action.query {
        if let Some(value) = plain(args, name)? {
            request.query.push(((*parameter).to_owned(), value));
        }
    }
    match action.name {
        "PutObject" => {
            request.body = body(args.get("Body"))?;
            for (name, value) in args.get_document("Metadata").into_iter().flatten() {
                let value = arguments::plain(value).ok_or_else(|| not_plain(name))?;
                request.header(&format!("{METADATA}{}", name.to_ascii_lowercase()), &value)?;
            }
        }
        "ListObjectsV2" => {
            request.query.push(("list-type".to_owned(), "2".to_owned()));
            // XML cannot hold all that keys can.
            request
                .query
                .push(("encoding-type".to_owned(), "url".to_owned()));
        }
        _ => {}
    }
    Ok(request)
}

/// Answers a URL at which an object can be read, written or removed without credentials for `ExpirationMS`.
async fn presign(
    client: &AwsClient,
    args: &Document,
    region: Option<&str>,
) -> Result<Bson, AwsError> {
    only_known(
        args,
        &["Bucket", "Key", "Method", "ExpirationMS", "ContentType"],
    )?;
    let method = match plain(args, "Method")?.as_deref() {
        None | Some("GET") => Method::GET,
        Some("PUT") => Method::PUT,
        Some("HEAD") => Method::HEAD,
        Some("DELETE") => Method::DELETE,
        Some(_) => {
            return Err(AwsError::of_parameter(
                "`Method` is none of GET, PUT, HEAD and DELETE",
            ));
        }
    };
    let life =
        arguments::whole(args, "ExpirationMS").map_err(|e| AwsError::of_parameter(e.message))?;
    let life = life
        .and_then(|millis| u64::try_from(millis).ok())
        .map(Duration::from_millis);
    let week = Duration::from_secs(7 * 24 * 3600);
    let life = life.filter(|life| *life >= Duration::from_secs(1) && *life <= week);
    let life = life.ok_or_else(|| {
        AwsError::of_parameter("`ExpirationMS` is no time from a second to seven days")
    })?;
    let mut request = AwsRequest {
        service: S3,
        region,
        method,
        bucket: Some(bucket(args)?),
        path: path(needed(args, "Key")?)?,
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    if let Some(kind) = plain(args, "ContentType")? {
        request.header("content-type", &kind)?;
    }
    let url = client.presign(request, life).await?;
    Ok(Bson::String(url.into()))
}

/// A bucket becomes part of a host's name or of a path.
fn bucket(args: &Document) -> Result<&str, AwsError> {
    let bucket = needed(args, "Bucket")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !bucket.chars().all(is_plain) || bucket.starts_with('.') {
        return Err(AwsError::of_parameter("`Bucket` is no name of a bucket"));
    }
    Ok(bucket)
}

fn path(key: &str) -> Result<String, AwsError> {
    // URLs have no such parts: they would lead to another key.
    if key.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(AwsError::of_parameter("`Key` has a part `.` or `..`"));
    }
    Ok(format!("/{}", utf8_percent_encode(key, KEY)))
}

fn body(given: Option<&Bson>) -> Result<Bytes, AwsError> {
    match given {
        None | Some(Bson::Null | Bson::Undefined) => Ok(Bytes::new()),
        Some(Bson::String(text)) => Ok(Bytes::from(text.clone())),
        Some(Bson::Binary(binary)) => Ok(Bytes::from(binary.bytes.clone())),
        Some(_) => Err(AwsError::of_parameter("`Body` is no string or binary")),
    }
}

/// The text of an argument; dates are as HTTP has them.
fn plain(args: &Document, name: &str) -> Result<Option<String>, AwsError> {
    match args.get(name) {
        None | Some(Bson::Null | Bson::Undefined) => Ok(None),
        Some(Bson::DateTime(moment)) => {
            let moment = chrono::DateTime::<Utc>::from_timestamp_millis(moment.timestamp_millis());
            let moment = moment.ok_or_else(|| not_plain(name))?;
            Ok(Some(moment.format("%a, %d %b %Y %H:%M:%S GMT").to_string()))
        }
        Some(value) => match arguments::plain(value) {
            Some(text) => Ok(Some(text)),
            None => Err(not_plain(name)),
        },
    }
}

fn not_plain(name: &str) -> AwsError {
    AwsError::of_parameter(format!("`{name}` is no string, number or date"))
}

fn read_headers(response: &WebResponse, table: &[(&str, &str, Kind)], result: &mut Document) {
    for (header, name, kind) in table {
        let value = response.headers.get(*header);
        if let Some(text) = value.and_then(|value| value.to_str().ok()) {
            result.insert(*name, read(text, *kind));
        }
    }
}

/// What is not what it should be stays a text.
fn read(text: &str, kind: Kind) -> Bson {
    let read = match kind {
        Kind::Text => None,
        Kind::Number => text.parse().ok().map(Bson::Int64),
        Kind::Flag => text.parse().ok().map(Bson::Boolean),
        Kind::Moment => {
            let moment = chrono::DateTime::parse_from_rfc2822(text)
                .or_else(|_| chrono::DateTime::parse_from_rfc3339(text));
            let millis = moment.ok().map(|moment| moment.timestamp_millis());
            millis.map(|millis| Bson::DateTime(DateTime::from_millis(millis)))
        }
    };
    read.unwrap_or_else(|| Bson::String(text.to_owned()))
}

fn metadata(response: &WebResponse) -> Document {
    let mut metadata = Document::new();
    for (name, value) in &response.headers {
        if let Some(name) = name.as_str().strip_prefix(METADATA) {
            metadata.insert(name, String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
    metadata
}

fn binary(bytes: &Bytes) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}

fn listed(listing: &str) -> Result<Document, AwsError> {
    let wrong = || AwsError::new("SerializationError", "the listing of S3 cannot be read");
    let decoded = |text: String| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .map(String::from)
            .map_err(|_| wrong())
    };
    let mut contents = Vec::new();
    for object in xml::elements(listing, "Contents") {
        let key = xml::text(object, "Key").ok_or_else(wrong)?;
        let mut entry = bson::doc! { "Key": decoded(key)? };
        for (name, kind) in [
            ("LastModified", Kind::Moment),
            ("ETag", Kind::Text),
            ("Size", Kind::Number),
            ("StorageClass", Kind::Text),
        ] {
            if let Some(text) = xml::text(object, name) {
                entry.insert(name, read(&text, kind));
            }
        }
        contents.push(Bson::Document(entry));
    }
    let mut prefixes = Vec::new();
    for prefix in xml::elements(listing, "CommonPrefixes") {
        let prefix = xml::text(prefix, "Prefix").ok_or_else(wrong)?;
        prefixes.push(Bson::Document(bson::doc! { "Prefix": decoded(prefix)? }));
    }
    let mut result = bson::doc! {
        "IsTruncated": xml::text(listing, "IsTruncated").as_deref() == Some("true"),
        "Contents": contents,
        "CommonPrefixes": prefixes,
    };
    if let Some(token) = xml::text(listing, "NextContinuationToken") {
        result.insert("NextContinuationToken", token);
    }
    for name in ["KeyCount", "MaxKeys"] {
        if let Some(text) = xml::text(listing, name) {
            result.insert(name, read(&text, Kind::Number));
        }
    }
    Ok(result)
}
