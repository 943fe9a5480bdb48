//! What the user may do.

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind as DriverKind;
use tributary_model::Namespace;

use crate::error::{UNAUTHORIZED, text};
use crate::inspect::Finding;
use crate::snapshot::MongoSource;

/// The privileges of a user, as `connectionStatus` tells them.
#[derive(Debug)]
pub(crate) struct Privileges(Vec<(Document, Vec<String>)>);

impl Privileges {
    /// The user's privileges; none where nobody is authenticated and so everything is allowed.
    pub(crate) fn of(status: &Document) -> Option<Self> {
        let info = status.get_document("authInfo").ok()?;
        if info.get_array("authenticatedUsers").ok()?.is_empty() {
            return None;
        }
        let told = info.get_array("authenticatedUserPrivileges").ok()?;
        let privileges = told.iter().filter_map(Bson::as_document).filter_map(|one| {
            let actions = one.get_array("actions").ok()?;
            let actions = actions.iter().filter_map(Bson::as_str).map(str::to_owned);
            Some((
                one.get_document("resource").ok()?.clone(),
                actions.collect(),
            ))
        });
        Some(Self(privileges.collect()))
    }

    /// Whether an action is allowed on a collection.
    pub(crate) fn allow(&self, action: &str, on: &Namespace) -> bool {
        self.0.iter().any(|(resource, actions)| {
            covers(resource, on) && actions.iter().any(|a| a == action || a == "anyAction")
        })
    }
}

/// Whether a resource includes a collection. Empty names stand for all.
fn covers(resource: &Document, namespace: &Namespace) -> bool {
    if resource.get_bool("anyResource").unwrap_or(false) {
        return true;
    }
    let includes = |key, name: &str| {
        let pattern = resource.get_str(key).ok();
        pattern.is_some_and(|pattern| pattern.is_empty() || pattern == name)
    };
    includes("db", &namespace.database) && includes("collection", &namespace.collection)
}

impl MongoSource {
    /// What is in the way of following changes: opens the change stream that a sync would.
    pub(crate) async fn cannot_follow(&self) -> Option<Finding> {
        /// A set without a majority does not answer.
        const LIMIT: i32 = 10_000;
        let connection = &self.connection;
        let (database, stream) = match connection.database() {
            Some(database) => (database, doc! {}),
            None => ("admin", doc! { "allChangesForCluster": true }),
        };
        let open = doc! {
            "aggregate": 1,
            "pipeline": [{ "$changeStream": stream }],
            "cursor": { "batchSize": 0 },
            "maxTimeMS": LIMIT,
        };
        let opened = connection
            .client
            .database(database)
            .run_cursor_command(open)
            .selection_criteria(connection.read_from.clone())
            .await;
        let error = opened.err()?;
        let remedy = match error.kind.as_ref() {
            DriverKind::Command(command) if command.code == UNAUTHORIZED => {
                match connection.database() {
                    Some(database) => format!(
                        "grant the privileges `changeStream` and `find` on the whole database: the role \
                         `read` on {database} has them"
                    ),
                    None => {
                        "grant the privileges `changeStream` and `find` on all databases: the role \
                             `readAnyDatabase` has them"
                            .to_owned()
                    }
                }
            }
            _ => "see whether a majority of the members is up (rs.status())".to_owned(),
        };
        Some(Finding {
            fatal: false,
            what: format!(
                "changes cannot be followed, though collections can be copied: {}",
                text(&error)
            ),
            remedy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_are_those_of_the_resource() {
        let status = doc! { "authInfo": {
            "authenticatedUsers": [{ "user": "u", "db": "admin" }],
            "authenticatedUserPrivileges": [
                { "resource": { "db": "shop", "collection": "" }, "actions": ["find", "collMod"] },
                { "resource": { "db": "", "collection": "orders" }, "actions": ["find"] },
                { "resource": { "cluster": true }, "actions": ["collMod"] },
            ],
        } };
        let privileges = Privileges::of(&status).unwrap();
        let orders = |database| Namespace::new(database, "orders");
        assert!(privileges.allow("collMod", &orders("shop")));
        assert!(privileges.allow("find", &orders("other")));
        assert!(!privileges.allow("collMod", &orders("other")));
        assert!(!privileges.allow("find", &Namespace::new("other", "c")));
    }

    #[test]
    fn nobody_may_do_everything() {
        let status =
            doc! { "authInfo": { "authenticatedUsers": [], "authenticatedUserPrivileges": [] } };
        assert!(Privileges::of(&status).is_none());
    }
}
