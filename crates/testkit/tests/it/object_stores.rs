use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, path::Path};
use tributary_testkit::{AzuriteServer, S3Server, unique_name};

use crate::is_running;

/// What a table format needs of a store: read what was written, list it, and create only if absent.
async fn check(store: &dyn ObjectStore) {
    let path = Path::from("table/_delta_log/0.json");
    store
        .put(&path, Bytes::from_static(b"first").into())
        .await
        .unwrap();
    assert_eq!(
        store
            .get(&path)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
            .as_ref(),
        b"first"
    );
    let prefix = Path::from("table");
    let listed = store.list_with_delimiter(Some(&prefix)).await.unwrap();
    assert_eq!(listed.common_prefixes, [Path::from("table/_delta_log")]);
    let again = store
        .put_opts(&path, Bytes::new().into(), PutMode::Create.into())
        .await;
    assert!(
        matches!(again, Err(object_store::Error::AlreadyExists { .. })),
        "{again:?}"
    );
    store.delete(&path).await.unwrap();
    assert!(store.get(&path).await.is_err());
}

/// The store at `url`, reached with nothing but a server's variables.
async fn check_with(url: &str, variables: Vec<(String, String)>) {
    let url = url.parse().unwrap();
    let (store, _) = object_store::parse_url_opts(&url, variables).unwrap();
    check(&store).await;
}

#[tokio::test]
async fn an_s3_server_works_with_its_variables_and_is_gone_when_dropped() {
    let server = S3Server::start().await.unwrap();
    let pid = server.pid().unwrap();
    server.create_bucket("bucket").await.unwrap();
    check_with("s3://bucket", server.env()).await;
    drop(server);
    assert!(!is_running(pid));
}

#[tokio::test]
async fn an_azure_server_works_with_its_variables_and_is_gone_when_dropped() {
    let server = AzuriteServer::start().await.unwrap();
    let pid = server.pid().unwrap();
    server.create_container("container").await.unwrap();
    check_with("az://container", server.env()).await;
    drop(server);
    assert!(!is_running(pid));
}

#[tokio::test]
async fn shared_object_stores_take_buckets_with_unique_names() {
    let (s3, azure) = tokio::try_join!(S3Server::shared(), AzuriteServer::shared()).unwrap();
    let name = unique_name("shared");
    s3.create_bucket(&name).await.unwrap();
    azure.create_container(&name).await.unwrap();
    azure
        .create_container(&name)
        .await
        .expect_err("the container is there already");
}
