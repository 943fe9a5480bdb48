//! What functions reach: deployments, and services as applications and the file have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_flow::{DocumentStore, EventSource};
use tributary_functions::app::{self, ServiceKind};
use tributary_functions::services::{
    AwsSettings, FCM, OutboundRules, PushCredentials, PushSettings, ServiceSettings, TWILIO,
    TwilioSettings,
};
use tributary_ingest::IngestEvents;
use tributary_model::{Error, ErrorKind, Result};
use tributary_mongo::{Connection, MongoDocuments, MongoEvents};
use tributary_orchestrator::config::{self, End, Place};

use crate::address;
use crate::engine::arguments::read_preference;
use crate::ingest::Logs;

/// Deployments, each connected to once, and logs of pushed events.
#[derive(Default)]
pub(super) struct Deployments {
    connections: BTreeMap<String, Connection>,
    events: BTreeMap<String, Arc<dyn EventSource>>,
    logs: Arc<Logs>,
}

impl Deployments {
    /// None is connected to yet.
    pub(super) fn new(logs: Arc<Logs>) -> Self {
        Self {
            logs,
            ..Self::default()
        }
    }

    async fn connection(&mut self, end: &End) -> Result<Connection> {
        if let Some(connection) = self.connections.get(&end.name) {
            return Ok(connection.clone());
        }
        let Place::Source(source) = &end.place else {
            return Err(Error::new(
                ErrorKind::Usage,
                "the source is no deployment whose documents functions could read",
            )
            .on("source", &end.name)
            .remedy(
                "name a source with `uri` for the functions, and this one for triggers alone",
            ));
        };
        let uri = address(source.uri.as_str())?;
        let connection = Connection::open(
            &uri,
            source
                .read_preference
                .map(|preference| read_preference(preference).into()),
        )
        .await?;
        self.connections
            .insert(end.name.clone(), connection.clone());
        Ok(connection)
    }

    pub(super) async fn documents(&mut self, end: &End) -> Result<Arc<dyn DocumentStore>> {
        Ok(Arc::new(MongoDocuments::new(self.connection(end).await?)))
    }

    /// The events of a source, the same for all that want them: who shares it can share a stream.
    pub(super) async fn events(&mut self, end: &End) -> Result<Arc<dyn EventSource>> {
        if let Some(events) = self.events.get(&end.name) {
            return Ok(Arc::clone(events));
        }
        let events: Arc<dyn EventSource> = match self.logs.of(end)? {
            Some(log) => Arc::new(IngestEvents::new(log)),
            None => Arc::new(MongoEvents::new(self.connection(end).await?)),
        };
        self.events.insert(end.name.clone(), Arc::clone(&events));
        Ok(events)
    }
}

/// The source that a data source of an application stands for.
pub(super) fn source_of<'a>(app: &'a config::App, service: &str) -> Option<&'a End> {
    app.data_sources.get(service).or(app.source.as_ref())
}

pub(super) fn no_source(app: &config::App, service: &str) -> Error {
    Error::new(
        ErrorKind::Usage,
        "it is not said which source a data source of the application stands for",
    )
    .on("app", &app.name)
    .on("data source", service)
    .remedy("name a source with `source`, or one for each data source under `data_sources`")
}

pub(super) fn outbound(reach: &config::Reach) -> Result<OutboundRules> {
    match &reach.allow_hosts {
        Some(hosts) => OutboundRules::parse(hosts),
        None => Ok(OutboundRules::default()),
    }
}

/// A service that is no database.
pub(super) fn other_service(
    service: &app::Service,
    reach: &config::Reach,
) -> Result<ServiceSettings> {
    let text = |name: &str| {
        let setting = service.settings.get(name)?;
        setting.as_str().map(str::to_owned)
    };
    let secret = |name: &str| service.secrets.get(name).cloned();
    let needed = |name: &str| {
        secret(name).ok_or_else(|| {
            Error::new(ErrorKind::Usage, "a service lacks a secret")
                .on("service", &service.name)
                .on("setting", name)
                .remedy("name a secret for it under `secret_config`")
        })
    };
    Ok(match service.kind {
        ServiceKind::Aws => ServiceSettings::Aws(AwsSettings {
            region: reach.aws_region.clone().or_else(|| text("region")),
            access_key_id: text("accessKeyId"),
            secret_access_key: secret("secretAccessKey"),
            session_token: secret("sessionToken"),
            endpoint: reach.aws_endpoint.clone(),
            role_arn: text("roleArn"),
        }),
        ServiceKind::Twilio => ServiceSettings::Twilio(TwilioSettings {
            account_sid: text("sid").unwrap_or_default(),
            auth_token: needed("auth_token")?,
            base_url: text("baseUrl").unwrap_or_else(|| TWILIO.to_owned()),
        }),
        ServiceKind::Push => ServiceSettings::Push(PushSettings {
            credentials: match secret("serviceAccount") {
                Some(account) => PushCredentials::ServiceAccount(account),
                None => PushCredentials::ServerKey(needed("apiKey")?),
            },
            base_url: text("baseUrl").unwrap_or_else(|| FCM.to_owned()),
        }),
        ServiceKind::GitHub => ServiceSettings::GitHub,
        ServiceKind::Http | ServiceKind::MongoDb => ServiceSettings::Http,
    })
}

/// Whether a source has documents, and not only events that are pushed.
pub(super) fn is_deployment(end: &End) -> bool {
    matches!(end.place, Place::Source(_))
}
