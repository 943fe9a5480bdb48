//! Objects whose creation a queue tells.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};
use url::Url;

use super::{BackOff, Takes, is_wanted, notification, slept};

/// How long a message is hidden from others while it is taken.
const HIDDEN: Duration = Duration::from_secs(120);
/// How long a message is left alone that nobody understands: the queue's redrive policy counts how
/// often it comes.
const NOT_UNDERSTOOD: Duration = Duration::from_secs(300);
/// The longest that SQS waits for a message.
const LONG_POLL: Duration = Duration::from_secs(20);
/// How often a queue is asked when less than a second is left.
const SHORT_POLL: Duration = Duration::from_millis(200);
/// The most that SQS takes at a time.
const BATCH: usize = 10;
/// No more messages are held at a time.
const MOST: usize = 1000;

/// A client for the queue, with credentials and region of the environment, its files or the machine.
pub(super) async fn connect(queue: &str) -> Result<Client> {
    let url = Url::parse(queue).map_err(|error| {
        Error::new(ErrorKind::Usage, "the address of a queue is none")
            .on("queue", queue)
            .because(error)
            .remedy("write it as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    })?;
    let host = url.host_str().unwrap_or_default();
    let is_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if is_aws {
        // The queue is where its address says, wherever the rest is.
        if let Some(region) = host
            .strip_prefix("sqs.")
            .and_then(|rest| rest.split('.').next())
        {
            loader = loader.region(Region::new(region.to_owned()));
        }
    } else {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if !is_set("AWS_ENDPOINT_URL") && !is_set("AWS_ENDPOINT_URL_SQS") {
            loader = loader.endpoint_url(url.origin().ascii_serialization());
        }
        if !is_set("AWS_REGION") && !is_set("AWS_DEFAULT_REGION") {
            loader = loader.region(Region::new("us-east-1"));
        }
    }
    Ok(Client::new(&loader.load().await))
}

/// Tells `into` what comes; messages are deleted once it is taken.
pub(super) async fn watch(
    client: &Client,
    queue: &str,
    matching: Option<&glob::Pattern>,
    gather: Duration,
    into: &dyn Takes,
    stop: &CancellationToken,
) -> Result<()> {
    let queue = Queue { client, url: queue };
    let mut back_off = BackOff::default();
    loop {
        let messages = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            messages = queue.receive(LONG_POLL) => messages,
        };
        let mut messages = match messages {
            Ok(messages) => messages,
            Err(error) if error.kind().is_transient() => {
                let wait = back_off.after("the queue cannot be read", &error);
                if !slept(wait, stop).await {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        if messages.is_empty() {
            back_off.reset();
            continue;
        }
        // What is held longer than it is hidden comes again.
        let deadline = Instant::now() + gather.min(HIDDEN / 2);
        while messages.len() < MOST {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let more = tokio::select! {
                () = stop.cancelled() => {
                    queue.hide(&messages, Duration::ZERO).await;
                    return Ok(());
                }
                more = queue.receive(left.min(LONG_POLL)) => more,
            };
            match more {
                Ok(more) if more.is_empty() && !slept(left.min(SHORT_POLL), stop).await => {}
                Ok(more) => messages.extend(more),
                // What has come is taken first; the next question tells it.
                Err(_) => break,
            }
        }
        let mut objects = Vec::new();
        let (mut read, mut strange) = (Vec::new(), Vec::new());
        for message in messages {
            match notification::read(message.body().unwrap_or_default()) {
                Some(created) => {
                    objects.extend(created);
                    read.push(message);
                }
                None => strange.push(message),
            }
        }
        for message in &strange {
            tracing::warn!(
                queue = queue.url,
                message = message.message_id(),
                "a message tells no creation of an object; it is left to the queue's redrive policy"
            );
        }
        queue.hide(&strange, NOT_UNDERSTOOD).await;
        objects.retain(|object| is_wanted(matching, &object.key));
        let taken = match objects.is_empty() {
            true => Ok(()),
            false => into.take(objects).await,
        };
        match taken {
            Ok(()) => {
                back_off.reset();
                queue.delete(&read).await;
            }
            Err(error) => {
                let wait = back_off.after("created objects are not taken", &error);
                queue.hide(&read, wait).await;
                if !slept(wait, stop).await {
                    return Ok(());
                }
            }
        }
    }
}

struct Queue<'a> {
    client: &'a Client,
    url: &'a str,
}

impl Queue<'_> {
    async fn receive(&self, wait: Duration) -> Result<Vec<Message>> {
        let seconds = |time: Duration| i32::try_from(time.as_secs()).unwrap_or(0);
        self.client
            .receive_message()
            .queue_url(self.url)
            .max_number_of_messages(BATCH as i32)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(HIDDEN))
            .send()
            .await
            .map(|answer| answer.messages.unwrap_or_default())
            .map_err(|error| self.failed(error))
    }

    /// What is not deleted comes again, and its ids tell that it is the same.
    async fn delete(&self, messages: &[Message]) {
        for batch in messages.chunks(BATCH) {
            let entries = batch.iter().enumerate().filter_map(|(i, message)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(message.receipt_handle()?)
                    .build()
                    .ok()
            });
            let request = self.client.delete_message_batch().queue_url(self.url);
            let sent = request.set_entries(Some(entries.collect())).send().await;
            match sent {
                Ok(answer) if answer.failed.is_empty() => {}
                Ok(answer) => {
                    let count = answer.failed.len();
                    tracing::warn!(queue = self.url, count, "messages are not deleted");
                }
                Err(error) => {
                    let error = self.failed(error);
                    tracing::warn!(%error, "messages are not deleted");
                }
            }
        }
    }

    /// Has messages come again after a time. Where that fails they do when they are not hidden any more.
    async fn hide(&self, messages: &[Message], time: Duration) {
        let seconds = i32::try_from(time.as_secs()).unwrap_or(0);
        for batch in messages.chunks(BATCH) {
            let entries = batch.iter().enumerate().filter_map(|(i, message)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(message.receipt_handle()?)
                    .visibility_timeout(seconds)
                    .build()
                    .ok()
            });
            let request = self.client.change_message_visibility_batch();
            let request = request.queue_url(self.url);
            let sent = request.set_entries(Some(entries.collect())).send();
            if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(5), sent).await {
                let error = self.failed(error);
                tracing::warn!(%error, "messages come again later than they could");
            }
        }
    }

    fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let code = code.rsplit(['.', '#']).next().unwrap_or_default();
        let text = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            _ => DisplayErrorContext(&error).to_string(),
        };
        let text: String = text.chars().take(300).collect();
        let (kind, message, remedy) = match code {
            "QueueDoesNotExist" | "NonExistentQueue" => (
                ErrorKind::NotFound,
                "there is no such queue",
                "check its address; a queue that was just created takes a minute to be seen",
            ),
            _ if code.contains("AccessDenied") => (
                ErrorKind::Forbidden,
                "the queue may not be read",
                "grant sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility, and \
                 kms:Decrypt if it is encrypted",
            ),
            "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidSecurity" => (
                ErrorKind::Unauthenticated,
                "AWS does not accept the credentials",
                "check AWS_ACCESS_KEY_ID, the profile or the role of this machine",
            ),
            "" if text.contains("redentials") => (
                ErrorKind::Unauthenticated,
                "there are no credentials for the queue",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role for this machine",
            ),
            "RequestThrottled" | "ThrottlingException" | "OverLimit" | "KmsThrottled" => (
                ErrorKind::Unavailable,
                "the queue is asked too often",
                "it is tried again",
            ),
            _ if status.is_some_and(|status| status >= 500) => (
                ErrorKind::Unavailable,
                "the queue cannot answer now",
                "it is tried again",
            ),
            _ if status.is_none() => (
                ErrorKind::Unreachable,
                "cannot reach the queue",
                "check its address, and that this machine may reach it",
            ),
            _ => (
                ErrorKind::Usage,
                "the queue refuses to be read",
                "the address is to be that of an SQS queue",
            ),
        };
        Error::new(kind, message)
            .on("queue", self.url)
            .because(text)
            .remedy(remedy)
    }
}
