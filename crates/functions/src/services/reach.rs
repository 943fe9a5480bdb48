//! Services as the configuration has them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tributary_flow::{DocumentScope, DocumentStore};
use tributary_model::Result;

use super::aws::{AwsClient, AwsSettings};
use super::outbound::{OutboundRules, SystemResolver};
use super::push::{self, PushSettings, Tokens};
use super::twilio::{self, TwilioSettings};
use super::web::{HttpLimits, Web};
use super::{ServiceCall, ServiceError, ServiceScope, Services, arguments, http, mongodb};

/// What an application's functions reach.
#[derive(Debug, Clone, Default)]
pub struct ReachSettings {
    /// Its services, by their names.
    pub services: BTreeMap<String, ServiceSettings>,
    /// Where `http` and `context.http` may ask.
    pub outbound: OutboundRules,
    /// What a request may take.
    pub limits: HttpLimits,
}

/// One service.
#[derive(Clone)]
pub enum ServiceSettings {
    /// The documents of a deployment.
    MongoDb(Arc<dyn DocumentStore>),
    /// Amazon's services.
    Aws(AwsSettings),
    /// Requests over HTTP, to where the rules allow.
    Http,
    /// Text messages and calls.
    Twilio(TwilioSettings),
    /// Webhooks from GitHub. Atlas has nothing that functions could have it do.
    GitHub,
    /// Push notifications.
    Push(PushSettings),
}

impl fmt::Debug for ServiceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MongoDb(store) => f.debug_tuple("MongoDb").field(&store.place()).finish(),
            Self::Aws(settings) => f.debug_tuple("Aws").field(settings).finish(),
            Self::Http => f.write_str("Http"),
            Self::Twilio(settings) => f.debug_tuple("Twilio").field(settings).finish(),
            Self::GitHub => f.write_str("GitHub"),
            Self::Push(settings) => f.debug_tuple("Push").field(settings).finish(),
        }
    }
}

/// All services of an application, as [`ReachSettings`] has them.
pub struct Reach {
    shared: Arc<Shared>,
}

struct Shared {
    services: BTreeMap<String, Service>,
    /// For what functions name.
    web: Web,
    /// For what the configuration names.
    unrestricted: Web,
}

enum Service {
    MongoDb(Arc<dyn DocumentStore>),
    Aws(Box<AwsClient>),
    Http,
    Twilio(TwilioSettings),
    GitHub,
    Push(PushSettings, Tokens),
}

impl Reach {
    /// Sets the services up. None of them is asked for anything yet.
    ///
    /// # Errors
    /// `Internal`: TLS cannot be set up.
    pub fn new(settings: ReachSettings) -> Result<Self> {
        let ReachSettings {
            services,
            outbound,
            limits,
        } = settings;
        let ready = |settings| {
            Ok(match settings {
                ServiceSettings::MongoDb(store) => Service::MongoDb(store),
                ServiceSettings::Aws(settings) => {
                    Service::Aws(Box::new(AwsClient::new(settings, limits)?))
                }
                ServiceSettings::Http => Service::Http,
                ServiceSettings::Twilio(settings) => Service::Twilio(settings),
                ServiceSettings::GitHub => Service::GitHub,
                ServiceSettings::Push(settings) => Service::Push(settings, Tokens::default()),
            })
        };
        let services = services
            .into_iter()
            .map(|(name, settings)| Ok((name, ready(settings)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            shared: Arc::new(Shared {
                services,
                web: Web::guarded(Arc::new(outbound), Arc::new(SystemResolver), limits)?,
                unrestricted: Web::unrestricted(limits)?,
            }),
        })
    }
}

impl Services for Reach {
    fn scope(&self, _run: u64) -> Arc<dyn ServiceScope> {
        Arc::new(Scope {
            shared: Arc::clone(&self.shared),
            documents: Mutex::new(HashMap::new()),
        })
    }
}

/// The services, to one run.
struct Scope {
    shared: Arc<Shared>,
    /// By the name of the service: made when first needed, and closed with the run.
    documents: Mutex<HashMap<String, Arc<dyn DocumentScope>>>,
}

impl Scope {
    fn documents(&self, name: &str, store: &Arc<dyn DocumentStore>) -> Arc<dyn DocumentScope> {
        let mut documents = self
            .documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = documents.entry(name.to_owned());
        Arc::clone(known.or_insert_with(|| store.scope()))
    }
}

/// The name under which `context.http` is called.
const CONTEXT_HTTP: &str = "";

#[async_trait]
impl ServiceScope for Scope {
    async fn call(&self, call: ServiceCall) -> Result<Bytes, ServiceError> {
        let shared = &*self.shared;
        let operation = &call.operation;
        let args = || arguments::args(arguments::read(&call.arguments)?);
        match shared.services.get(&call.service) {
            Some(Service::MongoDb(store)) => {
                let scope = self.documents(&call.service, store);
                mongodb::call(&*scope, call).await
            }
            Some(Service::Aws(client)) => {
                let given = arguments::read(&call.arguments)?;
                let region = arguments::text(&given, "region")?.map(str::to_owned);
                let args = arguments::args(given)?;
                arguments::result(client.call(operation, region.as_deref(), &args).await?)
            }
            Some(Service::Http) => {
                arguments::result(http::call(&shared.web, operation, &args()?).await?)
            }
            None if call.service == CONTEXT_HTTP => {
                arguments::result(http::call(&shared.web, operation, &args()?).await?)
            }
            Some(Service::Twilio(settings)) => {
                let web = &shared.unrestricted;
                arguments::result(twilio::call(web, settings, operation, &args()?).await?)
            }
            Some(Service::Push(settings, tokens)) => {
                let web = &shared.unrestricted;
                arguments::result(push::call(web, settings, tokens, operation, &args()?).await?)
            }
            Some(Service::GitHub) => Err(ServiceError::of_arguments(format!(
                "github has no `{operation}`: it only calls functions, by webhooks"
            ))),
            None => {
                let known: Vec<&str> = shared.services.keys().map(String::as_str).collect();
                Err(ServiceError::of_arguments(format!(
                    "there is no service `{}`: there are {}",
                    call.service,
                    if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    }
                )))
            }
        }
    }
}
