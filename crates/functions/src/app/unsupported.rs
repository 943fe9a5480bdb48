//! Parts of an application for which there is nothing here.

use super::directory::Directory;

/// What is read elsewhere, or is nothing of the application's.
const READ: [&str; 14] = [
    "config.json",
    "data_sources",
    "environments",
    "functions",
    "http_endpoints",
    "https_endpoints",
    "log_forwarders",
    "realm_config.json",
    "root_config.json",
    "services",
    "stitch.json",
    "triggers",
    "values",
    "README.md",
];

/// Parts that cannot be honoured, and what to do instead.
const UNSUPPORTED: [(&str, &str, &str); 7] = [
    (
        "auth",
        "users do not sign in",
        "authenticate them in front of it",
    ),
    (
        "auth_providers",
        "users do not sign in",
        "authenticate them in front of it",
    ),
    (
        "graphql",
        "GraphQL is not served",
        "use endpoints with functions of your own",
    ),
    (
        "hosting",
        "files are not served",
        "serve them with a web server",
    ),
    ("sync", "devices are not synchronised", "remove it"),
    (
        "data_api_config.json",
        "the Data API is not served",
        "use endpoints with functions of your own",
    ),
    (
        "secrets.json",
        "secrets are taken from the environment, not from here",
        "set them as environment variables, and remove the file",
    ),
];

/// Notes what of the directory is not read.
pub(super) fn note_unsupported(directory: &mut Directory<'_>) {
    for entry in directory.entries("") {
        let name = entry.name.as_str();
        if name.starts_with('.') || READ.contains(&name) {
            continue;
        }
        match UNSUPPORTED.iter().find(|(known, ..)| *known == name) {
            Some((_, what, remedy)) => directory.found(name, *what, *remedy),
            None => directory.found(
                name,
                "this is no part of an application, and is not read",
                "check its name, or put it elsewhere",
            ),
        }
    }
}
