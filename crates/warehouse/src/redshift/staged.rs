//! Rows that have been put into files for Redshift to copy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tributary_flow::{Applied, FileStage, StagedFile};
use tributary_model::{Error, ErrorKind, Result};

use super::rows::Shaper;
use super::types::RsType;
use crate::columns::Column;
use crate::dialect::{Incoming, Work};

/// The size at which a file is closed and the next begun: all slices of a cluster copy side by side,
/// one file each.
const FILE_BYTES: usize = 64 << 20;

/// The directory below the place of staged files that is Tributary's own, so that nothing else is ever
/// taken for a file that was left behind.
pub(super) const OWN: &str = "tributary-staging";

/// Files in a directory of their own. Dropping them removes them.
pub(crate) struct Staged {
    stage: Arc<dyn FileStage>,
    directory: String,
    pub(super) applied: Applied,
    /// The columns that they have, in their order.
    pub(super) columns: Vec<Column<RsType>>,
    /// The most bytes of a value, for each field.
    pub(super) widths: HashMap<String, usize>,
    has_files: bool,
}

impl Staged {
    /// Writes all rows there are.
    pub(super) async fn write(
        stage: &Arc<dyn FileStage>,
        work: &Work<'_, RsType>,
        rows: Incoming,
    ) -> Result<Self> {
        let mut staged = Self {
            stage: Arc::clone(stage),
            directory: format!("{OWN}/{}", uuid::Uuid::new_v4().simple()),
            applied: Applied::default(),
            columns: Vec::new(),
            widths: HashMap::new(),
            has_files: false,
        };
        let mut shaper = Shaper::new(work.schema, work.columns);
        staged.columns = shaper.staged_columns();
        let fields = work
            .schema
            .columns
            .iter()
            .map(|column| column.field.clone());
        let fields: Vec<String> = fields.collect();
        let table = work.name.to_string();
        tokio::task::spawn_blocking(move || {
            staged
                .fill(&mut shaper, rows)
                .map_err(|error| error.on("table", table))?;
            staged.applied.rescued = shaper.rescued;
            staged.widths = fields.into_iter().zip(shaper.widths).collect();
            Ok(staged)
        })
        .await
        .map_err(|panic| {
            Error::new(ErrorKind::Internal, "staging rows ended abnormally").because(panic)
        })?
    }

    /// Writes the files. It blocks.
    fn fill(&mut self, shaper: &mut Shaper, mut rows: Incoming) -> Result<()> {
        let mut file: Option<Box<dyn StagedFile>> = None;
        let mut files = 0;
        while let Some(next) = rows.blocking_next() {
            let (batch, gone) = next?;
            let shaped = shaper.shape(&batch, gone).map_err(|error| {
                Error::new(ErrorKind::InvalidData, "rows of the lake cannot be staged")
                    .because(error)
                    .remedy("a document whose _id is null or too long cannot be a row here: leave its collection out")
            })?;
            let count = shaped.num_rows() as u64;
            if gone {
                self.applied.deleted += count;
            } else {
                self.applied.upserted += count;
            }
            let open = match &mut file {
                Some(open) => open,
                none => {
                    let path = format!("{}/{files:05}.parquet", self.directory);
                    files += 1;
                    self.has_files = true;
                    none.insert(self.stage.begin(&path, shaper.staged())?)
                }
            };
            open.write(&shaped)?;
            if open.size() >= FILE_BYTES
                && let Some(full) = file.take()
            {
                self.applied.bytes += full.finish()?;
            }
        }
        if let Some(last) = file {
            self.applied.bytes += last.finish()?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_files
    }

    /// Where they are below the stage.
    pub(super) fn directory(&self) -> &str {
        &self.directory
    }

    /// Removes the files.
    pub(super) async fn remove(mut self) {
        if std::mem::take(&mut self.has_files) {
            // What is left behind is removed when it is a day old.
            let _ = self.stage.remove(&self.directory, Duration::ZERO).await;
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.has_files
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (stage, directory) = (Arc::clone(&self.stage), self.directory.clone());
            runtime.spawn(async move {
                let _ = stage.remove(&directory, Duration::ZERO).await;
            });
        }
    }
}
