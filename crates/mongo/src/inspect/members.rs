//! Which members are to be read, and whether there are any.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind as DriverKind;
use mongodb::options::{ReadPreference, ReadPreferenceOptions, SelectionCriteria};
use tributary_model::Result;

use crate::inspect::Finding;
use crate::snapshot::MongoSource;

/// How long a secondary is looked for whose absence is no failure. The driver has met all members by
/// then, since it has spoken with one of them.
const LOOK: Duration = Duration::from_secs(3);

/// Whether members that are to be read answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readable {
    Yes,
    No,
}

/// Whichever member is nearest.
pub(crate) fn any() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Nearest {
        options: Some(ReadPreferenceOptions::default()),
    })
}

/// The name of a read preference, as addresses have it.
pub(crate) fn name(criteria: &SelectionCriteria) -> String {
    let SelectionCriteria::ReadPreference(preference) = criteria else {
        return "by a rule of its own".to_owned();
    };
    let name = match preference {
        ReadPreference::Primary => "primary",
        ReadPreference::PrimaryPreferred { .. } => "primaryPreferred",
        ReadPreference::Secondary { .. } => "secondary",
        ReadPreference::SecondaryPreferred { .. } => "secondaryPreferred",
        ReadPreference::Nearest { .. } => "nearest",
        _ => "unknown",
    };
    name.to_owned()
}

impl MongoSource {
    /// Looks whether the members that are asked for exist.
    pub(crate) async fn readable(&self, findings: &mut Vec<Finding>) -> Result<Readable> {
        let connection = &self.connection;
        let criteria = &connection.read_from;
        let preference = name(criteria);
        if let Err(error) = self.ping(criteria.clone()).await {
            if !matches!(error.kind.as_ref(), DriverKind::ServerSelection { .. }) {
                return Err(connection.failed("cannot connect", &error));
            }
            let (missing, instead) = match preference.as_str() {
                "primary" => ("primary", "primaryPreferred"),
                _ => ("secondary", "secondaryPreferred"),
            };
            findings.push(Finding {
                fatal: true,
                what: format!(
                    "no member can be read with the read preference `{preference}`: the deployment answers, \
                     but has no such {missing}"
                ),
                remedy: format!(
                    "ask for `{instead}`, or see why there is no {missing} (rs.status()), and whether the \
                     address asks for tags that none has"
                ),
            });
            return Ok(Readable::No);
        }
        // Of what is only the default nobody expects that the primary is spared.
        if preference == "secondaryPreferred" && connection.read_from_asked {
            let secondary = SelectionCriteria::ReadPreference(ReadPreference::Secondary {
                options: Some(ReadPreferenceOptions::default()),
            });
            let found = tokio::time::timeout(LOOK, self.ping(secondary)).await;
            if !matches!(found, Ok(Ok(_))) {
                findings.push(Finding {
                    fatal: false,
                    what:
                        "the read preference is `secondaryPreferred`, and there is no secondary: \
                           everything is read from the primary"
                            .to_owned(),
                    remedy: "add a secondary, or expect the load on the primary".to_owned(),
                });
            }
        }
        Ok(Readable::Yes)
    }

    async fn ping(&self, criteria: SelectionCriteria) -> mongodb::error::Result<Document> {
        let admin = self.connection.client.database("admin");
        admin
            .run_command(doc! { "ping": 1 })
            .selection_criteria(criteria)
            .await
    }
}
