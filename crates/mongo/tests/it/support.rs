//! A database of one's own.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use tributary_mongo::{Connection, MongoDocuments, MongoEvents};
use tributary_testkit::{Mongod, SharedMongod, unique_name};

/// Nothing is waited for longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Fixture {
    pub(crate) mongod: SharedMongod,
    pub(crate) name: String,
    pub(crate) database: Database,
}

impl Fixture {
    pub(crate) async fn new(name: &str) -> Self {
        let mongod = Mongod::shared().await.expect("a mongod");
        let name = unique_name(name);
        let database = mongod.client().await.expect("a client").database(&name);
        Self {
            mongod,
            name,
            database,
        }
    }

    pub(crate) fn collection(&self, name: &str) -> mongodb::Collection<Document> {
        self.database.collection(name)
    }

    pub(crate) async fn insert(&self, collection: &str, documents: Vec<Document>) {
        let collection = self.collection(collection);
        collection.insert_many(documents).await.expect("inserted");
    }

    pub(crate) async fn all(&self, collection: &str) -> Vec<Document> {
        let collection = self.collection(collection);
        let found = collection.find(doc! {}).sort(doc! { "_id": 1 });
        found.await.unwrap().try_collect().await.unwrap()
    }

    pub(crate) async fn connection(&self) -> Connection {
        let uri = self.mongod.uri_for(&self.name);
        Connection::open(&uri, None).await.expect("a connection")
    }

    pub(crate) async fn documents(&self) -> MongoDocuments {
        MongoDocuments::new(self.connection().await)
    }

    pub(crate) async fn events(&self) -> MongoEvents {
        MongoEvents::new(self.connection().await)
    }

    /// How many cursors of this database the server holds.
    pub(crate) async fn open_cursors(&self) -> usize {
        let admin = self.database.client().database("admin");
        let pipeline = [
            doc! { "$currentOp": { "allUsers": true, "idleCursors": true } },
            doc! { "$match": { "type": "idleCursor", "ns": { "$regex": format!("^{}\\.", self.name) } } },
        ];
        let found = admin.aggregate(pipeline).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        found.len()
    }

    /// Writes to a document, which waits for the transaction that has written to it before.
    pub(crate) async fn write_over(&self, collection: &str, id: i32) {
        let collection = self.collection(collection);
        let update = collection
            .update_one(doc! { "_id": id }, doc! { "$inc": { "written": 1 } })
            .upsert(true);
        // A transaction that nobody aborts lasts a minute.
        tokio::time::timeout(Duration::from_secs(20), update.into_future())
            .await
            .expect("a transaction is still open")
            .expect("written");
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A whole number of any type.
#[track_caller]
pub(crate) fn number(value: &Bson) -> i64 {
    match value {
        Bson::Int32(number) => i64::from(*number),
        Bson::Int64(number) => *number,
        other => panic!("{other} is no whole number"),
    }
}
