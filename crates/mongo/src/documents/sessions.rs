//! Sessions and their transactions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mongodb::ClientSession;
use mongodb::options::{SessionOptions, TransactionOptions};
use tokio::sync::OwnedMutexGuard;

use super::failure::Failure;
use super::fields::Fields;
use super::{Task, answer};

/// A session that operations wait for.
pub(super) type SessionHandle = Arc<tokio::sync::Mutex<Session>>;

pub(super) struct Session {
    driver: ClientSession,
    in_transaction: bool,
}

/// The sessions of a scope by their numbers.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    last: i32,
    sessions: HashMap<i32, SessionHandle>,
}

impl Sessions {
    fn numbered(&self) -> std::sync::MutexGuard<'_, Numbered> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, number: i32) -> Result<SessionHandle, Failure> {
        let found = self.numbered().sessions.get(&number).cloned();
        found.ok_or_else(|| Failure::of("the session has ended or never was"))
    }

    fn add(&self, driver: ClientSession) -> i32 {
        let session = Session {
            driver,
            in_transaction: false,
        };
        let mut numbered = self.numbered();
        numbered.last += 1;
        let number = numbered.last;
        let session = Arc::new(tokio::sync::Mutex::new(session));
        numbered.sessions.insert(number, session);
        number
    }

    fn remove(&self, session: &SessionHandle) {
        self.numbered()
            .sessions
            .retain(|_, other| !Arc::ptr_eq(other, session));
    }

    /// Ends all sessions that nothing is done in, and the others as soon as that is done.
    pub(super) fn clear(&self) {
        let sessions = std::mem::take(&mut self.numbered().sessions);
        drop(sessions);
    }
}

/// A session whose turn it is.
pub(super) struct Held {
    handle: SessionHandle,
    session: OwnedMutexGuard<Session>,
}

impl Held {
    pub(super) async fn new(handle: SessionHandle) -> Self {
        let session = Arc::clone(&handle).lock_owned().await;
        Self { handle, session }
    }

    pub(super) fn driver(&mut self) -> &mut ClientSession {
        &mut self.session.driver
    }

    pub(super) fn handle(&self) -> SessionHandle {
        Arc::clone(&self.handle)
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.session.in_transaction
    }
}

pub(super) async fn start(task: &Task) -> Result<Bytes, Failure> {
    task.arguments(&[])?;
    let options = task.options(&["causalConsistency", "snapshot", "defaultTransactionOptions"])?;
    let defaults = options.raw_document("defaultTransactionOptions")?;
    let defaults = defaults
        .map(|defaults| {
            let options = Fields::unchecked("option", "a transaction", defaults);
            transaction_options(options.checked(OF_TRANSACTIONS)?)
        })
        .transpose()?;
    let options = SessionOptions::builder()
        .causal_consistency(options.boolean("causalConsistency")?)
        .snapshot(options.boolean("snapshot")?)
        .default_transaction_options(defaults)
        .build();
    let start = task.connection.client.start_session();
    let session = start.with_options(options).await?;
    Ok(answer::of(task.sessions.add(session)))
}

pub(super) async fn start_transaction(
    task: &Task,
    session: &mut Option<Held>,
) -> Result<Bytes, Failure> {
    task.arguments(&[])?;
    let options = transaction_options(task.options(OF_TRANSACTIONS)?)?;
    let held = needed(task, session)?;
    let start = held.driver().start_transaction();
    start.with_options(options).await?;
    held.session.in_transaction = true;
    Ok(answer::null())
}

pub(super) async fn commit(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    task.arguments(&[])?;
    task.options(&[])?;
    let held = needed(task, session)?;
    let committed = held.driver().commit_transaction().await;
    // Also where that failed, nothing more can be part of it.
    held.session.in_transaction = false;
    committed?;
    Ok(answer::null())
}

pub(super) async fn abort(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    task.arguments(&[])?;
    task.options(&[])?;
    let held = needed(task, session)?;
    let aborted = held.driver().abort_transaction().await;
    held.session.in_transaction = false;
    aborted?;
    Ok(answer::null())
}

pub(super) async fn end(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    task.arguments(&[])?;
    task.options(&[])?;
    let held = needed(task, session)?;
    task.sessions.remove(&held.handle);
    if held.in_transaction() {
        held.session.in_transaction = false;
        held.driver().abort_transaction().await?;
    }
    Ok(answer::null())
}

fn needed<'a>(task: &Task, session: &'a mut Option<Held>) -> Result<&'a mut Held, Failure> {
    session
        .as_mut()
        .ok_or_else(|| Failure::of(format!("{} needs a session", task.call.operation)))
}

const OF_TRANSACTIONS: &[&str] = &[
    "readConcern",
    "writeConcern",
    "readPreference",
    "maxCommitTimeMS",
];

fn transaction_options(options: Fields<'_>) -> Result<TransactionOptions, Failure> {
    Ok(TransactionOptions::builder()
        .read_concern(options.read_concern()?)
        .write_concern(options.write_concern()?)
        .selection_criteria(options.read_preference()?)
        .max_commit_time(options.milliseconds("maxCommitTimeMS")?)
        .build())
}
