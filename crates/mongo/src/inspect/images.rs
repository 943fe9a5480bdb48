//! Pre- and post-images: the documents before and after a change, which a collection keeps where it is
//! told to (`changeStreamPreAndPostImages`).

use std::collections::{BTreeSet, HashSet};

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use tributary_flow::{CollectionInfo, CollectionKind};
use tributary_model::{ErrorKind, Namespace, Result};

use crate::error::text;
use crate::inspect::privileges::Privileges;
use crate::inspect::{DeploymentReport, Finding};
use crate::snapshot::MongoSource;

/// The first version that keeps them.
const SINCE: i32 = 6;
const PRIVILEGE: &str = "collMod";

/// The collections that keep images.
#[derive(Debug)]
pub(crate) struct KeptImages(HashSet<Namespace>);

impl KeptImages {
    pub(crate) fn of(&self, collection: &CollectionInfo) -> Option<bool> {
        let has_changes = collection.kind == CollectionKind::Collection;
        has_changes.then(|| self.0.contains(&collection.namespace))
    }
}

/// What is to be said of collections that lack them, where they are wanted.
pub(crate) fn findings(
    report: &DeploymentReport,
    build: &Document,
    privileges: Option<&Privileges>,
) -> Vec<Finding> {
    let lacking = report.without_images();
    let major = build.get_array("versionArray").ok();
    let major = major.and_then(|v| v.first()).and_then(Bson::as_i32);
    if major.is_some_and(|major| major < SINCE) {
        return vec![Finding {
            fatal: false,
            what: format!(
                "the server's version {} keeps no pre- and post-images",
                report.version
            ),
            remedy: "upgrade to MongoDB 6.0 or later, or do without them".to_owned(),
        }];
    }
    if lacking.is_empty() {
        return Vec::new();
    }
    let refused = |namespace: &&Namespace| {
        privileges.is_some_and(|privileges| !privileges.allow(PRIVILEGE, namespace))
    };
    let refused: Vec<_> = lacking.iter().copied().filter(refused).collect();
    let mut remedy = "run this with --fix, which sets `changeStreamPreAndPostImages` by collMod; they take disk \
                      space until they expire"
        .to_owned();
    if !refused.is_empty() {
        remedy = format!(
            "{remedy}. The user lacks the privilege `{PRIVILEGE}` on {}, which the role `dbAdmin` has",
            names(&refused)
        );
    }
    vec![Finding {
        fatal: false,
        what: format!("no pre- and post-images are kept of {}", names(&lacking)),
        remedy,
    }]
}

/// Some names in a sentence.
fn names(namespaces: &[&Namespace]) -> String {
    const SHOWN: usize = 10;
    let shown = namespaces.iter().take(SHOWN).map(ToString::to_string);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match namespaces.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl DeploymentReport {
    /// The collections that keep no images and could.
    #[must_use]
    pub fn without_images(&self) -> Vec<&Namespace> {
        let lacking = self.collections.iter();
        let lacking = lacking.filter(|c| c.pre_and_post_images == Some(false));
        lacking.map(|c| &c.info.namespace).collect()
    }
}

impl MongoSource {
    /// Which collections keep images; none where that cannot be seen, which others have told then.
    pub(crate) async fn kept_images(&self, collections: &[CollectionInfo]) -> Option<KeptImages> {
        let databases: BTreeSet<_> = collections.iter().map(|c| &c.namespace.database).collect();
        let mut kept = HashSet::new();
        for name in databases {
            let database = self.connection.client.database(name);
            let listed = database.list_collections().await.ok()?;
            let listed: Vec<_> = listed.try_collect().await.ok()?;
            let keeping = listed.into_iter().filter(|collection| {
                let images = collection
                    .options
                    .change_stream_pre_and_post_images
                    .as_ref();
                images.is_some_and(|images| images.enabled)
            });
            kept.extend(keeping.map(|collection| Namespace::new(name, &collection.name)));
        }
        Some(KeptImages(kept))
    }

    /// Has collections keep pre- and post-images from now on, and tells which do and what was in the
    /// way of the others.
    ///
    /// # Errors
    /// The deployment cannot be reached any more.
    pub async fn keep_images(
        &self,
        collections: &[&Namespace],
    ) -> Result<(Vec<Namespace>, Vec<Finding>)> {
        let (mut done, mut refused, mut findings) = (Vec::new(), Vec::new(), Vec::new());
        for &namespace in collections {
            let command = doc! {
                PRIVILEGE: &namespace.collection,
                "changeStreamPreAndPostImages": { "enabled": true },
            };
            let database = self.connection.client.database(&namespace.database);
            let Err(error) = database.run_command(command).await else {
                done.push(namespace.clone());
                continue;
            };
            let what = "cannot have pre- and post-images kept";
            let told = self.connection.failed(what, &error);
            match told.kind() {
                ErrorKind::Forbidden => refused.push(namespace),
                kind if kind.is_transient() => return Err(told.on("namespace", namespace)),
                _ => findings.push(Finding {
                    fatal: true,
                    what: format!("{what} of {namespace}: {}", text(&error)),
                    remedy: "see what stands in the way there; the others have been tried"
                        .to_owned(),
                }),
            }
        }
        if !refused.is_empty() {
            findings.push(Finding {
                fatal: true,
                what: format!(
                    "the user may not have pre- and post-images kept of {}",
                    names(&refused)
                ),
                remedy: format!(
                    "grant the privilege `{PRIVILEGE}` there: the role `dbAdmin` on the database has it"
                ),
            });
        }
        Ok((done, findings))
    }
}
