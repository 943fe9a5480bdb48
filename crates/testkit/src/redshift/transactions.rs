//! Serializable isolation by whole tables, as Redshift has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::refusal::Refusal;

/// What the transactions of all sessions have read and written.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Held while a snapshot is taken or a transaction committed, so that the order noted here is the server's.
    pub(super) gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many transactions have been committed.
    clock: u64,
    last: u64,
    /// When those that are running took their snapshots.
    running: BTreeMap<u64, u64>,
    committed: Vec<Committed>,
}

#[derive(Debug)]
struct Committed {
    number: u64,
    at: u64,
    reads: BTreeSet<u32>,
    writes: BTreeSet<u32>,
}

impl Transactions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction that has taken its snapshot. Dropping it forgets it.
#[derive(Debug)]
pub(super) struct Transaction {
    all: Arc<Transactions>,
    number: u64,
    reads: BTreeSet<u32>,
    writes: BTreeSet<u32>,
}

impl Transaction {
    /// Notes that a snapshot has been taken; the gate is held.
    pub(super) fn begin(all: &Arc<Transactions>) -> Self {
        let mut state = all.state();
        state.last += 1;
        let (number, clock) = (state.last, state.clock);
        state.running.insert(number, clock);
        drop(state);
        Self {
            all: Arc::clone(all),
            number,
            reads: BTreeSet::new(),
            writes: BTreeSet::new(),
        }
    }

    pub(super) fn reads(&mut self, tables: impl IntoIterator<Item = u32>) {
        self.reads.extend(tables);
    }

    pub(super) fn writes(&mut self, table: u32) {
        self.writes.insert(table);
    }

    /// Error 1023 if one that committed since the snapshot wrote what this has read, and read what this has written.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let state = self.all.state();
        let Some(began) = state.running.get(&self.number) else {
            return Ok(());
        };
        for other in state.committed.iter().filter(|other| other.at > *began) {
            let mut tables = other.writes.intersection(&self.reads);
            if let Some(table) = tables.next()
                && !other.reads.is_disjoint(&self.writes)
            {
                return Err(violation(*table, &[other.number, self.number]));
            }
        }
        Ok(())
    }

    /// Error 1023 for a row that one which committed since the snapshot has changed, by PostgreSQL's word.
    pub(super) fn lost(&self) -> Refusal {
        let table = self.writes.last().copied().unwrap_or_default();
        violation(table, &[self.number])
    }

    /// Notes that the transaction has been committed; the gate is held.
    pub(super) fn committed(mut self) {
        let all = Arc::clone(&self.all);
        let mut state = all.state();
        state.clock += 1;
        let at = state.clock;
        state.running.remove(&self.number);
        state.committed.push(Committed {
            number: self.number,
            at,
            reads: std::mem::take(&mut self.reads),
            writes: std::mem::take(&mut self.writes),
        });
        let oldest = state.running.values().min().copied().unwrap_or(at);
        state.committed.retain(|each| each.at > oldest);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.all.state().running.remove(&self.number);
    }
}

fn violation(table: u32, transactions: &[u64]) -> Refusal {
    let numbers: Vec<_> = transactions.iter().map(u64::to_string).collect();
    Refusal::internal("1023").detail(format!(
        "Serializable isolation violation on table - {table}, transactions forming the cycle are: {}",
        numbers.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Transaction, Transactions};

    fn running(all: &Arc<Transactions>, reads: &[u32], writes: &[u32]) -> Transaction {
        let mut transaction = Transaction::begin(all);
        transaction.reads(reads.iter().copied());
        writes.iter().for_each(|table| transaction.writes(*table));
        transaction
    }

    #[test]
    fn only_cycles_between_concurrent_transactions_are_violations() {
        for (one, other, violated) in [
            ((&[1][..], &[1][..]), (&[1][..], &[1][..]), true),
            ((&[1], &[2]), (&[2], &[1]), true),
            ((&[], &[1]), (&[], &[1]), false),
            ((&[1], &[2]), (&[1], &[2]), false),
            ((&[1], &[1]), (&[], &[1]), false),
        ] {
            let all = Arc::default();
            let first = running(&all, one.0, one.1);
            let second = running(&all, other.0, other.1);
            first.committed();
            assert_eq!(second.check().is_err(), violated, "{one:?} {other:?}");
            drop(second);
            let later = running(&all, other.0, other.1);
            later.check().unwrap();
        }
    }
}
