//! The symlink manifest of a table, for engines that read its files and not its log: the names of
//! the files of the current version, one a line, in `_symlink_format_manifest/manifest`.
//!
//! It is what Delta's own `GENERATE symlink_format_manifest` writes, and a table says that it has one
//! by the property by which Spark and Databricks keep it right too. An address in it is not escaped,
//! as Hadoop's file systems take it, whatever characters it holds.
//!
//! It is replaced as a whole, in one request, behind every commit. So readers see one version or the
//! other; between the commit and that request, and until the next start where the process ends
//! there, it is the one before, whose files are kept at least as long as the manifest names them.

use std::collections::HashSet;

use serde_json::json;
use tributary_flow::Failpoint;
use tributary_model::{Error, ErrorKind, Result};

use super::definition::SYMLINK_MANIFEST;
use super::follow::{Edit, LiveTable, Outcome};
use crate::location::Location;

/// The directory of the manifest, which engines are told as the table's place.
pub(crate) const DIRECTORY: &str = "_symlink_format_manifest";
const NAME: &str = "manifest";

/// How a table's manifest stands to the table, as far as the process cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ManifestState {
    /// This process does not follow the table: writing the manifest is left to the one that does,
    /// which could be further.
    #[default]
    Left,
    /// It is of the version that is known here, if the table has one at all.
    Current,
    /// It may be of an earlier version.
    Behind,
}

fn place_of(table: &Location) -> Location {
    table.child(DIRECTORY).child(NAME)
}

/// The manifest of a table at `table` that consists of the files `paths`.
fn lines<'a>(table: &Location, paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let table = table.unescaped_url();
    let address = |path: &str| match path.contains("://") {
        true => path.to_owned(),
        false => format!("{table}/{path}"),
    };
    let mut lines: Vec<String> = paths.map(address).collect();
    lines.sort();
    lines
}

/// Writes the manifest of a table at `table` that consists of the files `paths` now.
pub(crate) async fn write<'a>(
    table: &Location,
    paths: impl Iterator<Item = &'a str>,
) -> Result<()> {
    write_lines(table, &lines(table, paths)).await
}

async fn write_lines(table: &Location, lines: &[String]) -> Result<()> {
    Failpoint::ManifestBefore.hit();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let written = place_of(table).write(text.into_bytes()).await;
    written.map_err(|error| error.on("table", table))
}

async fn read_lines(table: &Location) -> Result<Option<Vec<String>>> {
    let bytes = place_of(table).read().await?;
    Ok(bytes.map(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }))
}

/// The names of the files that the manifest of the table at `table` names as it is now, whoever
/// wrote it.
pub(crate) async fn names(table: &Location) -> Result<HashSet<String>> {
    let lines = read_lines(table).await?.unwrap_or_default();
    let name = |line: String| Some(line.rsplit('/').next()?.to_owned());
    Ok(lines.into_iter().filter_map(name).collect())
}

/// Removes what processes that were killed have left of manifests that they were writing: engines
/// that read a directory would take it for a second one. Object stores do not show it.
async fn remove_unfinished(table: &Location) -> Result<()> {
    let Some(directory) = table.child(DIRECTORY).directory() else {
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Storage, "cannot remove an unfinished manifest")
            .on("table", table)
            .because(error)
    };
    let mut entries = match tokio::fs::read_dir(&directory).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("manifest#") {
            tokio::fs::remove_file(entry.path()).await.map_err(failed)?;
        }
    }
    Ok(())
}

impl LiveTable {
    /// Keeps the table's manifest right from now on, if it has one: at once, where the process before
    /// ended behind its commit, or another program's commits came without it.
    ///
    /// # Errors
    /// The manifest cannot be written, or the table has deletion vectors.
    pub(crate) async fn follow_manifest(&mut self) -> Result<()> {
        if self.manifest == ManifestState::Current {
            return Ok(());
        }
        self.manifest = ManifestState::Behind;
        if self.definition.has_symlink_manifest() {
            remove_unfinished(&self.place).await?;
            let lines = self.manifest_lines()?;
            if read_lines(&self.place).await?.as_ref() != Some(&lines) {
                write_lines(&self.place, &lines).await?;
            }
        }
        self.manifest = ManifestState::Current;
        Ok(())
    }

    /// Gives the table a manifest, if it has none. Its rows must be deleted by writing their files
    /// again.
    pub(crate) async fn enable_manifest(&mut self) -> Result<()> {
        while !self.definition.has_symlink_manifest() {
            self.definition.enable_symlink_manifest();
            let properties = json!({ SYMLINK_MANIFEST: "true" }).to_string();
            let parameters = json!({ "properties": properties });
            let operation = "SET TBLPROPERTIES";
            let outcome = self
                .commit(Edit::default(), None, operation, parameters)
                .await?;
            if let Outcome::Overtaken(_) = outcome {
                // The definition has not got into the log, or has been overtaken.
                self.reload().await?;
            }
        }
        self.catch_up_manifest().await
    }

    /// Writes the manifest behind a commit. What fails is made up for by `catch_up_manifest`: the
    /// commit is done, and is to be recorded first.
    pub(super) async fn write_manifest(&mut self) {
        if self.manifest == ManifestState::Left {
            return;
        }
        self.manifest = ManifestState::Behind;
        if let Err(error) = self.catch_up_manifest().await {
            let error = error.to_string();
            tracing::warn!(table = %self.place, error, "the manifest is of an earlier version");
        }
    }

    /// Writes the manifest, if that has failed behind a commit.
    ///
    /// # Errors
    /// It fails again.
    pub(crate) async fn catch_up_manifest(&mut self) -> Result<()> {
        if self.manifest == ManifestState::Behind {
            if self.definition.has_symlink_manifest() {
                let lines = self.manifest_lines()?;
                write_lines(&self.place, &lines).await?;
            }
            self.manifest = ManifestState::Current;
        }
        Ok(())
    }

    fn manifest_lines(&self) -> Result<Vec<String>> {
        if self.has_vector() || !self.definition.is_copy_on_write() {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "the table has deletion vectors, and a symlink manifest cannot tell which rows are deleted",
            )
            .on("table", &self.place)
            .remedy(format!(
                "give --no-deletion-vectors to have its files written again without those rows, or set \
                 the table's property {SYMLINK_MANIFEST} to false"
            )));
        }
        Ok(lines(&self.place, self.files.keys().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_absolute_and_not_escaped() {
        for (table, address) in [
            ("/lake/a b/c=2Fd é%", "file:/lake/a b/c=2Fd é%"),
            ("s3://bucket/pre%20fix/t", "s3://bucket/pre fix/t"),
            ("s3a://bucket/t", "s3://bucket/t"),
            ("s3://bucket", "s3://bucket"),
        ] {
            let place = Location::parse(table).unwrap();
            let paths = ["part-2 +.parquet", "part-1.parquet"].into_iter();
            assert_eq!(
                lines(&place, paths),
                [
                    format!("{address}/part-1.parquet"),
                    format!("{address}/part-2 +.parquet")
                ]
            );
        }
        let place = Location::parse("/lake").unwrap();
        let elsewhere = "s3://other/part.parquet";
        assert_eq!(lines(&place, [elsewhere].into_iter()), [elsewhere]);
    }
}
