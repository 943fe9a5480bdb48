//! Amazon Kinesis Data Streams.
//!
//! Order: events with the same partition key are in the stream in their order. A request may fail for some of its
//! records and not for others, so it holds one record of a partition key at most: what comes behind a record that
//! has failed has not been sent. Hence a key takes one change in each round trip, some tens a second, while
//! different keys share their requests.
//!
//! Duplicates: the position is kept in a file, behind what is acknowledged; after a crash, or where an answer was
//! lost, records come again. An event is recognised by its `_id._data`. A record that comes again may come behind
//! later ones of its key: the last request of a process that was killed may be executed when the next one writes.
//!
//! A batch of a hot key takes minutes. So the position moves on within it too, and what is left of it some seconds
//! after the process was asked to end is left to the next one.

mod acknowledged;
mod api;
mod ending;
mod record;
mod request;

use std::collections::HashSet;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tributary_convert::extjson::Mode;
use tributary_flow::retry::Backoff;
use tributary_flow::{Failpoint, Published, Publisher, RawEvent};
use tributary_model::{Error, ErrorKind, Namespace, Position, Result};

use super::checkpoint::Checkpoint;
use super::partition::KeyField;
use crate::services::{AwsClient, AwsSettings, HttpLimits};
use acknowledged::Acknowledged;
use api::{Kinesis, StreamApi};
use ending::Ending;
use record::{Record, record_of};
use request::next_request;

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
    /// The most bytes of a record with its key; none before the stream was asked.
    record_bytes: Option<usize>,
    /// Tokens of the events of the batch at hand that are acknowledged.
    sent: HashSet<String>,
    ending: Ending,
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

    /// The bytes that the stream takes of a record with its key, as far as it says so.
    async fn most_bytes(&self) -> Result<usize> {
        match self.api.record_bytes().await {
            Ok(bytes) => Ok(bytes.unwrap_or(RECORD_BYTES)),
            Err(error) if api::is_forbidden(&error) => {
                tracing::warn!(
                    stream = self.settings.stream,
                    limit = RECORD_BYTES,
                    "the stream may not be asked how large its records may be: changes beyond the limit lose their \
                     documents; allow kinesis:DescribeStreamSummary on it to these credentials"
                );
                Ok(RECORD_BYTES)
            }
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
            record_bytes: None,
            sent: HashSet::new(),
            ending: Ending::default(),
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

    /// Sends records until all of them are acknowledged, or it is to end.
    async fn send(
        &mut self,
        mut records: Vec<Record>,
        acknowledged: &mut Acknowledged<'_>,
    ) -> Result<()> {
        let mut backoff = Backoff::default();
        while !records.is_empty() && !self.ending.is_due() {
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
            if acknowledged.is_due() {
                self.save(acknowledged).await?;
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
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.ending.comes() => {}
                }
            }
        }
        Ok(())
    }

    /// Makes the position durable that is reached within a batch.
    async fn save(&self, acknowledged: &mut Acknowledged<'_>) -> Result<()> {
        if let Some(position) = acknowledged.advance(&self.sent) {
            self.checkpoint()?.save(&position).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Publisher for KinesisPublisher {
    fn place(&self) -> String {
        format!("kinesis://{}", self.settings.stream)
    }

    fn heed(&mut self, stop: CancellationToken) {
        self.ending = Ending::after(stop);
    }

    async fn position(&mut self) -> Result<Option<Position>> {
        if self.record_bytes.is_none() {
            self.record_bytes = Some(self.most_bytes().await?);
        }
        if self.checkpoint.is_none() {
            let name = self.checkpoint_name();
            self.checkpoint = Some(Checkpoint::take(&self.settings.state, &name).await?);
        }
        self.checkpoint()?.read().await
    }

    async fn publish(&mut self, batch: &[RawEvent], position: &Position) -> Result<Published> {
        self.checkpoint()?;
        let most_bytes = self.record_bytes.unwrap_or(RECORD_BYTES);
        let mut written = Vec::with_capacity(batch.len());
        let mut records = Vec::with_capacity(batch.len());
        for event in batch {
            let record = record_of(event, &self.key, self.settings.json, most_bytes)
                .map_err(|error| self.told(error))?;
            written.push((event.namespace(), record.data.len(), record.is_reduced));
            if !self.sent.contains(&record.token) {
                records.push(record);
            }
        }
        let mut acknowledged = Acknowledged::new(batch, position);
        if let Err(error) = self.send(records, &mut acknowledged).await {
            // Where that fails too, the first reason is the nearer one, and some records come again.
            let _ = self.save(&mut acknowledged).await;
            return Err(error);
        }
        self.save(&mut acknowledged).await?;
        let left = acknowledged.left();
        if left == 0 {
            self.checkpoint()?.save(position).await?;
            self.sent.clear();
        }
        Failpoint::RecordsCounted.hit();
        written.truncate(batch.len() - left);
        Ok(published(written, left))
    }
}

/// What was written of each collection.
fn published(records: Vec<(Namespace, usize, bool)>, left: usize) -> Published {
    let mut published = Published {
        left,
        ..Published::default()
    };
    for (namespace, bytes, is_reduced) in records {
        let written = published.collections.entry(namespace).or_default();
        written.bytes += bytes as u64;
        written.reduced += u64::from(is_reduced);
    }
    published
}

#[cfg(test)]
mod tests;
