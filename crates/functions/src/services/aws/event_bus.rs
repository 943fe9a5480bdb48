//! EventBridge: the events of triggers on a bus.

use serde_json::{Value, json};
use tributary_convert::extjson::{Mode, write_document};

use super::{AwsClient, AwsError};

/// An event of a change stream for a bus.
#[derive(Debug, Clone, Copy)]
pub struct BusEvent<'a> {
    /// The bus, by its name or ARN; none for the account's default one.
    pub bus: Option<&'a str>,
    /// Where it comes from. Atlas is a partner of Amazon's, and says
    /// `aws.partner/mongodb.com/stitch.trigger/<trigger>`; names that begin with `aws.` are not for others, so
    /// rules that ask for Atlas's are to be changed to this one.
    pub source: &'a str,
    /// The database of the event.
    pub database: &'a str,
    /// Its collection; none where it is about the database.
    pub collection: Option<&'a str>,
    /// The whole event as raw BSON.
    pub document: &'a [u8],
    /// Whether the detail is canonical Extended JSON, which keeps the types of numbers; relaxed otherwise.
    pub is_canonical: bool,
}

impl AwsClient {
    /// Puts an event on a bus with the detail type `MongoDB Database Trigger for <database>.<collection>`, and
    /// answers the id that EventBridge gave it. An event may have 256 KB with everything.
    ///
    /// # Errors
    /// What EventBridge said, or why it could not be asked; `InvalidParameter` where the event is no BSON.
    pub async fn put_event(&self, event: BusEvent<'_>) -> Result<String, AwsError> {
        let mut detail = Vec::new();
        let mode = match event.is_canonical {
            true => Mode::Canonical,
            false => Mode::Relaxed,
        };
        write_document(&mut detail, event.document, mode)
            .map_err(|error| AwsError::of_parameter(format!("the event is no BSON: {error}")))?;
        let place = match event.collection {
            Some(collection) => format!("{}.{collection}", event.database),
            None => event.database.to_owned(),
        };
        let mut entry = json!({
            "Source": event.source,
            "DetailType": format!("MongoDB Database Trigger for {place}"),
            "Detail": String::from_utf8_lossy(&detail),
        });
        if let Some(bus) = event.bus {
            entry["EventBusName"] = json!(bus);
        }
        let answer = self
            .call_json("events", "PutEvents", json!({ "Entries": [entry] }))
            .await?;
        let said = answer.pointer("/Entries/0");
        let text = |name: &str| said.and_then(|said| said.get(name)).and_then(Value::as_str);
        match (text("EventId"), text("ErrorCode")) {
            (Some(id), None) => Ok(id.to_owned()),
            (_, code) => {
                let code = code.unwrap_or("InternalFailure");
                Err(AwsError {
                    is_transient: matches!(
                        code,
                        "ThrottlingException" | "InternalFailure" | "InternalException"
                    ),
                    ..AwsError::new(
                        code,
                        text("ErrorMessage").unwrap_or("the event was not taken"),
                    )
                })
            }
        }
    }
}
