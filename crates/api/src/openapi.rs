//! What the API is, in OpenAPI 3.1.

use tributary_orchestrator::status::Notice;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::{MEDIA_TYPE, Problem};
use crate::routes;

const DESCRIPTION: &str = "Sees and steers the flows, jobs and triggers that one Tributary runs. \
    Where the configuration has tokens, every request but those of `/health` and `/ready` needs one: of the role `read` \
    for what only looks (GET), and of the role `operate` for everything else. \
    Events are pushed by those who have the key or the secret of their source. \
    Without tokens, only this machine is answered. All times are UTC. Every failure is a problem as RFC 9457 has it.";

const TAGS: [(&str, &str); 8] = [
    (
        "overview",
        "The whole of it, and what happens as it happens",
    ),
    ("flows", "What keeps tables current"),
    (
        "schemas",
        "Changes of the schemas of tables, and their approval",
    ),
    (
        "jobs",
        "What runs on a schedule, on an event or when asked for",
    ),
    (
        "triggers",
        "What runs functions when something happens, and what became of that",
    ),
    ("ingest", "Events that are pushed to a source"),
    ("alerts", "What is the case and should not be"),
    (
        "process",
        "For whoever watches, restarts and routes to the process",
    ),
];

/// The problems that there can be: name, status, when.
const PROBLEMS: [(&str, &str, &str); 10] = [
    ("BadRequest", "400", "Something is asked for wrongly"),
    (
        "Unauthenticated",
        "401",
        "There is no token with the request, or an unknown one",
    ),
    (
        "Forbidden",
        "403",
        "The token's role does not suffice, or the request comes by a name or from a site that is not this server's",
    ),
    ("NotFound", "404", "What is named is not there"),
    ("TimedOut", "408", "The request took too long"),
    ("Conflict", "409", "That cannot be done now"),
    ("TooLarge", "413", "The request is too large"),
    ("Bug", "500", "A bug in Tributary"),
    (
        "BadGateway",
        "502",
        "A server that Tributary needs for it does not serve it",
    ),
    (
        "Unavailable",
        "503",
        "Too many ask at once, or Tributary is ending",
    ),
];

/// The OpenAPI 3.1 document of the API, as JSON with line breaks.
#[must_use]
pub fn openapi() -> String {
    let (_, api) = routes::documented().split_for_parts();
    // It is made of texts, numbers and lists alone, which JSON can always hold.
    api.to_pretty_json().unwrap_or_default() + "\n"
}

/// The document before it has paths.
pub(crate) fn base() -> OpenApi {
    let tag = |(name, description): (&str, &str)| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    };
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Tributary")
                .description(Some(DESCRIPTION))
                .version("1")
                .license(Some(
                    LicenseBuilder::new()
                        .name("Apache-2.0")
                        .identifier(Some("Apache-2.0"))
                        .build(),
                ))
                .build(),
        )
        .tags(Some(TAGS.map(tag)))
        .security(Some([SecurityRequirement::new("bearer", [""; 0])]))
        .build()
}

/// Adds what is true of every operation.
pub(crate) fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A token of `server.tokens` in the configuration"))
                .build(),
        ),
    );
    let header = |name: &str, description: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
            name,
            description,
        )))
    };
    components.add_security_scheme(
        "ingestKey",
        header("X-API-Key", "The `key` of a source with `ingest`"),
    );
    components.add_security_scheme(
        "ingestBearer",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("The `key` of a source with `ingest`"))
                .build(),
        ),
    );
    components.add_security_scheme(
        "ingestSignature",
        header(
            "X-Signature-256",
            "`sha256=` and the HMAC-SHA-256 of the body, by the `hmac` secret of a source with `ingest`, in hexadecimal",
        ),
    );
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    // It is the data of events, which no document can say of a stream.
    components
        .schemas
        .insert(Notice::name().into_owned(), Notice::schema());
    for (name, _, description) in PROBLEMS {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name())));
        let response = ResponseBuilder::new()
            .description(description)
            .content(MEDIA_TYPE, content.build())
            .build();
        components
            .responses
            .insert(name.to_owned(), RefOr::T(response));
    }
    for (path, item) in &mut api.paths.paths {
        let operations = [
            (false, &mut item.get),
            (true, &mut item.post),
            (true, &mut item.delete),
        ];
        for (changes, operation) in operations {
            if let Some(operation) = operation {
                add_problems(operation, path.contains('{'), changes);
            }
        }
    }
}

fn add_problems(operation: &mut Operation, names_something: bool, changes: bool) {
    let is_open = operation.security.is_some();
    for (name, status, _) in PROBLEMS {
        let is_possible = match status {
            "401" => !is_open,
            "404" => names_something,
            "409" => changes,
            _ => true,
        };
        if is_possible {
            let problem = RefOr::Ref(Ref::from_response_name(name));
            operation
                .responses
                .responses
                .entry(status.to_owned())
                .or_insert(problem);
        }
    }
}
