//! The sources that events are pushed to: their logs, below the state, and who may push.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

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

/// The logs of all sources that events are pushed to, by the names of these.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    intakes: RwLock<BTreeMap<String, Arc<Intake>>>,
}

impl Logs {
    /// Takes what a plan says of such sources into use. Logs that are open stay open; nothing changes where one
    /// cannot be opened.
    pub(crate) async fn become_these(self: &Arc<Self>, plan: &Plan) -> Result<()> {
        let logs = Arc::clone(self);
        let directory = plan.state.join(DIRECTORY);
        let sources = plan.places.iter().filter_map(|(name, place)| match place {
            Place::Ingest(ingest) => Some((name.clone(), ingest.clone())),
            _ => None,
        });
        let sources: Vec<(String, Ingest)> = sources.collect();
        // Opening files blocks.
        tokio::task::spawn_blocking(move || logs.open(&directory, &sources))
            .await
            .map_err(|panic| {
                Error::new(ErrorKind::Internal, "opening logs of events ended early").because(panic)
            })?
    }

    fn open(&self, directory: &Path, sources: &[(String, Ingest)]) -> Result<()> {
        let mut intakes = BTreeMap::new();
        for (name, ingest) in sources {
            let access = Access::new(
                ingest.key.as_ref().map(|key| key.as_str()),
                ingest.hmac.as_ref().map(|secret| secret.as_str()),
            )
            .map_err(|error| error.on("source", name))?;
            let log = match self.intake(name) {
                Some(known) => Arc::clone(known.log()),
                None => {
                    let directory = directory.join(name);
                    Arc::new(EventLog::open(&directory, name, options(ingest))?)
                }
            };
            let intake = Intake::new(log, access, ingest.largest_request);
            intakes.insert(name.clone(), Arc::new(intake));
        }
        for (name, ingest) in sources {
            if let Some(intake) = intakes.get(name) {
                intake.log().set_options(options(ingest));
            }
        }
        *self.intakes.write().unwrap_or_else(PoisonError::into_inner) = intakes;
        Ok(())
    }

    fn intake(&self, name: &str) -> Option<Arc<Intake>> {
        let intakes = self.intakes.read().unwrap_or_else(PoisonError::into_inner);
        intakes.get(name).cloned()
    }

    /// The log of a place; none where it is no source that events are pushed to.
    ///
    /// # Errors
    /// Its log is not open here.
    pub(crate) fn of(&self, end: &End) -> Result<Option<Arc<EventLog>>> {
        let Place::Ingest(_) = &end.place else {
            return Ok(None);
        };
        let intake = self.intake(&end.name).ok_or_else(|| {
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
    use std::time::Duration;

    use super::*;

    /// Which sources there are: by whether they have a key and a secret for signatures, and their largest request.
    fn logs(directory: &Path, sources: &[(&str, bool, bool, usize)]) -> Logs {
        let logs = Logs::default();
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
        logs.open(directory, &sources.collect::<Vec<_>>()).unwrap();
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
}
