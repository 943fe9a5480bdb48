//! The servers' errors as Tributary's, by their codes, or by their texts where those tell nothing.

use tokio_postgres::error::SqlState;
use tributary_model::{Error, ErrorKind};

use crate::client::Server;

/// What failed, as an error that says what can be done about it.
pub(crate) fn failed(
    what: &str,
    server: Server,
    place: &str,
    error: tokio_postgres::Error,
) -> Error {
    let of_redshift = match (server, error.as_db_error()) {
        (Server::Redshift, Some(db)) => kind_of_redshift(&format!(
            "{} {}",
            db.message(),
            db.detail().unwrap_or_default()
        )),
        _ => None,
    };
    let (kind, remedy) = match (of_redshift, error.code()) {
        (Some(told), _) => told,
        (None, None) => kind_of_text(&error.to_string()),
        (None, Some(code)) => kind_of(code),
    };
    let mut told = Error::new(kind, what).on("server", place);
    if let Some(remedy) = remedy {
        told = told.remedy(remedy);
    }
    match error.as_db_error() {
        // Its text without the name of the library.
        Some(db) => {
            let detail = db.detail().map(|text| format!(" ({text})"));
            let text = format!("{}{}", db.message(), detail.unwrap_or_default());
            told.because(format!("{text} [{}]", db.code().code()))
        }
        None => told.because(error),
    }
}

/// What sort of failure it is that no server has told: the client says so in its text alone.
fn kind_of_text(text: &str) -> (ErrorKind, Option<&'static str>) {
    if text.contains("TLS") {
        let remedy =
            "check `sslmode` and `sslrootcert` in the address, and the server's certificate";
        (ErrorKind::Unauthenticated, Some(remedy))
    } else if text.contains("invalid configuration") {
        let remedy = "put the user and the password into the address";
        (ErrorKind::Unauthenticated, Some(remedy))
    } else {
        (ErrorKind::Unreachable, None)
    }
}

/// What Redshift tells in words alone: its code says that there was an internal error.
fn kind_of_redshift(text: &str) -> Option<(ErrorKind, Option<&'static str>)> {
    let has = |part: &str| text.contains(part);
    Some(
        if has("Serializable isolation violation") || has("conflicts with concurrent") {
            (ErrorKind::Conflict, None)
        } else if has("not authorized to assume")
            || has("not authorized to get credentials of role")
        {
            (
                ErrorKind::Forbidden,
                Some(
                    "attach the role of --iam-role to the cluster, and let it trust redshift.amazonaws.com",
                ),
            )
        } else if has("specified bucket does not exist") || has("NoSuchBucket") {
            (
                ErrorKind::NotFound,
                Some("create the bucket of --s3-staging, or name another"),
            )
        } else if has("PermanentRedirect") || has("must be addressed using the specified endpoint")
        {
            (
                ErrorKind::Usage,
                Some(
                    "name a bucket with --s3-staging that is in the cluster's own region: copies of Parquet need that",
                ),
            )
        } else if has("Access Denied")
            || has("AccessDenied")
            || has("InvalidAccessKeyId")
            || has("Status 403")
        {
            (
                ErrorKind::Forbidden,
                Some(
                    "let the role of --iam-role, or the keys of the environment, list and read the bucket of --s3-staging",
                ),
            )
        } else if has("Disk Full") {
            (
                ErrorKind::Unavailable,
                Some(
                    "free space on the cluster, or make it larger; nothing of what failed is there",
                ),
            )
        } else {
            return None;
        },
    )
}

fn kind_of(code: &SqlState) -> (ErrorKind, Option<&'static str>) {
    match code.code() {
        "28P01" | "28000" => (
            ErrorKind::Unauthenticated,
            Some("check the user and the password of the address"),
        ),
        "3D000" => (
            ErrorKind::NotFound,
            Some("create the database, or name another in the address"),
        ),
        "42501" => (
            ErrorKind::Forbidden,
            Some(
                "grant the user CREATE on the database, and ownership of the tables that it loads",
            ),
        ),
        "55P03" => (
            ErrorKind::Unavailable,
            Some("another session holds a lock on the table: it is tried again"),
        ),
        "53100" => (
            ErrorKind::Unavailable,
            Some("free space on the server's disk; nothing of what failed is there"),
        ),
        "53300" => (
            ErrorKind::Unavailable,
            Some("raise the server's max_connections, or lower --parallel"),
        ),
        "40001" | "40P01" => (ErrorKind::Conflict, None),
        "42703" | "42804" | "42P01" | "42P10" => (
            ErrorKind::InvalidData,
            Some(
                "somebody has changed the table by hand: undo that, or give --overwrite to load it anew",
            ),
        ),
        "42939" => (
            ErrorKind::InvalidData,
            Some(
                "names of schemas that begin with pg_ are the server's own: leave that database out with --collection, or load another server's",
            ),
        ),
        "23502" => (
            ErrorKind::InvalidData,
            Some("a document whose _id is null cannot be a row here: leave its collection out"),
        ),
        "54000" => (
            ErrorKind::InvalidData,
            Some(
                "an _id is longer than what PostgreSQL has in an index, 2,704 bytes: leave its collection out",
            ),
        ),
        "2BP01" | "0A000" => (
            ErrorKind::InvalidData,
            Some("a view uses the column: drop the view, and make it again afterwards"),
        ),
        text if text.starts_with("08") => (ErrorKind::Unreachable, None),
        // Out of resources, and intervention by the operator.
        text if text.starts_with("53") || text.starts_with("57") => (ErrorKind::Unavailable, None),
        _ => (ErrorKind::InvalidData, None),
    }
}
