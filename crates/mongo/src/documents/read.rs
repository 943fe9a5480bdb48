//! Reading documents.

use bytes::Bytes;
use mongodb::bson::{RawArrayBuf, RawBson, RawDocument};
use mongodb::options::{
    AggregateOptions, CountOptions, DistinctOptions, EstimatedDocumentCountOptions, FindOptions,
    SelectionCriteria,
};

use super::cursors::Source;
use super::failure::Failure;
use super::fields::Fields;
use super::sessions::Held;
use super::{Task, answer, cursors, in_session};

const OF_FIND_ONE: &[&str] = &[
    "sort",
    "skip",
    "projection",
    "hint",
    "collation",
    "maxTimeMS",
    "comment",
    "let",
    "allowDiskUse",
    "allowPartialResults",
    "max",
    "min",
    "returnKey",
    "showRecordId",
    "readConcern",
    "readPreference",
];

pub(super) async fn find(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let known = [OF_FIND_ONE, &["limit", "batchSize", "noCursorTimeout"]].concat();
    let source = found(task, session, &known, false).await?;
    cursors::open(task, session, source).await
}

pub(super) async fn find_one(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let source = found(task, session, OF_FIND_ONE, true).await?;
    let found = source.only(session).await?;
    let found = found.as_deref().map(RawDocument::from_bytes).transpose()?;
    Ok(answer::document(found))
}

async fn found(
    task: &Task,
    session: &mut Option<Held>,
    known: &[&str],
    only_one: bool,
) -> Result<Source, Failure> {
    let filter = task.arguments(&["filter"])?.filter()?;
    let options = task.options(known)?;
    let limit = match only_one {
        // A negative limit leaves no cursor behind.
        true => Some(-1),
        false => options.whole::<i64>("limit")?,
    };
    let options = FindOptions::builder()
        .allow_disk_use(options.boolean("allowDiskUse")?)
        .allow_partial_results(options.boolean("allowPartialResults")?)
        .batch_size(options.whole::<u32>("batchSize")?)
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .limit(limit)
        .max(options.document("max")?)
        .max_time(options.milliseconds("maxTimeMS")?)
        .min(options.document("min")?)
        .no_cursor_timeout(options.boolean("noCursorTimeout")?)
        .projection(options.document("projection")?)
        .read_concern(options.read_concern()?)
        .return_key(options.boolean("returnKey")?)
        .selection_criteria(read_from(task, session, options)?)
        .show_record_id(options.boolean("showRecordId")?)
        .skip(options.whole::<u64>("skip")?)
        .sort(options.document("sort")?)
        .build();
    let collection = task.collection()?;
    let find = collection.find(filter).with_options(options);
    Ok(match session {
        Some(held) => Source::OfSession(Box::new(find.session(held.driver()).batch().await?)),
        None => Source::Plain(Box::new(find.batch().await?)),
    })
}

pub(super) async fn aggregate(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["pipeline"])?;
    let pipeline = arguments.required("pipeline", arguments.documents("pipeline")?)?;
    let options = task.options(&[
        "allowDiskUse",
        "batchSize",
        "bypassDocumentValidation",
        "collation",
        "comment",
        "hint",
        "let",
        "maxTimeMS",
        "readConcern",
        "readPreference",
        "writeConcern",
    ])?;
    let options = AggregateOptions::builder()
        .allow_disk_use(options.boolean("allowDiskUse")?)
        .batch_size(options.whole::<u32>("batchSize")?)
        .bypass_document_validation(options.boolean("bypassDocumentValidation")?)
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .max_time(options.milliseconds("maxTimeMS")?)
        .read_concern(options.read_concern()?)
        .selection_criteria(read_from(task, session, options)?)
        .write_concern(options.write_concern()?)
        .build();
    let database = task.database();
    let collection = task.call.collection.as_ref().map(|_| task.collection());
    let collection = collection.transpose()?;
    let aggregate = match &collection {
        Some(collection) => collection.aggregate(pipeline),
        None => database.aggregate(pipeline),
    };
    let aggregate = aggregate.with_options(options);
    let source = match session {
        Some(held) => Source::OfSession(Box::new(aggregate.session(held.driver()).batch().await?)),
        None => Source::Plain(Box::new(aggregate.batch().await?)),
    };
    cursors::open(task, session, source).await
}

pub(super) async fn count(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let filter = task.arguments(&["filter"])?.filter()?;
    let options = task.options(&[
        "limit",
        "skip",
        "hint",
        "collation",
        "maxTimeMS",
        "comment",
        "readConcern",
        "readPreference",
    ])?;
    let options = CountOptions::builder()
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        // No limit at all is what zero means to a cursor.
        .limit(options.whole::<u64>("limit")?.filter(|limit| *limit > 0))
        .max_time(options.milliseconds("maxTimeMS")?)
        .read_concern(options.read_concern()?)
        .selection_criteria(read_from(task, session, options)?)
        .skip(options.whole::<u64>("skip")?)
        .build();
    let collection = task.collection()?;
    let count = collection.count_documents(filter).with_options(options);
    Ok(answer::of(answer::count(in_session!(count, session)?)))
}

pub(super) async fn estimate(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    if !task.arguments(&["filter"])?.filter()?.is_empty() {
        return Err(Failure::of(
            "estimatedDocumentCount counts all documents: countDocuments takes a filter",
        ));
    }
    if session.is_some() {
        return Err(Failure::of(
            "estimatedDocumentCount is not part of a session: countDocuments can be",
        ));
    }
    let options = task.options(&["maxTimeMS", "comment", "readConcern", "readPreference"])?;
    let options = EstimatedDocumentCountOptions::builder()
        .comment(options.value("comment")?)
        .max_time(options.milliseconds("maxTimeMS")?)
        .read_concern(options.read_concern()?)
        .selection_criteria(read_from(task, session, options)?)
        .build();
    let collection = task.collection()?;
    let count = collection.estimated_document_count().with_options(options);
    Ok(answer::of(answer::count(count.await?)))
}

pub(super) async fn distinct(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["field", "filter"])?;
    let field = arguments.required("field", arguments.text("field")?)?;
    let filter = arguments.filter()?;
    let options = task.options(&[
        "collation",
        "comment",
        "hint",
        "maxTimeMS",
        "readConcern",
        "readPreference",
    ])?;
    let options = DistinctOptions::builder()
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .max_time(options.milliseconds("maxTimeMS")?)
        .read_concern(options.read_concern()?)
        .selection_criteria(read_from(task, session, options)?)
        .build();
    let collection = task.collection()?;
    let distinct = collection.distinct(field, filter).with_options(options);
    let mut values = RawArrayBuf::new();
    for value in in_session!(distinct, session)? {
        values.push(RawBson::try_from(value)?);
    }
    Ok(answer::of(&values))
}

/// Where an operation reads. A transaction has its own say.
fn read_from(
    task: &Task,
    session: &Option<Held>,
    options: Fields<'_>,
) -> Result<Option<SelectionCriteria>, Failure> {
    Ok(match (options.read_preference()?, session) {
        (Some(given), _) => Some(given),
        (None, Some(held)) if held.in_transaction() => None,
        (None, _) => Some(task.connection.read_documents_from()),
    })
}
