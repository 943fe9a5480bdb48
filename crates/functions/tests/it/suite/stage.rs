//! An application, and the servers that its functions reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bson::{Bson, Document};
use bytes::Bytes;
use mongodb::Client;
use serde_json::Value;
use tokio::runtime::Handle;
use tributary_functions::app::{App, AppSettings, Function, Service, ServiceKind};
use tributary_functions::script::{Call, Isolate, Limits, Outcome, Program, Source};
use tributary_functions::services::{
    AwsClient, AwsSettings, HttpLimits, OutboundRules, PushCredentials, PushSettings, Reach,
    ReachSettings, ServiceSettings, Services, TwilioSettings,
};
use tributary_mongo::{Connection, MongoDocuments};
use tributary_testkit::{HttpReceiver, Mongod, ReceivedRequest, S3Server};

use super::table::{Row, document, matches};

/// The AWS service of this name is at the receiver, for what the stand-in for AWS does not do by itself.
const COMPUTE: &str = "compute";

/// An application that runs, with what became of it.
pub(super) struct Stage {
    pub(super) app: App,
    pub(super) receiver: HttpReceiver,
    pub(super) aws: S3Server,
    /// The functions that were called.
    pub(super) ran: BTreeSet<String>,
    /// What was not as expected.
    pub(super) wrong: Vec<String>,
    mongod: Mongod,
    program: Arc<Program>,
    services: Arc<dyn Services>,
    isolate: Isolate,
    runs: AtomicU64,
}

impl Stage {
    /// Reads an application and starts all that it needs. Its secrets are these, and the addresses of what was
    /// started: `receiver_url` and `queue_url`.
    pub(super) async fn start(app: &Path, environment: &str, secrets: &[(&str, &str)]) -> Self {
        Self::start_with(app, environment, secrets, &[]).await
    }

    /// The same, with further functions in these files.
    pub(super) async fn start_with(
        app: &Path,
        environment: &str,
        secrets: &[(&str, &str)],
        functions: &[(&str, &Path)],
    ) -> Self {
        let mongod = Mongod::start().await.unwrap();
        let aws = S3Server::start().await.unwrap();
        let receiver = HttpReceiver::start().await.unwrap();
        let queue = format!("{}/123456789012/orders", aws.endpoint());
        let secret = |name: &str| match name {
            "receiver_url" => Some(receiver.url()),
            "queue_url" => Some(queue.clone()),
            name => secrets
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.replace("{receiver}", &receiver.url())),
        };
        let mut app = App::read(
            app,
            &AppSettings {
                environment: environment.to_owned(),
                secret: &secret,
            },
        )
        .unwrap();
        for (name, file) in functions {
            let source = Source {
                file: file.display().to_string(),
                text: std::fs::read_to_string(file).unwrap().into(),
            };
            app.functions
                .insert((*name).to_owned(), Function::new(source));
        }
        let connection = Connection::open(&mongod.uri(), None).await.unwrap();
        let documents = Arc::new(MongoDocuments::new(connection));
        let settings = |service: &Service| match service.kind {
            ServiceKind::MongoDb => ServiceSettings::MongoDb(documents.clone()),
            ServiceKind::Aws => ServiceSettings::Aws(match service.name.as_str() {
                COMPUTE => aws_settings(service, &receiver.url()),
                _ => aws_settings(service, aws.endpoint()),
            }),
            ServiceKind::Http => ServiceSettings::Http,
            ServiceKind::GitHub => ServiceSettings::GitHub,
            ServiceKind::Twilio => ServiceSettings::Twilio(TwilioSettings {
                account_sid: text(service, "sid"),
                auth_token: service.secrets["auth_token"].as_str().into(),
                base_url: receiver.url(),
            }),
            ServiceKind::Push => ServiceSettings::Push(PushSettings {
                credentials: PushCredentials::ServerKey(service.secrets["apiKey"].as_str().into()),
                base_url: receiver.url(),
            }),
        };
        let services: BTreeMap<String, ServiceSettings> = app
            .services
            .values()
            .map(|service| (service.name.clone(), settings(service)))
            .collect();
        let reach = Reach::new(ReachSettings {
            services,
            outbound: OutboundRules::parse(&["127.0.0.1".to_owned()]).unwrap(),
            ..ReachSettings::default()
        });
        let services: Arc<dyn Services> = Arc::new(reach.unwrap());
        let program = Arc::new(app.program());
        let isolate = isolate(&program, Limits::default(), &services);
        Self {
            app,
            receiver,
            aws,
            ran: BTreeSet::new(),
            wrong: Vec::new(),
            mongod,
            program,
            services,
            isolate,
            runs: AtomicU64::new(0),
        }
    }

    /// Another thread for the same functions.
    pub(super) fn isolate(&self, limits: Limits) -> Isolate {
        isolate(&self.program, limits, &self.services)
    }

    /// A client of the server that the functions use.
    pub(super) async fn mongodb(&self) -> Client {
        self.mongod.client().await.unwrap()
    }

    /// A call with an array of Extended JSON.
    pub(super) fn a_call(&self, function: &str, arguments: &str) -> Call {
        Call {
            function: function.to_owned(),
            arguments: document(arguments).into(),
            request: None,
            run: self.runs.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Calls a function with an array of Extended JSON.
    pub(super) async fn call(&mut self, function: &str, arguments: &str) -> Outcome {
        let call = self.a_call(function, arguments);
        self.run(call).await
    }

    /// Calls a function with one document.
    pub(super) async fn call_with(&mut self, function: &str, argument: Document) -> Outcome {
        let arguments = bson::doc! { "v": [argument] }.to_vec().unwrap();
        let call = Call {
            arguments: Bytes::from(arguments),
            ..self.a_call(function, "[]")
        };
        self.run(call).await
    }

    pub(super) async fn run(&mut self, call: Call) -> Outcome {
        self.ran.insert(call.function.clone());
        self.isolate.run(call).await
    }

    /// Runs rows one after the other, and notes what is wrong.
    pub(super) async fn rows(&mut self, rows: &[Row]) {
        for row in rows {
            let outcome = self.call(row.function, row.arguments).await;
            self.note(row.judge(&outcome));
        }
    }

    /// Notes what is wrong, if something is.
    pub(super) fn note(&mut self, judgement: Result<(), String>) {
        self.wrong.extend(judgement.err());
    }

    /// Notes where two things are not the same.
    pub(super) fn expect<T: PartialEq + Debug>(&mut self, what: &str, actual: T, expected: T) {
        if actual != expected {
            self.note(Err(format!(
                "{what}: expected {expected:?}, came {actual:?}"
            )));
        }
    }

    /// Notes where a collection has not these documents, in the order of their ids.
    pub(super) async fn expect_documents(
        &mut self,
        database: &str,
        collection: &str,
        expected: &str,
    ) {
        let collection = self
            .mongodb()
            .await
            .database(database)
            .collection::<Document>(collection);
        let mut found = collection.find(bson::doc! {}).sort(bson::doc! { "_id": 1 });
        found = found.read_concern(mongodb::options::ReadConcern::majority());
        let mut cursor = found.await.unwrap();
        let mut documents = Vec::new();
        while cursor.advance().await.unwrap() {
            documents.push(Bson::Document(cursor.deserialize_current().unwrap()));
        }
        let found = Bson::Array(documents);
        let parsed: Value = serde_json::from_str(expected).unwrap();
        if !matches(&parsed, &found) {
            let found = found.into_canonical_extjson();
            self.note(Err(format!(
                "{database}.{}: expected {expected}, came {found}",
                collection.name()
            )));
        }
    }

    /// A row's call with an answer of the receiver; what the receiver got for it.
    pub(super) async fn row_answered(
        &mut self,
        row: Row,
        status: u16,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Vec<ReceivedRequest> {
        self.receiver.answer_with(status, headers, body);
        let before = self.receiver.requests().len();
        self.rows(&[row]).await;
        self.receiver.requests().split_off(before)
    }

    /// Has the stand-in for AWS do something, in JSON.
    pub(super) async fn aws(&self, service: &str, action: &str, body: Value) -> Value {
        let settings = AwsSettings {
            region: Some(text(&self.app.services["aws"], "region")),
            access_key_id: Some("testkit".to_owned()),
            secret_access_key: Some("hunter2".into()),
            endpoint: Some(self.aws.endpoint().to_owned()),
            ..AwsSettings::default()
        };
        let client = AwsClient::new(settings, HttpLimits::default()).unwrap();
        let answer = client.call_json(service, action, body).await;
        answer.unwrap_or_else(|error| panic!("{service}.{action}: {error}"))
    }

    /// The data of all records of a stream with one shard, in order, as text, with their partition keys.
    pub(super) async fn records(&self, stream: &str) -> Vec<(String, String)> {
        let shards = self
            .aws(
                "kinesis",
                "ListShards",
                serde_json::json!({ "StreamName": stream }),
            )
            .await;
        let iterator = serde_json::json!({
            "StreamName": stream,
            "ShardId": shards["Shards"][0]["ShardId"],
            "ShardIteratorType": "TRIM_HORIZON",
        });
        let iterator = self.aws("kinesis", "GetShardIterator", iterator).await;
        let get = serde_json::json!({ "ShardIterator": iterator["ShardIterator"] });
        let got = self.aws("kinesis", "GetRecords", get).await;
        let records = got["Records"].as_array().unwrap().iter();
        records
            .map(|record| {
                let text = |name: &str| record[name].as_str().unwrap().to_owned();
                (decoded(&text("Data")), text("PartitionKey"))
            })
            .collect()
    }
}

fn decoded(base64: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
    String::from_utf8(bytes.unwrap()).unwrap()
}

fn isolate(program: &Arc<Program>, limits: Limits, services: &Arc<dyn Services>) -> Isolate {
    Isolate::start(
        Arc::clone(program),
        limits,
        Arc::clone(services),
        Handle::current(),
    )
    .unwrap()
}

fn text(service: &Service, setting: &str) -> String {
    service.settings[setting].as_str().unwrap().to_owned()
}

/// Keys are only needed where the application has none, as the stand-in takes any.
fn aws_settings(service: &Service, endpoint: &str) -> AwsSettings {
    let key = service.secrets.get("secretAccessKey");
    AwsSettings {
        region: Some(text(service, "region")),
        access_key_id: Some("testkit".to_owned()),
        secret_access_key: Some(key.map_or("hunter2", |key| key.as_str()).into()),
        endpoint: Some(endpoint.to_owned()),
        ..AwsSettings::default()
    }
}
