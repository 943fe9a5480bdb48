//! The parts of a connection string. A URL library would refuse several hosts, which databases allow.

/// `scheme://authority/database?options`, where the authority is a user, a password and one or several hosts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConnectionString<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) database: &'a str,
    pub(crate) options: &'a str,
}

impl<'a> ConnectionString<'a> {
    pub(crate) fn split(uri: &'a str) -> Self {
        let (address, options) = uri.split_once('?').unwrap_or((uri, ""));
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        Self {
            scheme,
            authority,
            database,
            options,
        }
    }

    pub(crate) fn join(&self) -> String {
        let Self {
            scheme,
            authority,
            database,
            options,
        } = self;
        let options = options.trim_end_matches('&');
        let mark = if options.is_empty() { "" } else { "?" };
        format!("{scheme}://{authority}/{database}{mark}{options}")
    }
}
