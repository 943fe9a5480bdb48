//! Many writes in one operation.

mod statement;

use std::ops::ControlFlow;

use bytes::Bytes;
use mongodb::bson::raw::CString;
use mongodb::bson::{
    Bson, Document, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, cstr,
    serialize_to_raw_document_buf,
};
use mongodb::options::{InsertManyOptions, WriteConcern};

use super::failure::Failure;
use super::sessions::Held;
use super::write::inserted_of;
use super::{Task, answer, in_session};
use statement::{Kind, Statement};

/// How many bytes of statements are put into one command, unless one of them is larger: a command
/// as a whole is a document, and has to be smaller than one can be.
const COMMAND_BYTES: usize = 12 << 20;
/// How many statements the server takes in one command.
const COMMAND_STATEMENTS: usize = 100_000;

pub(super) async fn bulk_write(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["operations"])?;
    let operations = arguments.required("operations", arguments.raw_documents("operations")?)?;
    if operations.is_empty() {
        return Err(Failure::of("bulkWrite needs at least one operation"));
    }
    let options = task.options(&[
        "ordered",
        "bypassDocumentValidation",
        "comment",
        "let",
        "writeConcern",
    ])?;
    let write_concern = options.write_concern()?;
    if write_concern.is_some() && session.as_ref().is_some_and(Held::in_transaction) {
        // The driver says it of what it has operations for.
        return Err(Failure::of(
            "Cannot set write concern after starting a transaction",
        ));
    }
    let bulk = Bulk {
        task,
        is_ordered: options.boolean("ordered")?.unwrap_or(true),
        bypass_validation: options.boolean("bypassDocumentValidation")?,
        comment: options.value("comment")?,
        let_vars: options.raw_document("let")?,
        write_concern,
    };
    let mut statements = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        statements.push(Statement::parse(index, operation)?);
    }
    if !bulk.is_ordered {
        statements.sort_by_key(|statement| statement.kind);
    }
    let mut outcome = Outcome::default();
    let mut rest = &statements[..];
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let of_one_command = |statement: &&Statement<'_>| {
            bytes += statement.bytes();
            statement.kind == first.kind && bytes <= COMMAND_BYTES
        };
        let same = rest
            .iter()
            .take(COMMAND_STATEMENTS)
            .take_while(of_one_command)
            .count();
        let (run, behind) = rest.split_at(same.max(1));
        rest = behind;
        let flow = match first.kind {
            Kind::Insert => bulk.insert(run, session, &mut outcome).await?,
            Kind::Update | Kind::Delete => bulk.command(run, session, &mut outcome).await?,
        };
        if flow.is_break() {
            break;
        }
    }
    match outcome.failed {
        None => Ok(outcome.result()),
        Some((_, failure)) => Err(failure.with_done(outcome.done, statements.len())),
    }
}

struct Bulk<'a> {
    task: &'a Task,
    is_ordered: bool,
    bypass_validation: Option<bool>,
    comment: Option<Bson>,
    let_vars: Option<&'a RawDocument>,
    write_concern: Option<WriteConcern>,
}

/// What came of the statements so far.
#[derive(Default)]
struct Outcome {
    inserted: u64,
    matched: u64,
    modified: u64,
    deleted: u64,
    /// Ids, each with the place of its operation.
    inserted_ids: Vec<(usize, RawBson)>,
    upserted_ids: Vec<(usize, RawBson)>,
    /// How many operations were done.
    done: usize,
    /// The first operation that failed, by its place.
    failed: Option<(usize, Failure)>,
}

impl Outcome {
    fn failed(&mut self, index: usize, failure: Failure) {
        if self.failed.as_ref().is_none_or(|(first, _)| index < *first) {
            self.failed = Some((index, failure));
        }
    }

    fn result(self) -> Bytes {
        let mut result = RawDocumentBuf::new();
        let upserted = self.upserted_ids.len() as u64;
        for (name, count) in [
            (cstr!("insertedCount"), self.inserted),
            (cstr!("matchedCount"), self.matched),
            (cstr!("modifiedCount"), self.modified),
            (cstr!("deletedCount"), self.deleted),
            (cstr!("upsertedCount"), upserted),
        ] {
            result.append(name, answer::count(count));
        }
        result.append(cstr!("insertedIds"), by_place(self.inserted_ids));
        result.append(cstr!("upsertedIds"), by_place(self.upserted_ids));
        answer::of(&result)
    }
}

/// Ids by the places of their operations.
fn by_place(mut ids: Vec<(usize, RawBson)>) -> RawDocumentBuf {
    ids.sort_unstable_by_key(|(index, _)| *index);
    let named = |(index, id): (usize, RawBson)| {
        // Digits only, and so no NUL.
        let name = CString::try_from(index.to_string()).ok()?;
        Some((name, id))
    };
    ids.into_iter().filter_map(named).collect()
}

impl Bulk<'_> {
    /// Inserts the documents of a run of statements.
    async fn insert(
        &self,
        run: &[Statement<'_>],
        session: &mut Option<Held>,
        outcome: &mut Outcome,
    ) -> Result<ControlFlow<()>, Failure> {
        let options = InsertManyOptions::builder()
            .bypass_document_validation(self.bypass_validation)
            .comment(self.comment.clone())
            .ordered(self.is_ordered)
            .write_concern(self.write_concern.clone())
            .build();
        let collection = self.task.collection()?.clone_with_type::<&RawDocument>();
        let documents = run.iter().map(Statement::document);
        let insert = collection.insert_many(documents).with_options(options);
        let error = match in_session!(insert, session) {
            Ok(inserted) => {
                outcome.done += run.len();
                outcome.inserted += run.len() as u64;
                for (place, id) in inserted.inserted_ids {
                    if let Some(statement) = run.get(place) {
                        outcome
                            .inserted_ids
                            .push((statement.index, RawBson::try_from(id)?));
                    }
                }
                return Ok(ControlFlow::Continue(()));
            }
            Err(error) => error,
        };
        let is_known = match inserted_of(&error, run.len(), self.is_ordered) {
            Some(inserted) => {
                outcome.done += inserted;
                true
            }
            None => false,
        };
        let first = match error.kind.as_ref() {
            mongodb::error::ErrorKind::InsertMany(many) => {
                many.write_errors.iter().flatten().next()
            }
            _ => None,
        };
        let place = first.map_or(0, |first| first.index);
        let index = run.get(place).map_or(0, |statement| statement.index);
        outcome.failed(index, error.into());
        Ok(self.on(is_known))
    }

    /// Does a run of statements that update, or that delete.
    async fn command(
        &self,
        run: &[Statement<'_>],
        session: &mut Option<Held>,
        outcome: &mut Outcome,
    ) -> Result<ControlFlow<()>, Failure> {
        let Some(first) = run.first() else {
            return Ok(ControlFlow::Continue(()));
        };
        let collection = self.task.collection()?;
        let mut command = RawDocumentBuf::new();
        let statements: RawArrayBuf = run.iter().map(Statement::document).collect();
        let (name, field) = match first.kind {
            Kind::Delete => (cstr!("delete"), cstr!("deletes")),
            Kind::Update | Kind::Insert => (cstr!("update"), cstr!("updates")),
        };
        command.append(name, collection.name());
        command.append(cstr!("ordered"), self.is_ordered);
        if let (Kind::Update, Some(bypass)) = (first.kind, self.bypass_validation) {
            command.append(cstr!("bypassDocumentValidation"), bypass);
        }
        if let Some(comment) = &self.comment {
            command.append(cstr!("comment"), RawBson::try_from(comment.clone())?);
        }
        if let Some(let_vars) = self.let_vars {
            command.append(cstr!("let"), let_vars);
        }
        let in_transaction = session.as_ref().is_some_and(Held::in_transaction);
        let concern = self.write_concern.as_ref().or(collection.write_concern());
        if let (false, Some(concern)) = (in_transaction, concern) {
            // The driver does not give a command the address's own.
            command.append(
                cstr!("writeConcern"),
                serialize_to_raw_document_buf(concern)?,
            );
        }
        command.append(field, statements);
        let database = self.task.database();
        let command = database.run_raw_command(command);
        match in_session!(command, session) {
            Ok(reply) => self.done(run, &reply, outcome),
            Err(error) => {
                outcome.failed(first.index, error.into());
                Ok(ControlFlow::Break(()))
            }
        }
    }

    /// Takes in what the server says of a run of statements.
    fn done(
        &self,
        run: &[Statement<'_>],
        reply: &Document,
        outcome: &mut Outcome,
    ) -> Result<ControlFlow<()>, Failure> {
        let index = |told: &Document| {
            let place = usize::try_from(number(told, "index")).unwrap_or(usize::MAX);
            let statement = run.get(place);
            statement
                .map(|statement| statement.index)
                .ok_or_else(|| Failure::of("the server tells of a statement that it was not given"))
        };
        let list = |name: &str| {
            let told = reply.get_array(name).into_iter().flatten();
            told.filter_map(Bson::as_document)
        };
        let mut upserted = 0;
        for told in list("upserted") {
            let id = told.get("_id").cloned().unwrap_or(Bson::Null);
            outcome
                .upserted_ids
                .push((index(told)?, RawBson::try_from(id)?));
            upserted += 1;
        }
        let n = number(reply, "n");
        match run.first().map(|first| first.kind) {
            Some(Kind::Delete) => outcome.deleted += n,
            _ => {
                outcome.matched += n.saturating_sub(upserted);
                outcome.modified += number(reply, "nModified");
            }
        }
        let mut failed = 0;
        for told in list("writeErrors") {
            let message = told.get_str("errmsg").unwrap_or_default();
            let failure = Failure::told(message, code(told), Vec::new());
            outcome.failed(index(told)?, failure);
            failed += 1;
        }
        outcome.done += match list("writeErrors").next() {
            Some(first) if self.is_ordered => {
                usize::try_from(number(first, "index")).unwrap_or(run.len())
            }
            _ => run.len().saturating_sub(failed),
        };
        if failed == 0
            && let Ok(concern) = reply.get_document("writeConcernError")
        {
            // All of it was done, and may be undone.
            let labels = reply.get_array("errorLabels").into_iter().flatten();
            let labels = labels.filter_map(Bson::as_str).map(str::to_owned);
            let message = concern.get_str("errmsg").unwrap_or_default();
            let failure = Failure::told(message, code(concern), labels.collect());
            outcome.failed(run.first().map_or(0, |first| first.index), failure);
            return Ok(self.on(true));
        }
        match failed {
            0 => Ok(ControlFlow::Continue(())),
            _ => Ok(self.on(true)),
        }
    }

    /// Whether the operations behind one that failed are done: those of an unordered bulk, where it
    /// is not the server itself that failed.
    fn on(&self, is_of_the_operation: bool) -> ControlFlow<()> {
        match !self.is_ordered && is_of_the_operation {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

fn code(told: &Document) -> i32 {
    told.get_i32("code").unwrap_or_default()
}

/// A number of the server's reply; 0 where there is none.
fn number(told: &Document, name: &str) -> u64 {
    crate::snapshot::whole_number(told, name)
}
