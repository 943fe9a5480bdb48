//! The service `http`, and `context.http`: requests that a function describes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::web::{Web, WebError, WebRequest, WebResponse};
use super::{ServiceError, arguments};

/// The name of what functions have thrown at them where no answer came.
const NAME: &str = "HTTPError";

/// Does `get`, `post`, `put`, `patch`, `delete` or `head`.
///
/// Answers `{ status, statusCode, contentLength, headers, cookies, body }` whatever the status is.
pub(super) async fn call(
    web: &Web,
    operation: &str,
    args: &Document,
) -> Result<Document, ServiceError> {
    let method = method(operation)?;
    let mut request = request(method, args)?;
    if let Some(address) = arguments::text(args, "authUrl")? {
        authorize(web, address, &mut request).await?;
    }
    let is_head = request.method == Method::HEAD;
    let response = web.send(request).await?;
    Ok(answer(&response, is_head))
}

impl From<WebError> for ServiceError {
    fn from(error: WebError) -> Self {
        Self {
            is_transient: error.is_transient,
            ..Self::named(NAME, error.message)
        }
    }
}

fn method(operation: &str) -> Result<Method, ServiceError> {
    Ok(match operation {
        "get" => Method::GET,
        "post" => Method::POST,
        "put" => Method::PUT,
        "patch" => Method::PATCH,
        "delete" => Method::DELETE,
        "head" => Method::HEAD,
        _ => {
            return Err(wrong(format!(
                "http has no `{operation}`: there are get, post, put, patch, delete and head"
            )));
        }
    })
}

fn request(method: Method, args: &Document) -> Result<WebRequest, ServiceError> {
    if arguments::flag(args, "digestAuth")? {
        return Err(wrong(
            "digest authentication is not supported; leave `digestAuth` out to use basic authentication",
        ));
    }
    let mut url = url(args)?;
    let mut headers = headers(args)?;
    add_credentials(&mut url, args, &mut headers)?;
    add_cookies(args, &mut headers)?;
    let body = body(args, &mut headers)?;
    Ok(WebRequest {
        method,
        url,
        headers,
        body,
        follows_redirects: arguments::flag(args, "followRedirects")?,
    })
}

/// The `url`, or what its parts come to.
fn url(args: &Document) -> Result<Url, ServiceError> {
    let mut url = match arguments::text(args, "url")? {
        Some(text) => parsed(text)?,
        None => {
            let scheme = arguments::text(args, "scheme")?.unwrap_or("http");
            if !matches!(scheme, "http" | "https") {
                return Err(wrong(format!(
                    "the scheme {scheme} is not allowed; use http or https"
                )));
            }
            let host = arguments::text(args, "host")?
                .filter(|host| !host.is_empty() && !host.contains(['/', '@', '?', '#', '\\']))
                .ok_or_else(|| wrong("give a `url`, or a `host` beside `scheme` and `path`"))?;
            let mut url = parsed(&format!("{scheme}://{host}/"))?;
            if let Some(path) = arguments::text(args, "path")? {
                url.set_path(path);
            }
            url
        }
    };
    if let Some(query) = arguments::document(args, "query")? {
        let mut pairs = url.query_pairs_mut();
        for (name, value) in query {
            for value in texts(value, name)? {
                pairs.append_pair(name, &value);
            }
        }
    }
    if let Some(fragment) = arguments::text(args, "fragment")? {
        url.set_fragment(Some(fragment));
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    Ok(url)
}

/// The text is not repeated in the error, for what it may hold.
fn parsed(text: &str) -> Result<Url, ServiceError> {
    let url =
        Url::parse(text).map_err(|error| wrong(format!("the URL cannot be read: {error}")))?;
    match url.has_host() {
        true => Ok(url),
        false => Err(wrong("the URL names no host")),
    }
}

fn headers(args: &Document) -> Result<HeaderMap, ServiceError> {
    let mut headers = HeaderMap::new();
    let Some(given) = arguments::document(args, "headers")? else {
        return Ok(headers);
    };
    for (name, value) in given {
        let header = HeaderName::try_from(name)
            .map_err(|_| wrong(format!("`{name}` is no name of a header")))?;
        // Those of the connection are the client's: of another length, say, a body would be two requests.
        if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&header) {
            continue;
        }
        for value in texts(value, name)? {
            let value = HeaderValue::try_from(value)
                .map_err(|_| wrong(format!("the header {name} has a value that it cannot have")))?;
            headers.append(header.clone(), value);
        }
    }
    Ok(headers)
}

/// `username` and `password`, or those in the URL, which they leave.
fn add_credentials(
    url: &mut Url,
    args: &Document,
    headers: &mut HeaderMap,
) -> Result<(), ServiceError> {
    let (user, password) = match arguments::text(args, "username")? {
        Some(user) => {
            let password = arguments::text(args, "password")?.unwrap_or_default();
            (user.to_owned(), password.to_owned())
        }
        None => {
            let decoded = |text: &str| {
                let text = percent_encoding::percent_decode_str(text);
                text.decode_utf8_lossy().into_owned()
            };
            let password = decoded(url.password().unwrap_or_default());
            (decoded(url.username()), password)
        }
    };
    let without = url.set_username("").and_then(|()| url.set_password(None));
    without.map_err(|()| wrong("the URL names no host"))?;
    let is_given = !user.is_empty() || !password.is_empty();
    if is_given && !headers.contains_key(AUTHORIZATION) {
        headers.insert(AUTHORIZATION, basic(&user, &password)?);
    }
    Ok(())
}

/// The value of `Authorization` for a user and a password.
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue, ServiceError> {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
        .map_err(|_| wrong("the credentials cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `cookies`, `{ name: value }`.
fn add_cookies(args: &Document, headers: &mut HeaderMap) -> Result<(), ServiceError> {
    let Some(given) = arguments::document(args, "cookies")? else {
        return Ok(());
    };
    for (name, value) in given {
        let value = arguments::plain(value)
            .ok_or_else(|| wrong(format!("the cookie {name} is no string")))?;
        add_cookie(headers, name, &value)?;
    }
    Ok(())
}

fn add_cookie(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), ServiceError> {
    let mut cookies = match headers.get(COOKIE).and_then(|value| value.to_str().ok()) {
        Some(before) => format!("{before}; "),
        None => String::new(),
    };
    if name.contains([';', '=', ',']) || value.contains(';') {
        return Err(wrong(format!("`{name}` is no cookie that can be sent")));
    }
    cookies.push_str(&format!("{name}={value}"));
    let cookies = HeaderValue::try_from(cookies)
        .map_err(|_| wrong(format!("the cookie {name} has a value that it cannot have")))?;
    headers.insert(COOKIE, cookies);
    Ok(())
}

/// Gets `authUrl` with the credentials of the request, which takes over the cookies that come back.
async fn authorize(web: &Web, address: &str, request: &mut WebRequest) -> Result<(), ServiceError> {
    let mut url = parsed(address)?;
    let mut headers = HeaderMap::new();
    add_credentials(&mut url, &Document::new(), &mut headers)?;
    let is_same_host = url.origin() == request.url.origin();
    if let Some(given) = request.headers.get(AUTHORIZATION)
        && is_same_host
        && !headers.contains_key(AUTHORIZATION)
    {
        headers.insert(AUTHORIZATION, given.clone());
    }
    let authorized = web
        .send(WebRequest {
            method: Method::GET,
            url,
            headers,
            body: Bytes::new(),
            follows_redirects: false,
        })
        .await?;
    if !(authorized.status.is_success() || authorized.status.is_redirection()) {
        return Err(ServiceError::named(
            NAME,
            format!("`authUrl` answered {}", authorized.status.as_u16()),
        ));
    }
    for (name, value) in cookies(&authorized.headers) {
        add_cookie(&mut request.headers, &name, &value)?;
    }
    Ok(())
}

/// `body` or `form`.
fn body(args: &Document, headers: &mut HeaderMap) -> Result<Bytes, ServiceError> {
    let form = arguments::document(args, "form")?;
    let body = match args.get("body") {
        None | Some(Bson::Null | Bson::Undefined) => None,
        Some(Bson::String(text)) => Some(Bytes::from(text.clone())),
        Some(Bson::Binary(binary)) => Some(Bytes::from(binary.bytes.clone())),
        Some(_) => {
            return Err(wrong(
                "`body` is no string or binary; set `encodeBodyAsJSON` to send it as JSON",
            ));
        }
    };
    match (body, form) {
        (Some(_), Some(_)) => Err(wrong("give either `body` or `form`")),
        (None, None) => Ok(Bytes::new()),
        (Some(body), None) => {
            if arguments::flag(args, "encodeBodyAsJSON")? && !headers.contains_key(CONTENT_TYPE) {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            Ok(body)
        }
        (None, Some(form)) => form_body(form, headers),
    }
}

/// Encoded as a URL's query is, or in parts where the header asks for it.
fn form_body(form: &Document, headers: &mut HeaderMap) -> Result<Bytes, ServiceError> {
    let mut fields = Vec::new();
    for (name, value) in form {
        for value in texts(value, name)? {
            fields.push((name.as_str(), value));
        }
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let is_multipart = content_type.is_some_and(|content_type| {
        let kind = content_type.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("multipart/form-data")
    });
    if !is_multipart {
        let encoded = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        if content_type.is_none() {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, kind);
        }
        return Ok(encoded.into());
    }
    let boundary = Uuid::new_v4().simple().to_string();
    let mut out = String::new();
    for (name, value) in fields {
        let name = name
            .replace('"', "%22")
            .replace('\r', "%0D")
            .replace('\n', "%0A");
        out.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    out.push_str(&format!("--{boundary}--\r\n"));
    let kind = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"))
        .map_err(|_| wrong("the form cannot be sent"))?;
    headers.insert(CONTENT_TYPE, kind);
    Ok(out.into())
}

/// The texts of a plain value, or of each in an array.
fn texts(value: &Bson, name: &str) -> Result<Vec<String>, ServiceError> {
    let text = |value: &Bson| {
        arguments::plain(value)
            .ok_or_else(|| wrong(format!("`{name}` has a value that is no string")))
    };
    match value {
        Bson::Array(values) => values.iter().map(text).collect(),
        Bson::Null | Bson::Undefined => Ok(Vec::new()),
        value => Ok(vec![text(value)?]),
    }
}

fn answer(response: &WebResponse, is_head: bool) -> Document {
    let status = response.status;
    let mut headers = Document::new();
    for name in response.headers.keys() {
        let values = response.headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        headers.insert(
            canonical_name(name.as_str()),
            values.map(Bson::String).collect::<Vec<_>>(),
        );
    }
    let mut jar = Document::new();
    for (name, value) in cookies(&response.headers) {
        jar.insert(name, value);
    }
    let announced = response
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    let length = match announced {
        Some(announced) => announced,
        None if is_head => -1,
        None => i64::try_from(response.body.len()).unwrap_or(i64::MAX),
    };
    let reason = status.canonical_reason().unwrap_or_default();
    bson::doc! {
        "status": format!("{} {reason}", status.as_u16()).trim_end(),
        "statusCode": i32::from(status.as_u16()),
        "contentLength": whole(length),
        "headers": headers,
        "cookies": jar,
        "body": Binary { subtype: BinarySubtype::Generic, bytes: response.body.to_vec() },
    }
}

/// A number of JavaScript's, which an int64 would not be.
fn whole(length: i64) -> Bson {
    match i32::try_from(length) {
        Ok(length) => length.into(),
        Err(_) => Bson::Double(length as f64),
    }
}

/// The names and values of the cookies that an answer sets.
fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let set = headers.get_all(SET_COOKIE).iter();
    set.filter_map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let pair = text.split(';').next().unwrap_or_default();
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    })
    .filter(|(name, _)| !name.is_empty())
    .collect()
}

/// A header's name as Atlas writes it: `content-type` becomes `Content-Type`.
pub(crate) fn canonical_name(name: &str) -> String {
    let mut is_first = true;
    let spelled = name.chars().map(|character| {
        let spelled = match is_first {
            true => character.to_ascii_uppercase(),
            false => character.to_ascii_lowercase(),
        };
        is_first = character == '-';
        spelled
    });
    spelled.collect()
}

fn wrong(message: impl Into<String>) -> ServiceError {
    ServiceError::of_arguments(message)
}
