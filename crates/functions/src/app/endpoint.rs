//! Endpoints that functions answer over HTTP, and the webhooks that were before them.

use std::collections::BTreeMap;

use super::directory::Directory;
use super::fields::Fields;
use super::function::{Function, refuse_users};
use super::problem::meant;
use super::service::Services;
use crate::script::Source;
use crate::services::Secret;

/// An endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The path under which it is served, with `/` in front.
    pub route: String,
    /// The requests that it answers.
    pub method: EndpointMethod,
    /// The function that answers them.
    pub function: String,
    /// How a request proves that it may be answered.
    pub validation: Validation,
    /// Whether what the function makes of the response is sent; without, all that is sent is that it is done.
    pub respond_result: bool,
    /// In which form what the function returns is sent.
    pub return_type: ReturnType,
    /// Whether it is not served.
    pub disabled: bool,
    /// The file that it is written in, relative to the application's directory.
    pub file: String,
}

/// The requests that an endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointMethod {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// All of these.
    Any,
}

impl EndpointMethod {
    const ALL: [Self; 6] = [
        Self::Get,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Any,
    ];

    /// How it is written: `GET`, …, or `*`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Any => "*",
        }
    }
}

/// How a request proves that it may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validation {
    /// Not at all.
    None,
    /// By the secret itself, as the parameter `secret` of its query.
    SecretAsQueryParam(Secret),
    /// By the secret itself, as the header `secret`.
    SecretAsHeader(Secret),
    /// By a signature of its body with the secret, in the header `Endpoint-Signature`, `X-Hook-Signature` as for
    /// webhooks, or `X-Hub-Signature-256` as GitHub sends it.
    VerifyPayload(Secret),
}

/// In which form something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnType {
    /// As JSON.
    Json,
    /// As Extended JSON.
    Ejson,
}

/// Reads the endpoints, and makes functions of webhooks.
pub(super) fn read_endpoints(
    directory: &mut Directory<'_>,
    functions: &mut BTreeMap<String, Function>,
    services: &Services,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for within in ["https_endpoints", "http_endpoints"] {
        note_data_api(directory, &format!("{within}/data_api_config.json"));
        let file = format!("{within}/config.json");
        if !directory.has(&file) {
            continue;
        }
        for object in directory.objects(&file).unwrap_or_default() {
            let fields = Fields::new(&file, object);
            endpoints.extend(read_endpoint(directory, &file, fields, functions));
        }
    }
    for (service, within) in &services.webhooks {
        for entry in directory.entries(within) {
            if entry.is_directory && entry.name != "rules" {
                endpoints.extend(read_webhook(directory, service, &entry.path, functions));
            }
        }
    }
    let mut served = BTreeMap::new();
    for endpoint in &endpoints {
        let of = (endpoint.route.clone(), endpoint.method);
        if served.insert(of, ()).is_some() {
            directory.wrong(
                &endpoint.file,
                format!(
                    "there are two endpoints for {} {}",
                    endpoint.method.name(),
                    endpoint.route
                ),
                "remove one of them",
            );
        }
    }
    endpoints
}

fn note_data_api(directory: &mut Directory<'_>, file: &str) {
    if !directory.has(file) {
        return;
    }
    let Some(object) = directory.object(file) else {
        return;
    };
    if !Fields::new(file, object).flag(directory, "disabled") {
        directory.found(
            file,
            "the Data API is not served",
            "use endpoints with functions of your own",
        );
    }
}

fn read_endpoint(
    directory: &mut Directory<'_>,
    file: &str,
    mut fields: Fields<'_>,
    functions: &BTreeMap<String, Function>,
) -> Option<Endpoint> {
    fields.skip(&["id", "_id", "function_id", "secret_id", "last_modified"]);
    let route = fields.needed(directory, "route");
    let method = fields.needed(directory, "http_method");
    let function = fields.needed(directory, "function_name");
    let validation = fields.text(directory, "validation_method");
    let mut secret_config = fields.object(directory, "secret_config");
    let secret = fields
        .text(directory, "secret_name")
        .or_else(|| secret_config.text(directory, "secret"))
        .or_else(|| secret_config.text(directory, "secret_name"));
    secret_config.finish(directory);
    let respond_result = fields.flag(directory, "respond_result");
    let return_type = fields.text(directory, "return_type");
    let disabled = fields.flag(directory, "disabled");
    refuse_requesters(directory, &mut fields);
    fields.finish(directory);

    let method = method.and_then(|method| read_method(directory, file, &method));
    let return_type = match return_type.as_deref() {
        None | Some("JSON") => Some(ReturnType::Json),
        Some("EJSON") => Some(ReturnType::Ejson),
        Some(other) => {
            let what = format!("there is no return type `{other}`");
            directory.wrong(file, what, "use JSON or EJSON");
            None
        }
    };
    let validation = read_validation(
        directory,
        file,
        &format!("the endpoint {}", route.as_deref().unwrap_or_default()),
        ("validation_method", validation.as_deref()),
        secret.is_some(),
        |directory| match &secret {
            Some(name) => directory.secret(file, name),
            None => {
                directory.wrong(
                    file,
                    "an endpoint wants a secret and names none",
                    "name it in `secret_name`",
                );
                None
            }
        },
    );
    let (route, function) = (route?, function?);
    if !route.starts_with('/') {
        directory.wrong(
            file,
            format!("the route `{route}` has no `/` in front"),
            format!("write `/{route}`"),
        );
    }
    match functions.get(&function) {
        None => {
            let what =
                format!("the endpoint {route} calls `{function}`, and there is no such function");
            let known = functions.keys().map(String::as_str);
            let remedy = meant(&function, known, &format!("add functions/{function}.js"));
            directory.wrong(file, what, remedy);
        }
        Some(called) => {
            if !called.runs_as_system && validation == Some(Validation::None) && !disabled {
                directory.found(
                    file,
                    format!("the endpoint {route} answers anyone: users are not authenticated"),
                    "validate its requests with a secret",
                );
            }
        }
    }
    Some(Endpoint {
        route,
        method: method?,
        function,
        validation: validation?,
        respond_result,
        return_type: return_type?,
        disabled,
        file: file.to_owned(),
    })
}

fn refuse_requesters(directory: &mut Directory<'_>, fields: &mut Fields<'_>) {
    for key in ["fetch_custom_user_data", "create_user_on_auth"] {
        let why = "there are no users";
        fields.refuse(directory, key, why, "remove it");
    }
}

fn read_method(directory: &mut Directory<'_>, file: &str, name: &str) -> Option<EndpointMethod> {
    let found = EndpointMethod::ALL
        .into_iter()
        .find(|method| method.name().eq_ignore_ascii_case(name));
    if found.is_none() {
        let what = format!("an endpoint cannot answer `{name}`");
        directory.wrong(file, what, "use GET, POST, PUT, PATCH, DELETE or *");
    }
    found
}

/// Reads how requests to `of` prove that they may be answered. `written` is where the method stands, and `has_secret`
/// whether a secret stands beside it.
fn read_validation(
    directory: &mut Directory<'_>,
    file: &str,
    of: &str,
    (written, method): (&str, Option<&str>),
    has_secret: bool,
    secret: impl FnOnce(&mut Directory<'_>) -> Option<Secret>,
) -> Option<Validation> {
    let by: fn(Secret) -> Validation = match method {
        // Who gives a secret does not mean everybody.
        None if has_secret => {
            directory.wrong(
                file,
                format!("{of} has a secret, and no `{written}` that says how it is to be given"),
                format!(
                    "write `{written}`: SECRET_AS_QUERY_PARAM, SECRET_AS_HEADER or VERIFY_PAYLOAD, or NO_VALIDATION for everybody"
                ),
            );
            return None;
        }
        None | Some("NO_VALIDATION") => return Some(Validation::None),
        Some("SECRET_AS_QUERY_PARAM") => Validation::SecretAsQueryParam,
        Some("SECRET_AS_HEADER") => Validation::SecretAsHeader,
        Some("VERIFY_PAYLOAD") => Validation::VerifyPayload,
        Some(other) => {
            directory.wrong(
                file,
                format!("there is no validation `{other}`"),
                "use NO_VALIDATION, SECRET_AS_QUERY_PARAM, SECRET_AS_HEADER or VERIFY_PAYLOAD",
            );
            return None;
        }
    };
    let secret = secret(directory)?;
    if secret.as_str().is_empty() {
        directory.wrong(
            file,
            format!("the secret of {of} is empty, so that anybody could give it"),
            "give it a value, or write NO_VALIDATION if anybody may ask",
        );
        return None;
    }
    Some(by(secret))
}

/// Reads a webhook. Its function gets a name that no other has, and its route is what App Services serves it
/// under.
fn read_webhook(
    directory: &mut Directory<'_>,
    service: &str,
    path: &str,
    functions: &mut BTreeMap<String, Function>,
) -> Option<Endpoint> {
    let file = format!("{path}/config.json");
    let source = format!("{path}/source.js");
    for needed in [&file, &source] {
        if !directory.has(needed) {
            directory.wrong(
                path,
                "this webhook has not both of config.json and source.js",
                format!("add {needed}"),
            );
            return None;
        }
    }
    let text = directory.text(&source);
    let mut fields = Fields::new(&file, directory.object(&file)?);
    fields.skip(&["id", "_id"]);
    let name = fields.needed(directory, "name");
    let mut options = fields.object(directory, "options");
    let method = options.text(directory, "httpMethod");
    let validation = options.text(directory, "validationMethod");
    let written = options.text(directory, "secret").map(Secret::from);
    let named = options.text(directory, "secret_name");
    options.finish(directory);
    let respond_result = fields.flag(directory, "respond_result");
    let hides_arguments = fields.flag(directory, "disable_arg_logs");
    let disabled = fields.flag(directory, "disabled");
    refuse_requesters(directory, &mut fields);
    let of = name.as_deref().unwrap_or_default();
    refuse_users(directory, &mut fields, of);
    fields.finish(directory);

    let method = match method {
        Some(method) => read_method(directory, &file, &method),
        None => Some(EndpointMethod::Post),
    };
    let validation = read_validation(
        directory,
        &file,
        &format!("the webhook {of}"),
        ("options.validationMethod", validation.as_deref()),
        named.is_some() || written.is_some(),
        |directory| match (&named, written) {
            (Some(name), _) => directory.secret(&file, name),
            (None, Some(secret)) => Some(secret),
            (None, None) => {
                directory.wrong(
                    &file,
                    "the webhook wants a secret and has none",
                    "write it in `options.secret`, or its name in `options.secret_name`",
                );
                None
            }
        },
    );
    let (name, text) = (name?, text?);
    let function = format!("{service}/incoming_webhooks/{name}");
    let called = Function {
        hides_arguments,
        ..Function::new(Source {
            file: source,
            text: text.into(),
        })
    };
    if let Some(other) = functions.insert(function.clone(), called) {
        let what = format!("the function `{function}` is in {} too", other.source.file);
        directory.wrong(&file, what, "give one of them another name");
    }
    Some(Endpoint {
        route: format!("/service/{service}/incoming_webhook/{name}"),
        method: method?,
        function,
        validation: validation?,
        respond_result,
        return_type: ReturnType::Ejson,
        disabled,
        file,
    })
}
