//! What functions reach, as they call it.

use std::sync::Arc;

use bson::{Bson, Document};
use tributary_functions::services::{
    OutboundRules, Reach, ReachSettings, ServiceCall, ServiceError, ServiceScope, ServiceSettings,
    Services as _,
};

mod aws;
mod documents;
mod http;
mod messages;

/// One run that reaches these services, and this machine by HTTP.
fn run<const N: usize>(services: [(&str, ServiceSettings); N]) -> Arc<dyn ServiceScope> {
    let settings = ReachSettings {
        services: services
            .into_iter()
            .map(|(name, settings)| (name.to_owned(), settings))
            .collect(),
        outbound: OutboundRules::parse(&["127.0.0.1".to_owned()]).unwrap(),
        ..ReachSettings::default()
    };
    Reach::new(settings).unwrap().scope(0)
}

/// Calls `<service>/<operation>`.
async fn call(
    run: &Arc<dyn ServiceScope>,
    what: &str,
    arguments: Document,
) -> Result<Bson, ServiceError> {
    let (service, operation) = what.split_once('/').unwrap();
    let call = ServiceCall {
        service: service.to_owned(),
        operation: operation.to_owned(),
        arguments: arguments.to_vec().unwrap().into(),
    };
    let result = run.call(call).await?;
    let mut result = Document::from_reader(result.as_ref()).unwrap();
    Ok(result.remove("v").unwrap())
}

/// The same, where the answer is a document.
async fn document(run: &Arc<dyn ServiceScope>, what: &str, arguments: Document) -> Document {
    match call(run, what, arguments).await.unwrap() {
        Bson::Document(document) => document,
        other => panic!("no document: {other}"),
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named_with_those_that_are() {
    let run = run([
        ("hub", ServiceSettings::GitHub),
        ("web", ServiceSettings::Http),
    ]);
    let error = call(&run, "none/get", Document::new()).await.unwrap_err();
    assert!(
        error
            .message
            .contains("no service `none`: there are hub, web"),
        "{error:?}"
    );
    let error = call(&run, "hub/get", Document::new()).await.unwrap_err();
    assert!(error.message.contains("only calls functions"), "{error:?}");
    let deep = (0..200).fold(Bson::Null, |inner, _| Bson::Array(vec![inner]));
    let error = call(&run, "web/get", bson::doc! { "args": { "url": deep } });
    let error = error.await.unwrap_err();
    assert!(
        error.message.contains("deeper than 128 levels"),
        "{error:?}"
    );
}
