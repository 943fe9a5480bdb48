//! How long it takes to call a function that does next to nothing, for a change event of ten fields.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bson::oid::ObjectId;
use bson::{Bson, DateTime, Timestamp, doc};
use bytes::Bytes;
use tributary_functions::script::{Call, Isolate, Limits, Program, Source};
use tributary_functions::services::{ServiceCall, ServiceError, ServiceScope, Services};

struct Nothing;

impl Services for Nothing {
    fn scope(&self, _run: u64) -> Arc<dyn ServiceScope> {
        Arc::new(Self)
    }
}

#[async_trait]
impl ServiceScope for Nothing {
    async fn call(&self, call: ServiceCall) -> Result<Bytes, ServiceError> {
        Err(ServiceError {
            name: "Error".to_owned(),
            message: format!("nobody does {}", call.operation),
            code: None,
            labels: Vec::new(),
            is_transient: false,
        })
    }
}

fn event() -> bson::Document {
    let id = ObjectId::new();
    doc! {
        "_id": { "_data": "8265A1B2C3000000012B0229296E04" },
        "operationType": "insert",
        "clusterTime": Bson::Timestamp(Timestamp { time: 1_700_000_000, increment: 1 }),
        "wallTime": DateTime::now(),
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": id },
        "fullDocument": {
            "_id": id, "number": 17, "price": 19.99, "customer": "Ada", "city": "London",
            "paid": true, "at": DateTime::now(), "total": 5_000_000_000_i64, "tags": ["a", "b"], "note": null,
        },
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let function = |name: &str, text: &str| {
        let source = Source {
            file: format!("functions/{name}.js"),
            text: text.into(),
        };
        (name.to_owned(), source)
    };
    let program = Program {
        functions: BTreeMap::from([function(
            "adds",
            "exports = function (event) {
               const document = event.fullDocument;
               document.total = document.price * document.number;
               document.seen = true;
               return document;
             };",
        )]),
        ..Program::default()
    };
    let isolate = Isolate::start(
        Arc::new(program),
        Limits::default(),
        Arc::new(Nothing),
        runtime.handle().clone(),
    )?;
    let arguments = Bytes::from(doc! { "v": [event()] }.to_vec()?);
    let mut took = Vec::new();
    for batch in [1, 500] {
        let calls = vec![
            Call {
                function: "adds".to_owned(),
                arguments: arguments.clone(),
                request: None,
                run: 0,
            };
            batch
        ];
        let rounds = 20_000 / batch;
        // The first round loads the function.
        for _ in 0..2 {
            let began = Instant::now();
            for _ in 0..rounds {
                let outcomes = runtime.block_on(isolate.run_in_order(calls.clone()));
                if let Some(Err(failure)) = outcomes.last().map(|outcome| &outcome.result) {
                    return Err(failure.message.clone().into());
                }
            }
            took.push(began.elapsed().as_secs_f64() * 1e6 / (rounds * batch) as f64);
        }
    }
    if let [_, alone, _, together] = took[..] {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{{\"alone\":{alone},\"together\":{together}}}")?;
    }
    Ok(())
}
