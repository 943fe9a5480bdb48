//! Reading and writing single documents, as functions do.

mod answer;
mod bulk;
mod concerns;
mod cursors;
mod failure;
mod fields;
mod read;
mod sessions;
mod write;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use mongodb::bson::{RawDocument, RawDocumentBuf};
use mongodb::options::RunCommandOptions;
use mongodb::{Collection, Database};
use tokio::runtime::Handle;
use tributary_flow::{DocumentCall, DocumentError, DocumentScope, DocumentStore};

use crate::connect::Connection;
use cursors::Cursors;
use failure::Failure;
use fields::Fields;
use sessions::{Held, SessionHandle, Sessions};

/// Does an action of the driver, in the session if there is one.
macro_rules! in_session {
    ($action:expr, $session:expr) => {
        match $session {
            Some(held) => $action.session(held.driver()).await,
            None => $action.await,
        }
    };
}
use in_session;

/// The most bytes of arguments, and of an answer: what the server takes and sends at once.
const MOST_BYTES: usize = 48 << 20;
/// A document without fields.
const NOTHING: &[u8] = &[5, 0, 0, 0, 0];

/// The documents of a deployment, for functions.
#[derive(Debug)]
pub struct MongoDocuments {
    connection: Connection,
}

impl MongoDocuments {
    /// The documents of the deployment behind `connection`. They are read from the primary, unless
    /// the connection was asked to read from elsewhere.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }
}

impl DocumentStore for MongoDocuments {
    fn place(&self) -> &str {
        self.connection.server()
    }

    fn scope(&self) -> Arc<dyn DocumentScope> {
        Arc::new(Scope {
            connection: self.connection.clone(),
            sessions: Arc::default(),
            cursors: Arc::default(),
            runtime: OnceLock::new(),
        })
    }
}

struct Scope {
    connection: Connection,
    sessions: Arc<Sessions>,
    cursors: Arc<Cursors>,
    /// Where the driver's own tasks run.
    runtime: OnceLock<Handle>,
}

#[async_trait]
impl DocumentScope for Scope {
    async fn call(&self, call: DocumentCall) -> Result<Bytes, DocumentError> {
        Ok(self.run(call).await?)
    }
}

impl Scope {
    async fn run(&self, call: DocumentCall) -> Result<Bytes, Failure> {
        if call.arguments.len() > MOST_BYTES {
            return Err(Failure::of(format!(
                "the arguments of {} are {} bytes, and at most {MOST_BYTES} can be sent",
                call.operation,
                call.arguments.len()
            )));
        }
        if self.runtime.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            // Another call may have been faster, on the same runtime.
            let _ = self.runtime.set(runtime);
        }
        let session = self.session_of(&call)?;
        let task = Task {
            connection: self.connection.clone(),
            sessions: Arc::clone(&self.sessions),
            cursors: Arc::clone(&self.cursors),
            call,
        };
        let Some(session) = session else {
            return task.run(None).await;
        };
        // Who comes first is served first.
        let held = Held::new(session).await;
        // It goes on to its end though nobody may wait for it any more: a transaction whose first
        // operation is cut off is not known to have begun, and could not be aborted.
        tokio::spawn(task.run(Some(held)))
            .await
            .map_err(|error| Failure::of(format!("the operation was broken off: {error}")))?
    }

    /// The session that a call is part of.
    fn session_of(&self, call: &DocumentCall) -> Result<Option<SessionHandle>, Failure> {
        let arguments = Fields::of_arguments(call)?;
        if call.operation == "getMore" {
            let cursor = arguments.required("cursor", arguments.number("cursor")?)?;
            return self.cursors.session_of(cursor);
        }
        let given = match arguments.number("session")? {
            Some(number) => Some(number),
            None => match arguments.raw_document("options")? {
                Some(options) => {
                    Fields::unchecked("option", &call.operation, options).number("session")?
                }
                None => None,
            },
        };
        given.map(|number| self.sessions.get(number)).transpose()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Cursors and sessions leave their last words to tasks of the runtime, and this may be a
        // thread outside of it.
        let _inside = self.runtime.get().map(Handle::enter);
        self.cursors.clear();
        self.sessions.clear();
    }
}

/// An operation with all that it needs.
struct Task {
    connection: Connection,
    sessions: Arc<Sessions>,
    cursors: Arc<Cursors>,
    call: DocumentCall,
}

impl Task {
    async fn run(self, mut held: Option<Held>) -> Result<Bytes, Failure> {
        let session = &mut held;
        let answer = match self.call.operation.as_str() {
            "find" => read::find(&self, session).await,
            "aggregate" => read::aggregate(&self, session).await,
            "findOne" => read::find_one(&self, session).await,
            "count" | "countDocuments" => read::count(&self, session).await,
            "estimatedDocumentCount" => read::estimate(&self, session).await,
            "distinct" => read::distinct(&self, session).await,
            "getMore" => cursors::get_more(&self, session).await,
            "closeCursor" => cursors::close(&self),
            "insertOne" => write::insert_one(&self, session).await,
            "insertMany" => write::insert_many(&self, session).await,
            "updateOne" | "updateMany" => write::update(&self, session).await,
            "replaceOne" => write::replace(&self, session).await,
            "deleteOne" | "deleteMany" => write::delete(&self, session).await,
            "findOneAndUpdate" => write::find_and_update(&self, session).await,
            "findOneAndReplace" => write::find_and_replace(&self, session).await,
            "findOneAndDelete" => write::find_and_delete(&self, session).await,
            "bulkWrite" => bulk::bulk_write(&self, session).await,
            "runCommand" => self.run_command(session).await,
            "startSession" => sessions::start(&self).await,
            "startTransaction" => sessions::start_transaction(&self, session).await,
            "commitTransaction" => sessions::commit(&self, session).await,
            "abortTransaction" => sessions::abort(&self, session).await,
            "endSession" => sessions::end(&self, session).await,
            other => Err(Failure::of(format!("there is no operation `{other}`"))),
        }?;
        if answer.len() > MOST_BYTES {
            return Err(Failure::of(format!(
                "the answer of {} is {} bytes, and at most {MOST_BYTES} can be passed on",
                self.call.operation,
                answer.len()
            )));
        }
        Ok(answer)
    }

    /// The arguments, which are those of every operation and these.
    fn arguments(&self, known: &[&str]) -> Result<Fields<'_>, Failure> {
        Fields::of_arguments(&self.call)?.checked(&[known, &["session", "options"]].concat())
    }

    /// The options, which are those of every operation and these.
    fn options(&self, known: &[&str]) -> Result<Fields<'_>, Failure> {
        let options = match Fields::of_arguments(&self.call)?.raw_document("options")? {
            Some(options) => options,
            None => RawDocument::from_bytes(NOTHING)?,
        };
        Fields::unchecked("option", &self.call.operation, options)
            .checked(&[known, &["session"]].concat())
    }

    fn database(&self) -> Database {
        self.connection.client.database(&self.call.database)
    }

    fn collection(&self) -> Result<Collection<RawDocumentBuf>, Failure> {
        let name = self.call.collection.as_deref().ok_or_else(|| {
            Failure::of(format!("{} is done in a collection", self.call.operation))
        })?;
        Ok(self.database().collection(name))
    }

    async fn run_command(&self, session: &mut Option<Held>) -> Result<Bytes, Failure> {
        let arguments = self.arguments(&["command"])?;
        let options = RunCommandOptions::builder()
            .selection_criteria(self.options(&["readPreference"])?.read_preference()?)
            .build();
        let command = arguments.required("command", arguments.raw_document("command")?)?;
        let database = self.database();
        let command = database.run_raw_command(command.to_owned());
        let command = command.with_options(options);
        let reply = in_session!(command, session)?;
        Ok(answer::of(&RawDocumentBuf::try_from(&reply)?))
    }
}
