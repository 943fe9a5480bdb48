//! Places that flows and steps name.

use std::path::Path;

use serde_saphyr::{Location, Spanned};

use super::{Resolver, addresses};
use crate::config::file::{File, LayoutEntry, SourceEntry, WarehouseEntry};
use crate::config::plan::{End, Layout, Place, PlaceKind, Source, Warehouse};
use crate::config::problem::unknown;
use crate::config::values::{Name, Text};

impl Resolver<'_> {
    /// The places that flows and steps can name. One name is one place, whatever it is.
    pub(super) fn find_places(&mut self, file: &File, state: &Path) {
        let mut found: Vec<(String, Location, Place)> = Vec::new();
        for (name, entry) in &file.sources {
            let place = self.source_place(name, entry, file.server.is_some());
            found.extend(place.map(|place| (name.to_string(), entry.referenced, place)));
        }
        for (name, entry) in &file.lakes {
            let path = &entry.value.path;
            self.check_directory("lake", name, path);
            let path = self.path_or_address(path.value.as_str());
            found.push((name.to_string(), entry.referenced, Place::Lake(path)));
        }
        for (name, entry) in &file.warehouses {
            let warehouse = self.warehouse(name, entry);
            found.push((
                name.to_string(),
                entry.referenced,
                Place::Warehouse(warehouse),
            ));
        }
        for (name, entry) in &file.streams {
            let place = Place::Stream(self.stream(name, entry, state));
            found.push((name.to_string(), entry.referenced, place));
        }
        for (name, entry) in &file.files {
            let place = Place::Files(self.files(name, entry));
            found.push((name.to_string(), entry.referenced, place));
        }
        for (name, at, place) in found {
            let kind = place.kind().name();
            if let Some(other) = self.places.get(&name) {
                let other = other.kind().name();
                let what =
                    format!("`{name}` is a {other} and a {kind}: give each a name of its own");
                self.wrong(at, what);
                continue;
            }
            self.places.insert(name, place);
        }
    }

    fn source_place(
        &mut self,
        name: &Name,
        entry: &Spanned<SourceEntry>,
        has_server: bool,
    ) -> Option<Place> {
        let (at, source) = (entry.referenced, &entry.value);
        let uri = match (&source.uri, &source.ingest) {
            (Some(uri), None) => uri,
            (None, Some(ingest)) => {
                if source.read_preference.is_some() {
                    let what =
                        format!("`read_preference` of source `{name}` is for one with `uri`");
                    self.wrong(at, what);
                }
                let ingest = self.ingest(at, name, ingest, has_server);
                return Some(Place::Ingest(ingest));
            }
            _ => {
                let what = format!("source `{name}` has a `uri` or `ingest`, and one of them only");
                self.wrong(at, what);
                return None;
            }
        };
        if let Err(why) = addresses::check_mongodb(uri.value.as_str()) {
            let what = format!("the `uri` of source `{name}` {why}");
            self.wrong(uri.referenced, what);
        }
        Some(Place::Source(Source {
            uri: uri.value.clone(),
            read_preference: source.read_preference,
        }))
    }

    /// Checks the `path` of a place.
    pub(super) fn check_directory(&mut self, kind: &str, name: &Name, path: &Spanned<Text>) {
        let why = match path.value.as_str() {
            "" => "is empty".to_owned(),
            text => match addresses::check_directory(text) {
                Ok(()) => return,
                Err(why) => why,
            },
        };
        self.wrong(
            path.referenced,
            format!("the `path` of {kind} `{name}` {why}"),
        );
    }

    fn warehouse(&mut self, name: &Name, entry: &Spanned<WarehouseEntry>) -> Warehouse {
        let warehouse = &entry.value;
        let scheme = warehouse.uri.as_str().split("://").next();
        let is_redshift = scheme == Some("redshift");
        if !is_redshift && !matches!(scheme, Some("postgres" | "postgresql")) {
            self.wrong(
                entry.referenced,
                format!("the `uri` of warehouse `{name}` is not postgres://… or redshift://…"),
            );
        } else if is_redshift && warehouse.s3_staging.is_none() {
            self.wrong(
                entry.referenced,
                format!(
                    "warehouse `{name}` has no `s3_staging`: Redshift copies rows from S3; name a place there, s3://bucket/prefix"
                ),
            );
        } else if !is_redshift && (warehouse.s3_staging.is_some() || warehouse.iam_role.is_some()) {
            self.wrong(
                entry.referenced,
                format!("`s3_staging` and `iam_role` of warehouse `{name}` are for Redshift"),
            );
        }
        let is_postgres = matches!(scheme, Some("postgres" | "postgresql"));
        let said = std::iter::once(&warehouse.layout).chain(warehouse.tables.values());
        for layout in said.filter(|_| is_postgres) {
            let given = [
                ("distribution", layout.distribution.as_ref()),
                ("sort_key", layout.sort_key.first()),
            ];
            for (key, text) in given {
                if let Some(text) = text {
                    let what = format!(
                        "`{key}` is for Redshift, and warehouse `{name}` is a PostgreSQL: leave it out"
                    );
                    self.wrong(text.referenced, what);
                }
            }
        }
        let mut layouts = vec![(None, layout(&warehouse.layout))];
        for (table, entry_of_table) in &warehouse.tables {
            if table.split_once('.').is_none() {
                self.wrong(
                    entry.referenced,
                    format!(
                        "`{table}` of warehouse `{name}` is no table: write database.collection"
                    ),
                );
            }
            layouts.push((Some(table.clone()), layout(entry_of_table)));
        }
        Warehouse {
            uri: warehouse.uri.clone(),
            s3_staging: warehouse.s3_staging.clone(),
            iam_role: warehouse.iam_role.clone(),
            layouts,
        }
    }

    /// The place of a name, which is to be of one of these kinds.
    pub(super) fn end(&mut self, name: &Spanned<String>, kinds: &[PlaceKind]) -> Option<End> {
        // One that is pushed to is a source as well, where either may stand; and who has no place for changes
        // as they are means none.
        let is_said = |kind: &&PlaceKind| match kind {
            PlaceKind::Ingest => !kinds.contains(&PlaceKind::Source),
            PlaceKind::Stream | PlaceKind::Files => {
                self.places.values().any(|place| place.kind() == **kind)
            }
            _ => true,
        };
        let words: Vec<&str> = kinds
            .iter()
            .filter(is_said)
            .map(|kind| kind.name())
            .collect();
        let words = words.join(" or ");
        match self.places.get(&name.value) {
            Some(place) if kinds.contains(&place.kind()) => {
                return Some(End {
                    name: name.value.clone(),
                    place: place.clone(),
                });
            }
            Some(place) => {
                let kind = place.kind().name();
                let what = format!("`{}` is a {kind}; here stands a {words}", name.value);
                self.wrong(name.referenced, what);
            }
            None => {
                let known = self
                    .places
                    .iter()
                    .filter(|(_, place)| kinds.contains(&place.kind()))
                    .map(|(name, _)| name.as_str());
                let what = unknown(&words, &name.value, known);
                self.wrong(name.referenced, what);
            }
        }
        None
    }
}

fn layout(entry: &LayoutEntry) -> Layout {
    Layout {
        distribution: entry.distribution.as_ref().map(|text| text.value.clone()),
        sort_key: entry
            .sort_key
            .iter()
            .map(|text| text.value.clone())
            .collect(),
        primary_key: entry.primary_key.clone(),
    }
}
