//! A client's session: its messages, statement by statement, for PostgreSQL.

use std::{collections::HashMap, sync::Arc};

use tokio::io::AsyncWriteExt;

use super::{
    Shared,
    backend::{Backend, Failure, Stream, pass},
    faults::Fault,
    lexer::{Statement, statements},
    names::literal,
    plan::Plan,
    refusal::Refusal,
    settings::{Setting, Settings},
    transactions::Transaction,
    types::SCHEMA,
    wire::{Frame, terminated},
};

/// A session behind its start.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Stream,
    pub(super) backend: Backend,
    /// Of the transaction that has taken its snapshot.
    pub(super) transaction: Option<Transaction>,
    /// Whether the transaction was begun here, for the statements of one message.
    pub(super) implicit: bool,
    /// That the last statement is complete, held back until its transaction is committed.
    pub(super) complete: Option<Frame>,
    pub(super) settings: Settings,
    /// The tables that prepared statements read, by the statements' names.
    pub(super) prepared: HashMap<String, Vec<String>>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Stream, backend: Backend) -> Self {
        Self {
            shared,
            client,
            backend,
            transaction: None,
            implicit: false,
            complete: None,
            settings: Settings::default(),
            prepared: HashMap::new(),
        }
    }

    /// Serves until either side ends.
    pub(super) async fn serve(&mut self) -> Result<(), Failure> {
        loop {
            self.client.flush().await?;
            let frame = Frame::read(&mut self.client).await?;
            match frame.tag {
                b'Q' => {
                    let sql = String::from_utf8_lossy(&frame.body);
                    let outcome = self.message(sql.trim_end_matches('\0')).await;
                    self.answer(outcome).await?;
                }
                b'X' => return Err(Failure::Gone),
                b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' => self.extended(frame).await?,
                // Data of a COPY that was refused.
                b'd' | b'c' | b'f' => {}
                _ => {
                    let refusal =
                        Refusal::new("08P01", "this message of the protocol is not known");
                    self.answer(Err(refusal.into())).await?;
                }
            }
        }
    }

    /// Tells the client of an error, brings the server into the same state, and says that the session is ready.
    pub(super) async fn answer(&mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => {}
            Err(Failure::Refused(refusal)) => {
                self.complete = None;
                let refusal = self.in_redshifts_words(refusal);
                Frame::error(&refusal).write(&mut self.client).await?;
                self.fail().await?;
            }
            Err(failure) => return Err(failure),
        }
        Frame::ready(self.backend.status)
            .write(&mut self.client)
            .await?;
        self.client.flush().await?;
        Ok(())
    }

    fn in_redshifts_words(&self, refusal: Refusal) -> Refusal {
        match (refusal.code.as_str(), &self.transaction) {
            ("40001", Some(transaction)) => transaction.lost(),
            ("21000", _) if refusal.message.starts_with("MERGE command cannot affect") => {
                Refusal::internal("Found multiple matches to update the same tuple.")
            }
            _ => refusal,
        }
    }

    /// What an error does to the transaction.
    pub(super) async fn fail(&mut self) -> Result<(), Failure> {
        if self.implicit {
            self.implicit = false;
            if self.backend.status != b'I' {
                self.backend.query("ROLLBACK").await?;
            }
        } else if self.backend.status == b'T' {
            // What was refused here the server does not know of, and its transaction has to have failed.
            match self
                .backend
                .query("DO $$BEGIN RAISE EXCEPTION 'refused'; END$$")
                .await
            {
                Ok(_) | Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        self.transaction = None;
        Ok(())
    }

    /// Runs the statements of a message, as one transaction unless they say otherwise.
    async fn message(&mut self, sql: &str) -> Result<(), Failure> {
        let found = statements(sql).inspect_err(|_| {
            self.shared.faults.meet(sql);
        })?;
        if found.is_empty() {
            Frame::new(b'I', []).write(&mut self.client).await?;
        }
        for statement in &found {
            self.statement(statement).await?;
        }
        self.commit_implicit().await?;
        self.release().await
    }

    async fn commit_implicit(&mut self) -> Result<(), Failure> {
        if self.implicit {
            self.commit().await?;
            self.implicit = false;
        }
        Ok(())
    }

    /// Says that the last statement is complete.
    async fn release(&mut self) -> Result<(), Failure> {
        if let Some(complete) = self.complete.take() {
            complete.write(&mut self.client).await?;
        }
        Ok(())
    }

    async fn statement(&mut self, statement: &Statement) -> Result<(), Failure> {
        self.release().await?;
        let fault = self.shared.faults.meet(&statement.source);
        let cut = match fault {
            Some(Fault::Fail(refusal)) => return Err(refusal.into()),
            Some(Fault::CutBefore) => return Err(Failure::Gone),
            Some(Fault::CutAfter) => true,
            None => false,
        };
        let plan = Plan::read(&statement.tokens);
        if self.backend.status == b'E' && !plan.as_ref().is_ok_and(Plan::ends) {
            return Err(aborted().into());
        }
        self.shared.note_names(&statement.long_names).await?;
        self.run(plan?).await?;
        if cut {
            self.commit_implicit().await?;
            return Err(Failure::Gone);
        }
        Ok(())
    }

    async fn run(&mut self, plan: Plan) -> Result<(), Failure> {
        match plan {
            Plan::Begin(sql) => {
                if self.implicit {
                    self.implicit = false;
                    self.complete = Some(completed("BEGIN"));
                } else {
                    self.relay(&sql).await?;
                }
                Ok(())
            }
            Plan::Commit => {
                self.commit().await?;
                self.implicit = false;
                Ok(())
            }
            Plan::Rollback => {
                self.transaction = None;
                self.implicit = false;
                self.relay("ROLLBACK").await
            }
            Plan::Setting(setting) => self.setting(setting).await,
            Plan::Work(work) => {
                self.work(&work.sql, &work.reads, work.writes.as_deref())
                    .await
            }
            Plan::CreateTable(create) => self.create_table(&create).await,
            Plan::AlterTable(alter) => self.alter_table(&alter).await,
            Plan::Define(sql, tables) => {
                self.begin().await?;
                for table in tables {
                    self.note_write(&table.sql()).await?;
                }
                self.lock_definition(&sql).await?;
                self.relay(&sql).await
            }
            Plan::Truncate(table) => {
                self.begin().await?;
                self.note_write(&table.sql()).await?;
                self.relay(&format!("TRUNCATE {}", table.sql())).await?;
                // Redshift commits it, and with it whatever the transaction has done before.
                let complete = self.complete.take();
                self.commit().await?;
                self.implicit = false;
                self.complete = complete;
                Ok(())
            }
            Plan::Vacuum(table) => {
                if self.backend.status != b'I' {
                    return Err(in_transaction("VACUUM").into());
                }
                let table = table.map(|table| table.sql()).unwrap_or_default();
                self.relay(&format!("VACUUM {table}")).await
            }
            Plan::Lock(tables) => {
                if self.backend.status == b'I' || self.implicit {
                    let refusal = "LOCK TABLE can only be used in transaction blocks";
                    return Err(Refusal::new("25P01", refusal).into());
                }
                let names: Vec<_> = tables.iter().map(|table| table.sql()).collect();
                let names = names.join(", ");
                self.relay(&format!("LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"))
                    .await
            }
            Plan::Copy(copy) => self.copy(&copy).await,
        }
    }

    /// Runs a statement and holds back that it is complete.
    pub(super) async fn relay(&mut self, sql: &str) -> Result<(), Failure> {
        let names = &self.shared.names;
        self.complete = self.backend.relay(sql, &mut self.client, names).await?;
        Ok(())
    }

    /// Begins a transaction where none is open, and takes its snapshot. As in Redshift, `BEGIN` and `LOCK` take none.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        if self.backend.status == b'I' {
            self.backend
                .query("BEGIN ISOLATION LEVEL REPEATABLE READ")
                .await?;
            self.implicit = true;
        }
        if self.transaction.is_none() {
            let _gate = self.shared.transactions.gate.lock().await;
            self.backend.query("SELECT 1").await?;
            self.transaction = Some(Transaction::begin(&self.shared.transactions));
        }
        Ok(())
    }

    /// Commits, unless isolation is violated, and holds back that it is complete where the client has asked for it.
    async fn commit(&mut self) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let gate = shared.transactions.gate.lock().await;
        let open = self.backend.status == b'T';
        let transaction = self.transaction.take();
        if let Some(refusal) = transaction
            .as_ref()
            .filter(|_| open)
            .and_then(|transaction| transaction.check().err())
        {
            drop(gate);
            self.backend.query("ROLLBACK").await?;
            return Err(refusal.into());
        }
        if self.implicit {
            self.backend.query("COMMIT").await?;
        } else {
            self.relay("COMMIT").await?;
        }
        if let Some(transaction) = transaction.filter(|_| open) {
            transaction.committed();
        }
        drop(gate);
        Ok(())
    }

    async fn setting(&mut self, setting: Setting) -> Result<(), Failure> {
        match setting {
            Setting::Forward(sql) => return self.relay(&sql).await,
            Setting::Set(name, value) => {
                self.settings.set(name, value);
                self.complete = Some(completed("SET"));
            }
            Setting::Reset(name) => {
                self.settings.reset(&name);
                self.complete = Some(completed("RESET"));
            }
            Setting::Show(name) => {
                let value = literal(&self.settings.get(&name));
                self.relay(&format!("SELECT {value} AS {name}")).await?;
                self.complete = Some(completed("SHOW"));
            }
        }
        Ok(())
    }

    async fn work(
        &mut self,
        sql: &str,
        reads: &[String],
        writes: Option<&str>,
    ) -> Result<(), Failure> {
        if writes.is_none() && self.backend.status == b'I' {
            // A query alone can be part of no cycle.
            return self.relay(sql).await;
        }
        self.begin().await?;
        self.note_reads(reads).await?;
        if let Some(table) = writes {
            self.note_write(table).await?;
        }
        self.relay(sql).await
    }

    /// Notes the tables that are read.
    pub(super) async fn note_reads(&mut self, reads: &[String]) -> Result<(), Failure> {
        if reads.is_empty() {
            return Ok(());
        }
        let tables = self.tables(reads).await?;
        if let Some(transaction) = &mut self.transaction {
            transaction.reads(tables);
        }
        Ok(())
    }

    /// Notes a table that is written, and waits for others who write it.
    pub(super) async fn note_write(&mut self, name: &str) -> Result<(), Failure> {
        for table in self.tables(&[name.to_owned()]).await? {
            self.backend
                .query(&format!("SELECT {SCHEMA}.lock_for_writing({table})"))
                .await?;
            if let Some(transaction) = &mut self.transaction {
                transaction.writes(table);
            }
        }
        Ok(())
    }

    /// The identifiers of those tables that other sessions see as well.
    async fn tables(&mut self, names: &[String]) -> Result<Vec<u32>, Failure> {
        let names: Vec<_> = names
            .iter()
            .map(|name| format!("to_regclass({})", literal(name)))
            .collect();
        let rows = self
            .backend
            .query(&format!(
                "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.oid IN ({}) AND c.relkind = 'r' AND c.relpersistence = 'p' \
                 AND n.nspname NOT IN ('pg_catalog', 'information_schema', '{SCHEMA}')",
                names.join(", ")
            ))
            .await?;
        let tables = rows.into_iter().flatten().flatten();
        Ok(tables.filter_map(|table| table.parse().ok()).collect())
    }

    /// Makes those wait who define the same thing at the same time, where PostgreSQL would fail one of them.
    pub(super) async fn lock_definition(&mut self, what: &str) -> Result<(), Failure> {
        let what = literal(what);
        self.backend
            .query(&format!(
                "SELECT pg_advisory_xact_lock(hashtextextended({what}, 0))"
            ))
            .await?;
        Ok(())
    }

    /// Passes a message of the server on.
    pub(super) async fn pass(&mut self, frame: Frame) -> Result<(), Failure> {
        pass(frame, &mut self.client, &self.shared.names).await?;
        Ok(())
    }
}

/// `CommandComplete`.
pub(super) fn completed(tag: &str) -> Frame {
    Frame::new(b'C', terminated(tag))
}

pub(super) fn in_transaction(what: &str) -> Refusal {
    Refusal::new(
        "25001",
        format!("{what} cannot run inside a transaction block"),
    )
}

pub(super) fn aborted() -> Refusal {
    Refusal::new(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
