//! The driver's errors as the one error of Tributary, each with its remedy.

use mongodb::error::{
    Error as DriverError, ErrorKind as DriverKind, RETRYABLE_WRITE_ERROR, WriteFailure,
};
use tributary_model::{Error, ErrorKind};

// Server error codes, from the server's `error_codes.yml`.
pub(crate) const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
pub(crate) const NAMESPACE_NOT_FOUND: i32 = 26;
const CURSOR_NOT_FOUND: i32 = 43;
const CAPPED_POSITION_LOST: i32 = 136;
pub(crate) const CHANGE_STREAM_FATAL_ERROR: i32 = 280;
const CHANGE_STREAM_HISTORY_LOST: i32 = 286;
const ATLAS_ERROR: i32 = 8000;
pub(crate) const BSON_OBJECT_TOO_LARGE: i32 = 10_334;
/// Codes after which the same request may succeed on another try.
const TRANSIENT: &[i32] = &[
    6,     // HostUnreachable
    7,     // HostNotFound
    50,    // MaxTimeMSExpired
    89,    // NetworkTimeout
    91,    // ShutdownInProgress
    112,   // WriteConflict
    133,   // FailedToSatisfyReadPreference
    134,   // ReadConcernMajorityNotAvailableYet
    143,   // CursorInUse
    175,   // QueryPlanKilled
    189,   // PrimarySteppedDown
    202,   // NetworkInterfaceExceededTimeLimit
    216,   // ElectionInProgress
    234,   // RetryChangeStream
    237,   // CursorKilled
    262,   // ExceededTimeLimit
    279,   // ClientDisconnect
    365,   // TemporarilyUnavailable
    9001,  // SocketException
    10107, // NotWritablePrimary
    11600, // InterruptedAtShutdown
    11601, // Interrupted
    11602, // InterruptedDueToReplStateChange
    13388, // StaleConfig
    13435, // NotPrimaryNoSecondaryOk
    13436, // NotPrimaryOrSecondary
    CURSOR_NOT_FOUND,
    CAPPED_POSITION_LOST,
];

/// The error of something that was being done on `server`.
pub(crate) fn failed(what: &str, server: &str, error: &DriverError) -> Error {
    let (kind, remedy) = classify(error);
    let mut told = Error::new(kind, what)
        .on("server", server)
        .because(text(error));
    if let Some(remedy) = remedy {
        told = told.remedy(remedy);
    }
    told
}

fn classify(error: &DriverError) -> (ErrorKind, Option<&'static str>) {
    const CREDENTIALS: &str = "check user name and password, and the authSource option: the user may be defined in \
                               another database than the one in the address (often `?authSource=admin`)";
    match error.kind.as_ref() {
        DriverKind::Authentication { .. } => (ErrorKind::Unauthenticated, Some(CREDENTIALS)),
        DriverKind::InvalidArgument { .. } => (ErrorKind::Usage, None),
        DriverKind::DnsResolve { .. } => (
            ErrorKind::Unreachable,
            Some("check the host name in the address, and that it can be resolved here"),
        ),
        DriverKind::ServerSelection { .. } => (
            ErrorKind::Unreachable,
            Some(
                "check the host and port in the address, that the server is up, and whether it wants TLS (`?tls=true`)",
            ),
        ),
        DriverKind::InvalidTlsConfig { .. } => (
            ErrorKind::Usage,
            Some("check the tls options of the address"),
        ),
        DriverKind::Io(_) | DriverKind::ConnectionPoolCleared { .. } => {
            (ErrorKind::Unreachable, None)
        }
        DriverKind::Command(command) => match command.code {
            UNAUTHORIZED => (
                ErrorKind::Forbidden,
                Some(
                    "grant the user the `read` role on the database, or `readAnyDatabase` for a whole deployment",
                ),
            ),
            AUTHENTICATION_FAILED => (ErrorKind::Unauthenticated, Some(CREDENTIALS)),
            ATLAS_ERROR if command.message.contains("auth") => {
                (ErrorKind::Unauthenticated, Some(CREDENTIALS))
            }
            NAMESPACE_NOT_FOUND => (ErrorKind::NotFound, None),
            // What is done about it is for each table to say.
            CHANGE_STREAM_HISTORY_LOST => (ErrorKind::HistoryLost, None),
            code if TRANSIENT.contains(&code)
                || error.contains_label("ResumableChangeStreamError") =>
            {
                (ErrorKind::Unavailable, None)
            }
            _ => (ErrorKind::InvalidData, None),
        },
        DriverKind::InvalidResponse { .. } | DriverKind::Bson(_) => (ErrorKind::InvalidData, None),
        _ if error.contains_label(RETRYABLE_WRITE_ERROR)
            || code(error).is_some_and(|code| TRANSIENT.contains(&code)) =>
        {
            (ErrorKind::Unavailable, None)
        }
        _ if error.contains_label("RetryableError")
            || error.contains_label("ResumableChangeStreamError") =>
        {
            (ErrorKind::Unavailable, None)
        }
        _ => (ErrorKind::InvalidData, None),
    }
}

/// Whether the same request may succeed on another try.
pub(crate) fn is_transient(error: &DriverError) -> bool {
    classify(error).0.is_transient()
}

/// Whether a server that answers with this code may do the same request on another try.
pub(crate) fn is_transient_code(code: i32) -> bool {
    TRANSIENT.contains(&code)
}

/// The server's code, where the error came from there: that of the first error, if there are
/// several.
pub(crate) fn code(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        DriverKind::Command(command) => Some(command.code),
        DriverKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        DriverKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        DriverKind::InsertMany(many) => match many.write_errors.as_deref() {
            Some([first, ..]) => Some(first.code),
            _ => many.write_concern_error.as_ref().map(|error| error.code),
        },
        _ => None,
    }
}

/// What the server says of it, or the driver.
pub(crate) fn message(error: &DriverError) -> String {
    match error.kind.as_ref() {
        DriverKind::Command(command) => command.message.clone(),
        DriverKind::Write(WriteFailure::WriteError(error)) => error.message.clone(),
        DriverKind::Write(WriteFailure::WriteConcernError(error)) => error.message.clone(),
        DriverKind::InsertMany(many) => {
            let of_write = many.write_errors.iter().flatten().next();
            let message = of_write.map(|error| &error.message);
            let of_concern = many.write_concern_error.as_ref();
            let message = message.or_else(|| of_concern.map(|error| &error.message));
            message.cloned().unwrap_or_default()
        }
        DriverKind::InvalidArgument { message, .. } => message.clone(),
        _ => text(error),
    }
}

/// The text of an error without the driver's dump of its own structures.
pub(crate) fn text(error: &DriverError) -> String {
    match error.kind.as_ref() {
        DriverKind::Command(command) => {
            format!(
                "{} ({}, code {})",
                command.message, command.code_name, command.code
            )
        }
        kind => {
            let mut text = kind.to_string();
            if let Some(cause) = std::error::Error::source(error) {
                let cause = cause.to_string();
                if !text.contains(&cause) {
                    text = format!("{text}: {cause}");
                }
            }
            text
        }
    }
}
