//! Where events come in.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tributary_model::{Error, ErrorKind};

use crate::access::{self, Access};
use crate::body::{Form, documents};
use crate::check::check;
use crate::log::{Appended, EventLog};

/// How many faults are told at most; a request of which every event is wrong is wrong in one way.
const MOST_FAULTS: usize = 100;

/// Takes the events of one source.
#[derive(Debug)]
pub struct Intake {
    log: Arc<EventLog>,
    access: Access,
    largest_request: usize,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which of its events, from 0; none where it is the request as a whole.
    pub index: Option<usize>,
    /// What is wrong.
    pub what: String,
}

impl Fault {
    pub(crate) fn of(index: usize, what: impl Into<String>) -> Self {
        Self {
            index: Some(index),
            what: what.into(),
        }
    }

    pub(crate) fn of_all(what: impl Into<String>) -> Self {
        Self {
            index: None,
            what: what.into(),
        }
    }
}

/// Why nothing of a request has been taken.
#[derive(Debug)]
pub enum Refused {
    /// What came with it is not what has to.
    Unauthenticated,
    /// It is larger than it may be, in bytes.
    TooLarge(usize),
    /// It is of a media type, or encoded in a way, that is not known.
    UnknownForm,
    /// Some of its events are wrong.
    Wrong(Vec<Fault>),
    /// The disk has no room for it.
    Full(Error),
    /// It cannot be made durable.
    Failed(Error),
}

impl Intake {
    /// Takes what `access` grants, in requests of so many bytes at most.
    #[must_use]
    pub fn new(log: Arc<EventLog>, access: Access, largest_request: usize) -> Self {
        Self {
            log,
            access,
            largest_request,
        }
    }

    /// The log that it appends to.
    #[must_use]
    pub fn log(&self) -> &Arc<EventLog> {
        &self.log
    }

    /// The largest request, in bytes.
    #[must_use]
    pub fn largest_request(&self) -> usize {
        self.largest_request
    }

    /// Whether the body of a request is to be read, by what its headers say.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        self.access.admits(headers)
    }

    /// Whether a key has to come with a request.
    #[must_use]
    pub fn wants_key(&self) -> bool {
        self.access.wants_key()
    }

    /// Whether a request looks as if it were signed, which only its body can tell.
    #[must_use]
    pub fn is_signed(headers: &HeaderMap) -> bool {
        access::is_signed(headers)
    }

    /// Takes the events of a request, all of them or none. They are durable when it returns.
    ///
    /// # Errors
    /// Why none has been taken.
    pub async fn take(&self, headers: &HeaderMap, body: Bytes) -> Result<Appended, Refused> {
        if !self.access.grants(headers, &body) {
            return Err(Refused::Unauthenticated);
        }
        if body.len() > self.largest_request {
            return Err(Refused::TooLarge(self.largest_request));
        }
        let form = form(headers).ok_or(Refused::UnknownForm)?;
        // Parsing and checking what is large takes its time.
        let read = tokio::task::spawn_blocking(move || events(form, &body)).await;
        let events = read.map_err(|panic| {
            let error = Error::new(ErrorKind::Internal, "reading events ended abnormally");
            Refused::Failed(error.because(panic))
        })??;
        self.log
            .append(events)
            .await
            .map_err(|failure| match failure.is_full {
                true => Refused::Full(failure.error),
                false => Refused::Failed(failure.error),
            })
    }
}

fn form(headers: &HeaderMap) -> Option<Form> {
    let encoding = headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return None;
    }
    match headers.get(CONTENT_TYPE) {
        None => Form::of(None),
        Some(content_type) => Form::of(Some(content_type.to_str().ok()?)),
    }
}

fn events(form: Form, body: &Bytes) -> Result<Vec<crate::CheckedEvent>, Refused> {
    let documents = documents(form, body).map_err(|fault| Refused::Wrong(vec![fault]))?;
    if documents.is_empty() {
        let fault = Fault::of_all("there is no event in the body");
        return Err(Refused::Wrong(vec![fault]));
    }
    let (mut events, mut faults) = (Vec::with_capacity(documents.len()), Vec::new());
    for (index, document) in documents.into_iter().enumerate() {
        match document.map_err(|what| vec![what]).and_then(check) {
            Ok(event) => events.push(event),
            Err(wrong) => faults.extend(wrong.into_iter().map(|what| Fault::of(index, what))),
        }
    }
    if faults.is_empty() {
        return Ok(events);
    }
    if faults.len() > MOST_FAULTS {
        let more = faults.len() - MOST_FAULTS;
        faults.truncate(MOST_FAULTS);
        faults.push(Fault::of_all(format!("and {more} more faults")));
    }
    Err(Refused::Wrong(faults))
}
