//! How sessions run `COPY`: in the client's own transaction, on its own connection to PostgreSQL.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    backend::Failure,
    copy::{
        Copy,
        rows::{Layout, Target},
    },
    names::quoted,
    refusal::Refusal,
    session::{Session, completed},
    wire::Frame,
};

impl Session {
    pub(super) async fn copy(&mut self, copy: &Copy) -> Result<(), Failure> {
        self.begin().await?;
        self.note_write(&copy.table.sql()).await?;
        let layout = Arc::new(Layout {
            targets: self.targets(copy).await?,
            serialize_to_json: copy.serialize_to_json,
            fill_record: copy.fill_record,
        });
        let shared = Arc::clone(&self.shared);
        let objects = shared.storage.find(copy).await?;
        let columns: Vec<_> = layout
            .targets
            .iter()
            .map(|target| quoted(&target.name))
            .collect();
        let sql = format!(
            "COPY {} ({}) FROM STDIN",
            copy.table.sql(),
            columns.join(", ")
        );
        self.open_copy(&sql).await?;
        let mut loaded = 0;
        for url in &objects {
            match self.load(copy, &layout, url).await {
                Ok(rows) => loaded += rows,
                Err(Failure::Refused(refusal)) => {
                    self.backend.send(&Frame::text(b'f', "refused")).await?;
                    self.close_copy().await?;
                    return Err(refusal.into());
                }
                Err(failure) => return Err(failure),
            }
        }
        self.backend.send(&Frame::new(b'c', [])).await?;
        if let Some(refusal) = self.close_copy().await? {
            return Err(refusal.into());
        }
        let notice = format!(
            "Load into table '{}' completed, {loaded} record(s) loaded successfully.",
            copy.table.name
        );
        Frame::notice(&notice).write(&mut self.client).await?;
        self.complete = Some(completed("COPY"));
        Ok(())
    }

    async fn targets(&mut self, copy: &Copy) -> Result<Vec<Target>, Failure> {
        let columns = self.columns(&copy.table).await?;
        let all = columns.iter().map(|column| column.name.clone()).collect();
        let mut targets = Vec::new();
        for name in copy.columns.as_ref().unwrap_or(&all) {
            let column = columns
                .iter()
                .find(|column| column.name == *name)
                .ok_or_else(|| {
                    let table = &copy.table.name;
                    let refusal =
                        format!("column \"{name}\" of relation \"{table}\" does not exist");
                    Refusal::new("42703", refusal)
                })?;
            targets.push(Target {
                name: name.clone(),
                kind: column.kind,
            });
        }
        Ok(targets)
    }

    /// Has the server wait for rows.
    async fn open_copy(&mut self, sql: &str) -> Result<(), Failure> {
        self.backend.send(&Frame::text(b'Q', sql)).await?;
        let mut error = None;
        loop {
            let frame = self.backend.receive().await?;
            match frame.tag {
                b'G' => return Ok(()),
                b'E' => error = Some(frame.refusal()),
                b'Z' => {
                    let unexplained = || Refusal::internal("the server did not wait for rows");
                    return Err(error.unwrap_or_else(unexplained).into());
                }
                _ => {}
            }
        }
    }

    /// Sends the rows of an object.
    async fn load(
        &mut self,
        copy: &Copy,
        layout: &Arc<Layout>,
        url: &str,
    ) -> Result<usize, Failure> {
        let object = self.shared.storage.read(copy, url).await?;
        let (sender, mut chunks) = mpsc::channel(4);
        let layout = Arc::clone(layout);
        let converting = tokio::task::spawn_blocking(move || layout.convert(&object, &sender));
        let mut loaded = 0;
        while let Some(chunk) = chunks.recv().await {
            let (text, rows) = chunk?;
            self.backend.send(&Frame::new(b'd', text)).await?;
            loaded += rows;
        }
        converting
            .await
            .map_err(|_| Refusal::internal(format!("the conversion of '{url}' ended early")))?;
        Ok(loaded)
    }

    /// What the server says of the rows, when there are no more.
    async fn close_copy(&mut self) -> Result<Option<Refusal>, Failure> {
        let mut error = None;
        loop {
            let frame = self.backend.receive().await?;
            match frame.tag {
                b'E' => error = Some(frame.refusal()),
                b'Z' => return Ok(error),
                _ => {}
            }
        }
    }
}
