//! How much of one trigger runs at once: events, and dead letters beside them.

use std::sync::Arc;

use futures::future::Either;
use tokio::sync::{
    OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore,
};

use super::{Occasion, Trigger};
use crate::script::{FailureKind, Outcome};

/// The places of what runs at once.
#[derive(Debug, Clone)]
pub(super) struct Room {
    places: Arc<Semaphore>,
    company: Arc<RwLock<()>>,
}

/// A place, until it is dropped.
pub(super) type Place = OwnedSemaphorePermit;
/// That a run may have others beside it, or has none, until it is dropped.
pub(super) type Company = Either<OwnedRwLockReadGuard<()>, OwnedRwLockWriteGuard<()>>;

impl Room {
    pub(super) fn of(trigger: &Trigger) -> Self {
        Self {
            places: Arc::new(Semaphore::new(at_once(trigger))),
            company: Arc::default(),
        }
    }

    /// A place where one is free.
    pub(super) fn try_enter(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place; who waits longest gets it.
    pub(super) async fn enter(&self) -> Place {
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(place) => place,
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until a run may begin beside others, or until no other runs.
    pub(super) async fn company(&self, is_alone: bool) -> Company {
        let company = Arc::clone(&self.company);
        match is_alone {
            true => Either::Right(company.write_owned().await),
            false => Either::Left(company.read_owned().await),
        }
    }
}

/// Whether a run may have ended because of those beside it, which took the memory of its thread.
pub(super) fn may_be_of_others(outcome: &Outcome) -> bool {
    matches!(&outcome.result, Err(failure) if matches!(failure.kind, FailureKind::Lost | FailureKind::OutOfMemory))
}

/// How many runs of a trigger there are at once.
pub(super) fn at_once(trigger: &Trigger) -> usize {
    match &trigger.occasion {
        Occasion::Change { selection, .. } if selection.unordered => {
            trigger.policy.concurrency.clamp(1, Semaphore::MAX_PERMITS)
        }
        _ => 1,
    }
}
