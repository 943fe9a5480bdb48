//! Prepared statements: messages are gathered up to `Sync`, and only queries may be among them.

use tokio::io::AsyncWriteExt;

use super::{
    backend::Failure,
    faults::Fault,
    lexer::statements,
    plan::prepared,
    refusal::Refusal,
    session::{Session, aborted},
    wire::{Frame, split_string, terminated},
};

impl Session {
    /// Serves the messages from this one on, up to `Sync`.
    pub(super) async fn extended(&mut self, first: Frame) -> Result<(), Failure> {
        let mut frames = vec![first];
        while let Some(frame) = frames.last()
            && frame.tag != b'S'
        {
            if frame.tag == b'H' {
                return self.refuse_flush().await;
            }
            frames.push(Frame::read(&mut self.client).await?);
        }
        let mut kept = Vec::new();
        let mut refusal = None;
        for frame in frames {
            if refusal.is_some() {
                break;
            }
            match self.prepare(frame).await {
                Ok(frame) => kept.push(frame),
                Err(Failure::Refused(refused)) => refusal = Some(refused),
                Err(failure) => return Err(failure),
            }
        }
        if refusal.is_some() {
            kept.push(Frame::new(b'S', []));
        }
        for frame in &kept {
            self.backend.send(frame).await?;
        }
        let mut failed = false;
        loop {
            let frame = self.backend.receive().await?;
            match frame.tag {
                b'Z' => break,
                b'E' => {
                    failed = true;
                    Frame::error(&frame.refusal())
                        .write(&mut self.client)
                        .await?;
                }
                _ => self.pass(frame).await?,
            }
        }
        // An error of the server's comes first, and hides what would have been refused behind it.
        let refusal = refusal.filter(|_| !failed);
        self.answer(refusal.map_or(Ok(()), |refusal| Err(refusal.into())))
            .await
    }

    /// Who sends `Flush` waits for answers at once, and then sends `Sync`.
    async fn refuse_flush(&mut self) -> Result<(), Failure> {
        let refusal = Refusal::beyond("the message Flush of the protocol");
        Frame::error(&refusal).write(&mut self.client).await?;
        self.client.flush().await?;
        while Frame::read(&mut self.client).await?.tag != b'S' {}
        self.fail().await?;
        self.answer(Ok(())).await
    }

    /// A message as the server gets it.
    async fn prepare(&mut self, frame: Frame) -> Result<Frame, Failure> {
        let broken = || Refusal::new("08P01", "a message of the protocol is malformed");
        match frame.tag {
            b'P' => {
                let (name, rest) = split_string(&frame.body).ok_or_else(broken)?;
                let (sql, types) = split_string(rest).ok_or_else(broken)?;
                let sql = self.parse(&name, &sql).await?;
                let mut body = terminated(&name);
                body.extend(terminated(&sql));
                body.extend(types);
                Ok(Frame::new(b'P', body))
            }
            b'B' => {
                let (_, rest) = split_string(&frame.body).ok_or_else(broken)?;
                let (name, _) = split_string(rest).ok_or_else(broken)?;
                if self.backend.status == b'T'
                    && let Some(reads) = self.prepared.get(&name).cloned()
                {
                    self.begin().await?;
                    self.note_reads(&reads).await?;
                }
                Ok(frame)
            }
            _ => Ok(frame),
        }
    }

    async fn parse(&mut self, name: &str, sql: &str) -> Result<String, Failure> {
        let mut found = statements(sql)?;
        let Some(statement) = found.pop() else {
            return Ok(String::new());
        };
        if !found.is_empty() {
            let refusal = "cannot insert multiple commands into a prepared statement";
            return Err(Refusal::syntax(refusal).into());
        }
        match self.shared.faults.meet(&statement.source) {
            Some(Fault::Fail(refusal)) => return Err(refusal.into()),
            Some(Fault::CutBefore | Fault::CutAfter) => return Err(Failure::Gone),
            None => {}
        }
        if self.backend.status == b'E' {
            return Err(aborted().into());
        }
        self.shared.note_names(&statement.long_names).await?;
        let (sql, reads) = prepared(&statement.tokens)?;
        self.prepared.insert(name.to_owned(), reads);
        Ok(sql)
    }
}
