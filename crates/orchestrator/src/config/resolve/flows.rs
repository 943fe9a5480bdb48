//! Flows, and the ways that flows and steps share.

use std::time::Duration;

use serde_saphyr::{Location, Spanned};

use super::Resolver;
use crate::config::file::{FlowEntry, FollowEntry, OnLostHistory};
use crate::config::plan::{Flow, PlaceKind, Route};
use crate::config::values::{Name, Text};

/// Below this a query that runs could lose the files that it reads.
const LEAST_RETENTION: Duration = Duration::from_secs(3600);
/// What a flow and a `sync` go into.
pub(super) const FOLLOWED_INTO: [PlaceKind; 4] = [
    PlaceKind::Lake,
    PlaceKind::Warehouse,
    PlaceKind::Stream,
    PlaceKind::Files,
];

impl Resolver<'_> {
    pub(super) fn route(
        &mut self,
        from: &Spanned<String>,
        to: &Spanned<String>,
        through: Option<&Spanned<String>>,
        targets: &[PlaceKind],
        collections: &[Spanned<Text>],
    ) -> Option<Route> {
        let collections = self.collections(collections);
        let kinds = [PlaceKind::Source, PlaceKind::Ingest, PlaceKind::Lake];
        let from_end = self.end(from, &kinds);
        let to_end = self.end(to, targets);
        let through_end = match through {
            Some(name) => Some(self.end(name, &[PlaceKind::Lake])?),
            None => None,
        };
        let (from_end, to_end) = (from_end?, to_end?);
        if to_end.place.takes_changes() && from_end.place.kind() != PlaceKind::Source {
            let (name, to, kind) = (&from_end.name, &to_end.name, from_end.place.kind().name());
            let what =
                format!("`{name}` is a {kind}: changes go to `{to}` from a source with `uri`");
            self.wrong(from.referenced, what);
        }
        match (from_end.place.kind(), to_end.place.kind(), through) {
            (PlaceKind::Source | PlaceKind::Ingest, PlaceKind::Warehouse, None) => self.wrong(
                to.referenced,
                "from a source into a warehouse it goes through a lake: name it with `through`",
            ),
            (PlaceKind::Lake, PlaceKind::Lake, _) => self.wrong(
                to.referenced,
                "from a lake it goes into a warehouse, not into another lake",
            ),
            (PlaceKind::Lake, _, Some(through))
            | (_, PlaceKind::Lake | PlaceKind::Stream | PlaceKind::Files, Some(through)) => self
                .wrong(
                    through.referenced,
                    "`through` is for what goes from a source into a warehouse",
                ),
            _ => {}
        }
        Some(Route {
            from: from_end,
            to: to_end,
            through: through_end,
            collections,
        })
    }

    pub(super) fn follow(&mut self, at: Location, route: &Route, options: &FollowEntry) {
        let least = Duration::from_secs(1);
        if options.heartbeat.is_some_and(|beat| beat.0 < least) {
            self.wrong(at, "`heartbeat` is 1s at least");
        }
        if route.to.place.takes_changes() {
            self.refuse_tables(at, route, options);
            return;
        }
        if options
            .retention
            .is_some_and(|kept| kept.0 < LEAST_RETENTION)
        {
            self.wrong(at, "`retention` is 1h at least: readers need their files");
        }
        if options.symlink_manifest == Some(true) && options.deletion_vectors != Some(false) {
            self.wrong(at, "`symlink_manifest` needs `deletion_vectors: false`");
        }
        if route.from.place.kind() == PlaceKind::Ingest
            && options.on_lost_history == Some(OnLostHistory::Reload)
        {
            self.wrong(
                at,
                "`on_lost_history: reload` is for a source with `uri`: what events are pushed of cannot be loaded",
            );
        }
        if route.from.place.kind() == PlaceKind::Lake {
            let given = [
                ("history", options.history.is_some()),
                ("index", options.index.is_some()),
                ("retention", options.retention.is_some()),
                ("heartbeat", options.heartbeat.is_some()),
                ("deletion_vectors", options.deletion_vectors.is_some()),
                ("symlink_manifest", options.symlink_manifest.is_some()),
                ("on_drop", options.on_drop.is_some()),
                ("on_lost_history", options.on_lost_history.is_some()),
            ];
            for (option, _) in given.iter().filter(|(_, is_given)| *is_given) {
                self.wrong(at, format!("`{option}` is for what comes from a source"));
            }
        }
    }

    pub(super) fn flow(&mut self, name: &Name, entry: Spanned<FlowEntry>) -> Option<Flow> {
        let at = entry.referenced;
        let FlowEntry {
            from,
            to,
            through,
            collections,
            options,
            paused,
        } = entry.value;
        let route = self.route(&from, &to, through.as_ref(), &FOLLOWED_INTO, &collections)?;
        self.follow(at, &route, &options);
        self.publish_alone(to.referenced, &route, Some(name));
        self.follow_alone(to.referenced, &route, name);
        Some(Flow {
            name: name.to_string(),
            route,
            options,
            paused,
        })
    }
}
