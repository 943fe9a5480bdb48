//! Writing documents.

use bytes::Bytes;
use mongodb::bson::{RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, cstr};
use mongodb::options::{
    DeleteOptions, FindOneAndDeleteOptions, FindOneAndReplaceOptions, FindOneAndUpdateOptions,
    InsertManyOptions, InsertOneOptions, ReplaceOptions, ReturnDocument, UpdateOptions,
};
use mongodb::results::UpdateResult;

use super::failure::Failure;
use super::fields::Fields;
use super::sessions::Held;
use super::{Task, answer, in_session};

pub(super) async fn insert_one(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["document"])?;
    let document = arguments.required("document", arguments.raw_document("document")?)?;
    let options = task.options(&["bypassDocumentValidation", "comment", "writeConcern"])?;
    let options = InsertOneOptions::builder()
        .bypass_document_validation(options.boolean("bypassDocumentValidation")?)
        .comment(options.value("comment")?)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?.clone_with_type::<&RawDocument>();
    let insert = collection.insert_one(document).with_options(options);
    let inserted = in_session!(insert, session)?;
    let mut result = RawDocumentBuf::new();
    result.append(
        cstr!("insertedId"),
        RawBson::try_from(inserted.inserted_id)?,
    );
    Ok(answer::of(&result))
}

pub(super) async fn insert_many(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["documents"])?;
    let documents = arguments.required("documents", arguments.raw_documents("documents")?)?;
    let options = task.options(&[
        "ordered",
        "bypassDocumentValidation",
        "comment",
        "writeConcern",
    ])?;
    let is_ordered = options.boolean("ordered")?.unwrap_or(true);
    let options = InsertManyOptions::builder()
        .bypass_document_validation(options.boolean("bypassDocumentValidation")?)
        .comment(options.value("comment")?)
        .ordered(is_ordered)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?.clone_with_type::<&RawDocument>();
    let insert = collection.insert_many(&documents).with_options(options);
    let inserted = in_session!(insert, session).map_err(|error| {
        match inserted_of(&error, documents.len(), is_ordered) {
            Some(done) => Failure::from(error).with_done(done, documents.len()),
            None => error.into(),
        }
    })?;
    let mut ids: Vec<_> = inserted.inserted_ids.into_iter().collect();
    ids.sort_unstable_by_key(|(index, _)| *index);
    let mut inserted = RawArrayBuf::new();
    for (_, id) in ids {
        inserted.push(RawBson::try_from(id)?);
    }
    let mut result = RawDocumentBuf::new();
    result.append(cstr!("insertedIds"), inserted);
    Ok(answer::of(&result))
}

/// How many documents were inserted though not all of them were; none where that is not known.
pub(super) fn inserted_of(
    error: &mongodb::error::Error,
    documents: usize,
    is_ordered: bool,
) -> Option<usize> {
    let mongodb::error::ErrorKind::InsertMany(many) = error.kind.as_ref() else {
        return None;
    };
    let errors = many.write_errors.as_deref().unwrap_or_default();
    Some(match errors.first() {
        Some(first) if is_ordered => first.index,
        _ => documents.saturating_sub(errors.len()),
    })
}

pub(super) async fn update(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["filter", "update"])?;
    let (filter, update) = (arguments.filter_of_write()?, arguments.update()?);
    let is_many = task.call.operation == "updateMany";
    let mut known = vec![
        "upsert",
        "arrayFilters",
        "hint",
        "collation",
        "comment",
        "let",
        "bypassDocumentValidation",
        "writeConcern",
    ];
    if !is_many {
        known.push("sort");
    }
    let options = task.options(&known)?;
    let options = UpdateOptions::builder()
        .array_filters(options.documents("arrayFilters")?)
        .bypass_document_validation(options.boolean("bypassDocumentValidation")?)
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .sort(options.document("sort")?)
        .upsert(options.boolean("upsert")?)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?;
    let update = match is_many {
        true => collection.update_many(filter, update),
        false => collection.update_one(filter, update),
    };
    updated(in_session!(update.with_options(options), session)?)
}

pub(super) async fn replace(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["filter", "replacement"])?;
    let (filter, replacement) = (arguments.filter_of_write()?, arguments.replacement()?);
    let options = task.options(&[
        "upsert",
        "sort",
        "hint",
        "collation",
        "comment",
        "let",
        "bypassDocumentValidation",
        "writeConcern",
    ])?;
    let options = ReplaceOptions::builder()
        .bypass_document_validation(options.boolean("bypassDocumentValidation")?)
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .sort(options.document("sort")?)
        .upsert(options.boolean("upsert")?)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?.clone_with_type::<&RawDocument>();
    let replace = collection
        .replace_one(filter, replacement)
        .with_options(options);
    updated(in_session!(replace, session)?)
}

fn updated(updated: UpdateResult) -> Result<Bytes, Failure> {
    let mut result = RawDocumentBuf::new();
    result.append(cstr!("matchedCount"), answer::count(updated.matched_count));
    result.append(
        cstr!("modifiedCount"),
        answer::count(updated.modified_count),
    );
    if let Some(id) = updated.upserted_id {
        result.append(cstr!("upsertedId"), RawBson::try_from(id)?);
    }
    Ok(answer::of(&result))
}

pub(super) async fn delete(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let filter = task.arguments(&["filter"])?.filter_of_write()?;
    let options = task.options(&["hint", "collation", "comment", "let", "writeConcern"])?;
    let options = DeleteOptions::builder()
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?;
    let delete = match task.call.operation == "deleteMany" {
        true => collection.delete_many(filter),
        false => collection.delete_one(filter),
    };
    let deleted = in_session!(delete.with_options(options), session)?;
    let mut result = RawDocumentBuf::new();
    result.append(cstr!("deletedCount"), answer::count(deleted.deleted_count));
    Ok(answer::of(&result))
}

const OF_FIND_AND: &[&str] = &[
    "sort",
    "projection",
    "hint",
    "collation",
    "maxTimeMS",
    "comment",
    "let",
    "writeConcern",
];
const OF_FIND_AND_REPLACE: &[&str] = &[
    "upsert",
    "returnDocument",
    "returnNewDocument",
    "bypassDocumentValidation",
];

pub(super) async fn find_and_update(
    task: &Task,
    session: &mut Option<Held>,
) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["filter", "update"])?;
    let (filter, update) = (arguments.filter_of_write()?, arguments.update()?);
    let known = [OF_FIND_AND, OF_FIND_AND_REPLACE, &["arrayFilters"]].concat();
    let options = task.options(&known)?;
    let options = FindOneAndUpdateOptions::builder()
        .array_filters(options.documents("arrayFilters")?)
        .bypass_document_validation(options.boolean("bypassDocumentValidation")?)
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .max_time(options.milliseconds("maxTimeMS")?)
        .projection(options.document("projection")?)
        .return_document(return_document(options)?)
        .sort(options.document("sort")?)
        .upsert(options.boolean("upsert")?)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?;
    let find = collection
        .find_one_and_update(filter, update)
        .with_options(options);
    Ok(answer::document(in_session!(find, session)?.as_deref()))
}

pub(super) async fn find_and_replace(
    task: &Task,
    session: &mut Option<Held>,
) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["filter", "replacement"])?;
    let (filter, replacement) = (arguments.filter_of_write()?, arguments.replacement()?);
    let options = task.options(&[OF_FIND_AND, OF_FIND_AND_REPLACE].concat())?;
    let options = FindOneAndReplaceOptions::builder()
        .bypass_document_validation(options.boolean("bypassDocumentValidation")?)
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .max_time(options.milliseconds("maxTimeMS")?)
        .projection(options.document("projection")?)
        .return_document(return_document(options)?)
        .sort(options.document("sort")?)
        .upsert(options.boolean("upsert")?)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?;
    let find = collection
        .find_one_and_replace(filter, replacement.to_owned())
        .with_options(options);
    Ok(answer::document(in_session!(find, session)?.as_deref()))
}

pub(super) async fn find_and_delete(
    task: &Task,
    session: &mut Option<Held>,
) -> Result<Bytes, Failure> {
    let filter = task.arguments(&["filter"])?.filter_of_write()?;
    let options = task.options(OF_FIND_AND)?;
    let options = FindOneAndDeleteOptions::builder()
        .collation(options.collation()?)
        .comment(options.value("comment")?)
        .hint(options.hint()?)
        .let_vars(options.document("let")?)
        .max_time(options.milliseconds("maxTimeMS")?)
        .projection(options.document("projection")?)
        .sort(options.document("sort")?)
        .write_concern(options.write_concern()?)
        .build();
    let collection = task.collection()?;
    let find = collection.find_one_and_delete(filter).with_options(options);
    Ok(answer::document(in_session!(find, session)?.as_deref()))
}

/// Which document is wanted: by the driver's name for it or by that of Atlas.
fn return_document(options: Fields<'_>) -> Result<Option<ReturnDocument>, Failure> {
    let named = match options.text("returnDocument")? {
        None => None,
        Some("after") => Some(ReturnDocument::After),
        Some("before") => Some(ReturnDocument::Before),
        Some(other) => {
            return Err(Failure::of(format!(
                "the option `returnDocument` is `before` or `after`, and not `{other}`"
            )));
        }
    };
    match (named, options.boolean("returnNewDocument")?) {
        (Some(_), Some(_)) => Err(Failure::of(
            "the options `returnDocument` and `returnNewDocument` say the same: give one of them",
        )),
        (None, Some(true)) => Ok(Some(ReturnDocument::After)),
        (named, _) => Ok(named),
    }
}
