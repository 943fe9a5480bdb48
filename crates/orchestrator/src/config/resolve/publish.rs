//! Places that changes go to as they are, and what leads there.

use std::collections::BTreeMap;
use std::path::Path;

use serde_saphyr::{Location, Spanned};
use url::Url;

use super::Resolver;
use crate::config::file::{FilesEntry, FollowEntry, StreamEntry};
use crate::config::plan::{Files, Place, Route, Stream};
use crate::config::values::{Name, Text};

const KINESIS: &str = "kinesis://";
/// The directory of the positions of streams, below the state.
const POSITIONS: &str = "positions";
const LONGEST_NAME: usize = 128;

/// Flows by the place that they go to, and by their source where the place takes a flow from each.
pub(super) type Publishing = BTreeMap<(String, Option<String>), String>;

impl Resolver<'_> {
    /// Checks a stream, whose positions are kept below `state`.
    pub(super) fn stream(
        &mut self,
        name: &Name,
        entry: &Spanned<StreamEntry>,
        state: &Path,
    ) -> Stream {
        let StreamEntry {
            uri,
            region,
            endpoint,
            partition_key,
            json,
        } = &entry.value;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let stream = uri.value.as_str().strip_prefix(KINESIS).unwrap_or_default();
        if stream.is_empty() || stream.len() > LONGEST_NAME || !stream.chars().all(is_name) {
            self.wrong(
                uri.referenced,
                format!(
                    "the `uri` of stream `{name}` is not kinesis://STREAM: a name of letters, digits, `_`, `.` and `-`; region and endpoint have keys of their own"
                ),
            );
        }
        if let Some(region) = region
            .as_ref()
            .filter(|region| region.value.as_str().is_empty())
        {
            self.wrong(
                region.referenced,
                format!("the `region` of stream `{name}` is empty"),
            );
        }
        if let Some(endpoint) = endpoint {
            let url = Url::parse(endpoint.value.as_str());
            if !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
                self.wrong(
                    endpoint.referenced,
                    format!("the `endpoint` of stream `{name}` is not http://… or https://…"),
                );
            }
        }
        if let Some(path) = partition_key
            && path.value.as_str().split('.').any(str::is_empty)
        {
            self.wrong(
                path.referenced,
                format!(
                    "the `partition_key` of stream `{name}` is no path of a field, such as documentKey._id or fullDocument.customer"
                ),
            );
        }
        let text = |text: &Option<Spanned<Text>>| text.as_ref().map(|text| text.value.clone());
        Stream {
            uri: uri.value.as_str().to_owned(),
            region: text(region),
            endpoint: text(endpoint),
            partition_key: text(partition_key),
            json: *json,
            positions: state.join(POSITIONS),
        }
    }

    /// Checks a place for files.
    pub(super) fn files(&mut self, name: &Name, entry: &Spanned<FilesEntry>) -> Files {
        let FilesEntry {
            path,
            json,
            gzip,
            batch_events,
        } = &entry.value;
        self.check_directory("files", name, path);
        Files {
            path: self.path_or_address(path.value.as_str()),
            json: *json,
            gzip: *gzip,
            batch_events: *batch_events,
        }
    }

    /// Refuses what says how tables are made and kept.
    pub(super) fn refuse_tables(&mut self, at: Location, route: &Route, options: &FollowEntry) {
        let FollowEntry {
            commit_interval: _,
            heartbeat: _,
            retention,
            parallel,
            on_lost_history,
            on_drop,
            on_schema_change,
            history,
            deletion_vectors,
            symlink_manifest,
            index,
        } = options;
        let given = [
            ("retention", retention.is_some()),
            ("parallel", parallel.is_some()),
            ("on_lost_history", on_lost_history.is_some()),
            ("on_drop", on_drop.is_some()),
            ("on_schema_change", on_schema_change.is_some()),
            ("history", history.is_some()),
            ("deletion_vectors", deletion_vectors.is_some()),
            ("symlink_manifest", symlink_manifest.is_some()),
            ("index", index.is_some()),
        ];
        for (option, _) in given.iter().filter(|(_, is_given)| *is_given) {
            let (name, kind) = (&route.to.name, route.to.place.kind().name());
            let what = format!("`{option}` is for tables, and `{name}` is a {kind}");
            self.wrong(at, what);
        }
    }

    /// Refuses a second flow, or a step beside a flow, into a place that takes one alone.
    pub(super) fn publish_alone(&mut self, at: Location, route: &Route, flow: Option<&Name>) {
        let (to, from) = (&route.to.name, &route.from.name);
        let taken = match route.to.place {
            // It has one position, which is of one deployment.
            Place::Files(_) => (to.clone(), None),
            Place::Stream(_) => (to.clone(), Some(from.clone())),
            Place::Source(_) | Place::Ingest(_) | Place::Lake(_) | Place::Warehouse(_) => return,
        };
        if let Some(other) = self.publishing.get(&taken) {
            let what = match taken.1 {
                None => format!("`{to}` takes the changes of one flow, and that is `{other}`"),
                Some(_) => {
                    format!("changes of `{from}` go to `{to}` by one flow, and that is `{other}`")
                }
            };
            self.wrong(at, what);
        } else if let Some(flow) = flow {
            self.publishing.insert(taken, flow.to_string());
        }
    }
}
