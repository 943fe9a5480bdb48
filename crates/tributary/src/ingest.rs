//! The sources that events are pushed to: their logs, below the state, and who may push.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use tributary_api::{Admitted, Ingests, Refusal, Taken};
use tributary_flow::{CollectionInfo, LoadSink, Loading, Opened};
use tributary_ingest::{Access, EventLog, Intake, LogOptions, Refused};
use tributary_lake::FileSink;
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::{End, Ingest, Place, Plan};

/// The directory of the logs, below the state.
const DIRECTORY: &str = "ingest";

/// How long a log is waited for that is being closed here.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// The logs of all sources that events are pushed to, by the names of these.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    intakes: RwLock<Intakes>,
    /// Those of a plan that is prepared, and not in use yet.
    prepared: RwLock<Option<Prepared>>,
    /// All logs that were opened: one that a flow still reads is open, though no events are pushed to it.
    opened: Mutex<BTreeMap<String, Weak<EventLog>>>,
}

type Intakes = BTreeMap<String, Arc<Intake>>;

#[derive(Debug)]
struct Prepared {
    intakes: Intakes,
    options: BTreeMap<String, LogOptions>,
}

impl Logs {
    /// Takes what a plan says of such sources into use. Logs that are open stay open; nothing changes where one
    /// cannot be opened.
    pub(crate) async fn become_these(self: &Arc<Self>, plan: &Plan) -> Result<()> {
        self.prepare(plan).await?;
        self.take_into_use();
        Ok(())
    }

    /// Opens the logs of a plan that are not open. Flows and triggers find them from then on; who may push, and
    /// where to, changes when they are taken into use.
    pub(crate) async fn prepare(self: &Arc<Self>, plan: &Plan) -> Result<()> {
        let logs = Arc::clone(self);
        let directory = plan.state.join(DIRECTORY);
        let sources = plan.places.iter().filter_map(|(name, place)| match place {
            Place::Ingest(ingest) => Some((name.clone(), ingest.clone())),
            _ => None,
        });
        let sources: Vec<(String, Ingest)> = sources.collect();
        // Opening files blocks.
        let prepared = tokio::task::spawn_blocking(move || logs.open(&directory, &sources))
            .await
            .map_err(|panic| {
                Error::new(ErrorKind::Internal, "opening logs of events ended early").because(panic)
            })??;
        *self.preparing() = Some(prepared);
        Ok(())
    }

    /// Takes into use what was prepared last, where something was.
    pub(crate) fn take_into_use(&self) {
        let Some(Prepared { intakes, options }) = self.preparing().take() else {
            return;
        };
        for (name, options) in options {
            if let Some(intake) = intakes.get(&name) {
                intake.log().set_options(options);
            }
        }
        *self.intakes.write().unwrap_or_else(PoisonError::into_inner) = intakes;
    }

    /// Leaves what was prepared last: it is not to be used.
    pub(crate) fn leave(&self) {
        *self.preparing() = None;
    }

    fn preparing(&self) -> RwLockWriteGuard<'_, Option<Prepared>> {
        let prepared = self.prepared.write();
        prepared.unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, directory: &Path, sources: &[(String, Ingest)]) -> Result<Prepared> {
        let mut prepared = Prepared {
            intakes: BTreeMap::new(),
            options: BTreeMap::new(),
        };
        for (name, ingest) in sources {
            let access = Access::new(
                ingest.key.as_ref().map(|key| key.as_str()),
                ingest.hmac.as_ref().map(|secret| secret.as_str()),
            )
            .map_err(|error| error.on("source", name))?;
            let log = self.log(directory, name, ingest)?;
            let intake = Intake::new(log, access, ingest.largest_request);
            prepared.intakes.insert(name.clone(), Arc::new(intake));
            prepared.options.insert(name.clone(), options(ingest));
        }
        Ok(prepared)
    }

    /// The log of a source: the one that is open, or it is opened.
    fn log(&self, directory: &Path, name: &str, ingest: &Ingest) -> Result<Arc<EventLog>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let before = opened.get(name);
        if let Some(log) = before.and_then(Weak::upgrade) {
            return Ok(log);
        }
        let begun = Instant::now();
        let log = loop {
            match EventLog::open(&directory.join(name), name, options(ingest)) {
                // Whoever had it here last may be closing it.
                Err(error)
                    if error.kind() == ErrorKind::Conflict
                        && before.is_some()
                        && begun.elapsed() < CLOSED_WITHIN =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                opened => break Arc::new(opened?),
            }
        };
        opened.insert(name.to_owned(), Arc::downgrade(&log));
        Ok(log)
    }

    fn intake(&self, name: &str) -> Option<Arc<Intake>> {
        let intakes = self.intakes.read().unwrap_or_else(PoisonError::into_inner);
        intakes.get(name).cloned()
    }

    /// The one that is prepared, or in use.
    fn known(&self, name: &str) -> Option<Arc<Intake>> {
        let prepared = self.prepared.read().unwrap_or_else(PoisonError::into_inner);
        let prepared = prepared.as_ref();
        let prepared = prepared.and_then(|prepared| prepared.intakes.get(name).cloned());
        prepared.or_else(|| self.intake(name))
    }

    /// The log of a place; none where it is no source that events are pushed to.
    ///
    /// # Errors
    /// Its log is not open here.
    pub(crate) fn of(&self, end: &End) -> Result<Option<Arc<EventLog>>> {
        let Place::Ingest(_) = &end.place else {
            return Ok(None);
        };
        let intake = self.known(&end.name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "no events are pushed to this source here",
            )
            .on("source", &end.name)
            .remedy("have `tributary run` do it with the file that names the source")
        })?;
        Ok(Some(Arc::clone(intake.log())))
    }
}

fn options(ingest: &Ingest) -> LogOptions {
    LogOptions {
        retention: ingest.retention,
        largest: ingest.largest_log,
    }
}

#[async_trait]
impl Ingests for Logs {
    fn admit(&self, name: &str, headers: &HeaderMap) -> Option<Admitted> {
        let intakes = self.intakes.read().unwrap_or_else(PoisonError::into_inner);
        let own = intakes.get(name).filter(|own| own.wants_key());
        if let Some(own) = own.filter(|own| own.admits(headers)) {
            return Some(Admitted {
                largest: own.largest_request(),
                is_proven: true,
            });
        }
        // Whether there is a source of that name is not to be told by how much of a body is read.
        let by_body = intakes.values().filter(|intake| !intake.wants_key());
        let largest = by_body.map(|intake| intake.largest_request()).max();
        largest
            .filter(|_| Intake::is_signed(headers))
            .map(|largest| Admitted {
                largest,
                is_proven: false,
            })
    }

    async fn take(&self, name: &str, headers: &HeaderMap, body: Bytes) -> Result<Taken, Refusal> {
        let intake = self.intake(name).ok_or(Refusal::Unauthenticated)?;
        match intake.take(headers, body).await {
            Ok(appended) => Ok(Taken {
                accepted: appended.accepted,
                duplicates: appended.duplicates,
            }),
            Err(refused) => Err(match refused {
                Refused::Unauthenticated => Refusal::Unauthenticated,
                Refused::TooLarge(largest) => Refusal::TooLarge(largest),
                Refused::UnknownForm => Refusal::UnknownForm,
                Refused::Wrong(faults) => {
                    let faults = faults.into_iter().map(|fault| (fault.index, fault.what));
                    Refusal::Wrong(faults.collect())
                }
                Refused::Full(error) => Refusal::Full(error),
                Refused::Failed(error) => Refusal::Failed(error),
            }),
        }
    }
}

/// Has each table begin where its collection does in the log, and not with the present.
pub(crate) struct FromBeginnings<F> {
    pub(crate) log: Arc<EventLog>,
    pub(crate) loading: Loading,
    /// Makes what loads a table.
    pub(crate) sink: F,
}

#[async_trait]
impl<F: Fn(Loading) -> FileSink + Send + Sync> LoadSink for FromBeginnings<F> {
    async fn open(&self, source: &str, collection: &CollectionInfo) -> Result<Opened> {
        let beginning = self.log.beginning(&collection.namespace).await?;
        let mut loading = Loading {
            position: beginning.position,
            ..self.loading.clone()
        };
        if let Some(from) = beginning.lacking {
            loading.lacking.insert(collection.namespace.clone(), from);
        }
        (self.sink)(loading).open(source, collection).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources: by whether they have a key and a secret for signatures, and their largest request.
    fn ingests(sources: &[(&str, bool, bool, usize)]) -> Vec<(String, Ingest)> {
        let sources = sources.iter().map(|(name, has_key, has_secret, largest)| {
            let ingest = Ingest {
                key: has_key.then(|| "the-key".into()),
                hmac: has_secret.then(|| "the-secret".into()),
                retention: Duration::from_secs(60),
                largest_log: None,
                largest_request: *largest,
            };
            ((*name).to_owned(), ingest)
        });
        sources.collect()
    }

    /// With these sources in use.
    fn logs(directory: &Path, sources: &[(&str, bool, bool, usize)]) -> Logs {
        let logs = Logs::default();
        let prepared = logs.open(directory, &ingests(sources)).unwrap();
        *logs.preparing() = Some(prepared);
        logs.take_into_use();
        logs
    }

    fn headers(key: Option<&str>, is_signed: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert("x-api-key", key.parse().unwrap());
        }
        if is_signed {
            headers.insert("x-signature-256", "sha256=00".parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_looked_at_before_the_body_also_where_that_is_signed() {
        let directory = tempfile::tempdir().unwrap();
        let logs = logs(directory.path(), &[("both", true, true, 10)]);
        let admit = |key, is_signed| logs.admit("both", &headers(key, is_signed));
        assert_eq!(admit(None, true), None);
        assert_eq!(admit(Some("wrong"), true), None);
        assert_eq!(admit(Some("the-key"), false), None);
        let proven = Admitted {
            largest: 10,
            is_proven: true,
        };
        assert_eq!(admit(Some("the-key"), true), Some(proven));
    }

    #[test]
    fn what_only_a_body_can_prove_is_read_alike_for_all_sources() {
        let directory = tempfile::tempdir().unwrap();
        let sources = [
            ("both", true, true, 10),
            ("signed", false, true, 20),
            ("keyed", true, false, 30),
        ];
        let logs = logs(directory.path(), &sources);
        let unproven = Admitted {
            largest: 20,
            is_proven: false,
        };
        for name in ["both", "signed", "keyed", "none"] {
            let admit = |key, is_signed| logs.admit(name, &headers(key, is_signed));
            assert_eq!(admit(None, true), Some(unproven), "{name}");
            assert_eq!(admit(Some("wrong"), false), None, "{name}");
        }
        let keyed = logs
            .admit("keyed", &headers(Some("the-key"), true))
            .unwrap();
        assert_eq!((keyed.largest, keyed.is_proven), (30, true));
    }

    #[test]
    fn a_log_that_is_still_read_is_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let sources = [("s", true, false, 10)];
        let known = logs(directory.path(), &sources);
        let read = Arc::clone(known.intake("s").unwrap().log());
        let become_these = |sources: &[(String, Ingest)]| {
            *known.preparing() = Some(known.open(directory.path(), sources).unwrap());
            known.take_into_use();
        };
        become_these(&[]);
        assert!(known.intake("s").is_none());
        become_these(&ingests(&sources));
        assert!(Arc::ptr_eq(known.intake("s").unwrap().log(), &read));
    }

    #[test]
    fn what_is_prepared_is_found_and_not_pushed_to() {
        let directory = tempfile::tempdir().unwrap();
        let known = logs(directory.path(), &[("s", true, false, 10)]);
        let prepare = |name| {
            let sources = ingests(&[(name, true, false, 10)]);
            *known.preparing() = Some(known.open(directory.path(), &sources).unwrap());
        };
        prepare("t");
        assert!(known.known("s").is_some() && known.known("t").is_some());
        assert!(known.intake("s").is_some() && known.intake("t").is_none());
        known.leave();
        assert!(known.known("s").is_some() && known.known("t").is_none());
        prepare("t");
        known.take_into_use();
        assert!(known.intake("s").is_none() && known.intake("t").is_some());
    }
}
