//! What is to be known of a deployment whose changes are read.

use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ReadPreference, SelectionCriteria};
use tributary_flow::HistoryWindow;
use tributary_model::{ClusterTime, Error, ErrorKind, Position, Result};

use crate::connect::Connection;

/// What is known of the deployment since it was last asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(super) version: [i32; 3],
    /// The id of the replica set or the sharded cluster, where the user may read it.
    pub(crate) deployment: Option<String>,
}

impl Server {
    /// Whether it tells of more than documents, and keeps documents as they were before changes:
    /// version 6.0 and later.
    pub(crate) fn tells_more(&self) -> bool {
        self.version >= [6, 0, 0]
    }

    /// Whether it can split events that are too large.
    pub(super) fn splits_events(&self) -> bool {
        let of_6_0 = self.version[..2] == [6, 0] && self.version[2] >= 9;
        of_6_0 || self.version >= [7, 0, 0]
    }
}

/// The source is not the one whose changes have been followed so far.
pub(super) fn other_source(what: &str, connection: &Connection) -> Error {
    Error::new(ErrorKind::OtherSource, what).on("server", &connection.server)
}

impl Connection {
    /// Where the deployment is now, by its clock.
    pub(crate) async fn present(&self) -> Result<ClusterTime> {
        let reply = self
            .client
            .database("admin")
            .run_command(doc! { "ping": 1 })
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .await
            .map_err(|error| self.failed("cannot connect", &error))?;
        let time = reply.get_timestamp("operationTime").map_err(|_| {
            Error::new(ErrorKind::InvalidData, "the server has no change streams")
                .on("server", &self.server)
                .remedy("connect to a replica set or a sharded cluster: a standalone server keeps no history of changes")
        })?;
        Ok(ClusterTime::new(time.time, time.increment))
    }

    pub(crate) async fn ask_server(&self) -> Result<Server> {
        let build = self
            .client
            .database("admin")
            .run_command(doc! { "buildInfo": 1 })
            .selection_criteria(self.read_from.clone())
            .await
            .map_err(|error| self.failed("cannot connect", &error))?;
        let mut version = [0; 3];
        let parts = build.get_array("versionArray").into_iter().flatten();
        for (part, number) in version.iter_mut().zip(parts) {
            *part = number.as_i32().unwrap_or(0);
        }
        Ok(Server {
            version,
            deployment: self.ask_deployment().await,
        })
    }

    /// The id of the replica set or the sharded cluster; none where the user may not read it.
    pub(crate) async fn ask_deployment(&self) -> Option<String> {
        let find = async |database: &str, collection: &str| {
            let collection = self.client.database(database).collection(collection);
            let find = collection
                .find_one(doc! {})
                .selection_criteria(self.read_from.clone());
            let found: Option<Document> = find.await.ok()?;
            found
        };
        let id = |id: &Bson| id.as_object_id().map(|id| id.to_hex());
        if let Some(set) = find("local", "system.replset").await {
            return id(set.get_document("settings").ok()?.get("replicaSetId")?);
        }
        id(find("config", "version").await?.get("clusterId")?)
    }

    /// That the deployment that was `found` is the one that `position` is a place in.
    pub(crate) fn check_deployment(&self, position: &Position, found: Option<&str>) -> Result<()> {
        match (position.deployment.as_deref(), found) {
            (Some(expected), Some(found)) if expected != found => Err(other_source(
                "another deployment answers at the source's address",
                self,
            )),
            _ => Ok(()),
        }
    }

    /// How far back the deployment remembers its changes; none where the user may not know.
    pub(crate) async fn history_window(&self) -> Option<HistoryWindow> {
        let bounds = self.oplog_bounds().await.ok().flatten();
        bounds.map(|(oldest, newest)| HistoryWindow { oldest, newest })
    }

    /// The first and the last moment that the oplog holds.
    async fn oplog_bounds(
        &self,
    ) -> Result<Option<(ClusterTime, ClusterTime)>, mongodb::error::Error> {
        let oplog = self
            .client
            .database("local")
            .collection::<Document>("oplog.rs");
        let mut bounds = Vec::new();
        for direction in [1, -1] {
            let entry = oplog
                .find_one(doc! {})
                .sort(doc! { "$natural": direction })
                .projection(doc! { "ts": 1 })
                .selection_criteria(self.read_from.clone())
                .await?;
            let time = entry.and_then(|entry| entry.get_timestamp("ts").ok());
            bounds.extend(time.map(|t| ClusterTime::new(t.time, t.increment)));
        }
        Ok(match bounds[..] {
            [oldest, newest] => Some((oldest, newest)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn servers_split_events_from_6_0_9_on() {
        let splits = |version| {
            let server = Server {
                version,
                deployment: None,
            };
            server.splits_events()
        };
        for version in [[5, 0, 31], [6, 0, 0], [6, 0, 8], [6, 3, 9]] {
            assert!(!splits(version), "{version:?}");
        }
        for version in [[6, 0, 9], [6, 0, 24], [7, 0, 0], [8, 2, 1]] {
            assert!(splits(version), "{version:?}");
        }
    }
}
