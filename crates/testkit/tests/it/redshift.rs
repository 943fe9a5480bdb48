//! The stand-in for Amazon Redshift takes what Redshift takes, and refuses what it refuses.

mod definitions;
mod loading;
mod sessions;
mod transactions;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Field, Schema},
};
use object_store::{ObjectStoreExt, path::Path};
use parquet::arrow::ArrowWriter;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};
use tributary_testkit::{
    Postgres, Redshift, RedshiftBuilder, S3Server, SharedPostgres, unique_name,
};

/// The role that may read the bucket of each test.
const ROLE: &str = "arn:aws:iam::123456789012:role/loader";

/// A stand-in with a database and a bucket of its own.
struct World {
    redshift: Redshift,
    postgres: SharedPostgres,
    database: String,
    s3: S3Server,
    bucket: String,
}

impl World {
    async fn start() -> Self {
        Self::start_with(|builder, _| builder).await
    }

    /// `more` is told the bucket.
    async fn start_with(more: impl FnOnce(RedshiftBuilder, &str) -> RedshiftBuilder) -> Self {
        let (postgres, s3) = tokio::try_join!(Postgres::shared(), S3Server::shared()).unwrap();
        let (database, bucket) = (unique_name("redshift"), unique_name("redshift"));
        postgres.create_database(&database).await.unwrap();
        s3.create_bucket(&bucket).await.unwrap();
        let builder = Redshift::builder()
            .postgres(&postgres.uri_for(&database))
            .s3_endpoint(s3.endpoint())
            .role(ROLE, &[&bucket]);
        let redshift = more(builder, &bucket).start().await.unwrap();
        Self {
            redshift,
            postgres,
            database,
            s3,
            bucket,
        }
    }

    async fn connect(&self) -> Client {
        connect(&self.redshift.uri()).await.unwrap()
    }

    /// A client of the PostgreSQL behind it.
    async fn behind(&self) -> Client {
        self.postgres.client(&self.database).await.unwrap()
    }

    /// Writes a Parquet file of these columns.
    async fn put(&self, key: &str, columns: &[(&str, ArrayRef)]) {
        self.put_bytes(key, parquet(columns)).await;
    }

    async fn put_bytes(&self, key: &str, content: Vec<u8>) {
        let url = format!("s3://{}", self.bucket).parse().unwrap();
        let (store, _) = object_store::parse_url_opts(&url, self.s3.env()).unwrap();
        store.put(&Path::from(key), content.into()).await.unwrap();
    }

    /// A `COPY` into `t` of what begins with `prefix`.
    fn copy(&self, prefix: &str) -> String {
        format!(
            "COPY t FROM 's3://{}/{prefix}' IAM_ROLE '{ROLE}' FORMAT AS PARQUET SERIALIZETOJSON",
            self.bucket
        )
    }

    async fn finish(self) {
        drop(self.redshift);
        self.postgres.drop_database(&self.database).await.unwrap();
    }
}

async fn connect(uri: &str) -> Result<Client, Error> {
    let uri = uri.replacen("redshift://", "postgresql://", 1);
    let (client, connection) = tokio_postgres::connect(&uri, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn parquet(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.iter().map(|(_, array)| Arc::clone(array)).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// The rows of a simple query; null is `NULL`.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).await.unwrap();
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|at| row.get(at).unwrap_or("NULL").to_owned())
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

/// The one value of a simple query.
async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await.remove(0).remove(0)
}

/// SQLSTATE and message of what is refused.
async fn refused(client: &Client, sql: &str) -> (String, String) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error = error.as_db_error().expect(sql);
    (error.code().code().to_owned(), error.message().to_owned())
}

/// Runs statements one by one.
async fn run(client: &Client, statements: &[&str]) {
    for statement in statements {
        let done = client.batch_execute(statement).await;
        let error = done.as_ref().err().map(Error::as_db_error);
        assert!(done.is_ok(), "{statement}: {error:?}");
    }
}

/// Each is refused with a message that contains the text.
async fn all_refused(client: &Client, table: &[(&str, &str, &str)]) {
    for (sql, code, message) in table {
        let (found_code, found) = refused(client, sql).await;
        assert!(
            found_code == *code && found.contains(message),
            "{sql}: {found_code} {found}"
        );
    }
}
