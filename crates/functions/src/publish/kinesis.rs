//! Amazon Kinesis Data Streams.
//!
//! Order: events with the same partition key are in the stream in their order. A request may fail for some of its
//! records and not for others, so it holds one record of a partition key at most: what comes behind a record that
//! has failed has not been sent. Hence a key takes one change in each round trip, some tens a second, while
//! different keys share their requests.
//!
//! Duplicates: the position is kept in a file, behind what is acknowledged; after a crash, or where an answer was
//! lost, records come again. An event is recognised by its `_id._data`.

mod api;
mod record;

use std::collections::HashSet;
use std::path::PathBuf;

use async_trait::async_trait;
use tributary_convert::extjson::Mode;
use tributary_flow::retry::Backoff;
use tributary_flow::{Failpoint, Published, Publisher, RawEvent};
use tributary_model::{Error, ErrorKind, Position, Result};

use super::checkpoint::Checkpoint;
use super::partition::KeyField;
use crate::services::{AwsClient, AwsSettings, HttpLimits};
use api::{Kinesis, StreamApi};
use record::{Record, record_of};

/// What one request takes: records, and bytes of them with their keys. Kinesis has come to take more bytes, for
/// streams of larger records; one that is larger goes alone.
const MOST_RECORDS: usize = 500;
const MOST_BYTES: usize = 5 << 20;
/// The bytes of a record with its key, unless the stream says otherwise.
const RECORD_BYTES: usize = 1 << 20;

/// A stream, and what becomes of events in it.
#[derive(Debug, Clone)]
pub struct KinesisSettings {
    /// The stream's name.
    pub stream: String,
    /// Where and as whom it is reached.
    pub aws: AwsSettings,
    /// The path of the field of events whose value is the partition key; `documentKey._id` where there is none.
    pub partition_key: Option<String>,
    /// How values are spelt.
    pub json: Mode,
    /// The directory that the position is kept in.
    pub state: PathBuf,
    /// The database whose events they are; none for those of a whole deployment.
    pub database: Option<String>,
}

/// A stream that events are published to, each as a record of Extended JSON.
pub struct KinesisPublisher {
    settings: KinesisSettings,
    key: KeyField,
    api: Box<dyn StreamApi>,
    /// The file with the position, once it is taken.
    checkpoint: Option<Checkpoint>,
    /// The most bytes of a record with its key.
    record_bytes: usize,
    /// Tokens of the events of the batch at hand that are acknowledged.
    sent: HashSet<String>,
}

impl KinesisPublisher {
    /// Nothing is reached yet.
    ///
    /// # Errors
    /// `Usage`: the stream's name or the path of the partition key is malformed.
    pub fn new(settings: KinesisSettings) -> Result<Self> {
        let limits = HttpLimits::default();
        let client = AwsClient::new(settings.aws.clone(), limits)?;
        let api = Kinesis::new(client, settings.stream.clone());
        Self::through(settings, Box::new(api))
    }

    /// Looks whether the stream is there; nothing is written to it.
    ///
    /// # Errors
    /// The stream is not there, or the service does not answer. That it may not be asked is none: who may write
    /// need not be allowed to.
    pub async fn check(&self) -> Result<()> {
        self.most_bytes().await.map(|_| ())
    }

    /// The bytes that the stream takes of a record with its key, where it says so.
    async fn most_bytes(&self) -> Result<Option<usize>> {
        match self.api.record_bytes().await {
            Ok(bytes) => Ok(bytes),
            Err(error) if api::is_forbidden(&error) => Ok(None),
            Err(error) => Err(self.told(api::failed("the stream cannot be used", error))),
        }
    }

    fn through(settings: KinesisSettings, api: Box<dyn StreamApi>) -> Result<Self> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let name = &settings.stream;
        if name.is_empty() || name.len() > 128 || !name.chars().all(is_name) {
            return Err(Error::new(ErrorKind::Usage, "not the name of a stream")
                .on("stream", name)
                .remedy("write it as kinesis://NAME, of letters, digits, `_`, `.` and `-`"));
        }
        let key = match &settings.partition_key {
            Some(path) => KeyField::parse(path)?,
            None => KeyField::default(),
        };
        Ok(Self {
            settings,
            key,
            api,
            checkpoint: None,
            record_bytes: RECORD_BYTES,
            sent: HashSet::new(),
        })
    }

    /// The name of the file with the position. Not that of a host, which may be written in other ways; that the
    /// position is of another deployment is noticed by its own content.
    fn checkpoint_name(&self) -> String {
        let KinesisSettings {
            stream,
            aws,
            database,
            ..
        } = &self.settings;
        let of = format!("{database:?} {:?} {:?}", aws.region, aws.endpoint);
        let hash = ring::digest::digest(&ring::digest::SHA256, of.as_bytes());
        let hash = hex::encode(hash);
        let short = hash.get(..12).unwrap_or_default();
        format!("kinesis-{stream}-{short}")
    }

    fn checkpoint(&self) -> Result<&Checkpoint> {
        self.checkpoint.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "events were published before their position was known",
            )
        })
    }

    fn told(&self, error: Error) -> Error {
        error.on("stream", &self.settings.stream)
    }

    /// Sends records until all of them are acknowledged.
    async fn send(&mut self, mut records: Vec<Record>) -> Result<()> {
        let mut backoff = Backoff::default();
        while !records.is_empty() {
            let (request, rest) = next_request(records);
            let results = self.api.put(&request).await;
            let results = results
                .map_err(|error| self.told(api::failed("cannot write to the stream", error)))?;
            if results.len() != request.len() {
                return Err(self.told(Error::new(
                    ErrorKind::InvalidData,
                    "the answer is not about the records that were sent",
                )));
            }
            let mut failed: Option<String> = None;
            let mut again = Vec::new();
            let mut has_progressed = false;
            for (record, result) in request.into_iter().zip(results) {
                match result {
                    None => {
                        has_progressed = true;
                        self.sent.insert(record.token);
                    }
                    Some(why) => {
                        failed = Some(why);
                        again.push(record);
                    }
                }
            }
            Failpoint::RecordsSent.hit();
            if has_progressed {
                backoff.reset();
            }
            // They were before all that is left, and those of the same keys still are.
            again.extend(rest);
            records = again;
            if let Some(why) = failed {
                let Some(wait) = backoff.next_wait() else {
                    return Err(self.told(
                        Error::new(ErrorKind::Unavailable, "the stream does not take records")
                            .because(why)
                            .remedy("give the stream more shards or on-demand capacity; what it lacks is sent as soon as it takes it"),
                    ));
                };
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }
}

/// The first records of which each has a key of its own and that fit into one request, and the others: both in
/// their order.
fn next_request(records: Vec<Record>) -> (Vec<Record>, Vec<Record>) {
    let (mut request, mut rest) = (Vec::new(), Vec::new());
    let mut keys: HashSet<String> = HashSet::new();
    let mut bytes = 0;
    let mut is_full = false;
    for record in records {
        // A key that is left behind once stays behind.
        let is_next = keys.insert(record.key.clone());
        let fits = request.is_empty()
            || (request.len() < MOST_RECORDS && bytes + record.bytes() <= MOST_BYTES);
        is_full = is_full || (is_next && !fits);
        if is_next && !is_full {
            bytes += record.bytes();
            request.push(record);
        } else {
            rest.push(record);
        }
    }
    (request, rest)
}

#[async_trait]
impl Publisher for KinesisPublisher {
    fn place(&self) -> String {
        format!("kinesis://{}", self.settings.stream)
    }

    async fn position(&mut self) -> Result<Option<Position>> {
        if let Some(bytes) = self.most_bytes().await? {
            self.record_bytes = bytes;
        }
        if self.checkpoint.is_none() {
            let name = self.checkpoint_name();
            self.checkpoint = Some(Checkpoint::take(&self.settings.state, &name).await?);
        }
        self.checkpoint()?.read().await
    }

    async fn publish(&mut self, batch: &[RawEvent], position: &Position) -> Result<Published> {
        self.checkpoint()?;
        let mut published = Published::default();
        let mut records = Vec::with_capacity(batch.len());
        for event in batch {
            let record = record_of(event, &self.key, self.settings.json, self.record_bytes)
                .map_err(|error| self.told(error))?;
            let written = published.collections.entry(event.namespace()).or_default();
            written.bytes += record.data.len() as u64;
            written.reduced += u64::from(record.is_reduced);
            if !self.sent.contains(&record.token) {
                records.push(record);
            }
        }
        self.send(records).await?;
        self.checkpoint()?.save(position).await?;
        self.sent.clear();
        Failpoint::RecordsCounted.hit();
        Ok(published)
    }
}

#[cfg(test)]
mod tests;
