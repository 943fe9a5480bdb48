//! Events that were too large for the server or the place, and went on without some fields.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tributary_model::Namespace;

use crate::observe::Observer;

/// How often it is told of a collection's: where one event is too large, many may be.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How many there were, by collection.
#[derive(Default)]
pub(super) struct Reduced(BTreeMap<Namespace, OfCollection>);

#[derive(Default)]
struct OfCollection {
    /// Of how many it is still to be told.
    untold: u64,
    told: Option<Instant>,
}

impl Reduced {
    /// Counts some more, and tells of the first at once.
    pub(super) fn count(&mut self, namespace: &Namespace, more: u64, observer: &dyn Observer) {
        let of = self.0.entry(namespace.clone()).or_default();
        of.untold += more;
        if of.told.is_none() {
            of.tell(namespace, observer);
        }
    }

    /// Tells of those that have waited long enough.
    pub(super) fn tell_due(&mut self, observer: &dyn Observer) {
        for (namespace, of) in &mut self.0 {
            if of.untold > 0 && of.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                of.tell(namespace, observer);
            }
        }
    }

    /// Tells of those that it has not been told of.
    pub(super) fn tell_all(&mut self, observer: &dyn Observer) {
        for (namespace, of) in &mut self.0 {
            if of.untold > 0 {
                of.tell(namespace, observer);
            }
        }
    }
}

impl OfCollection {
    fn tell(&mut self, namespace: &Namespace, observer: &dyn Observer) {
        let count = std::mem::take(&mut self.untold);
        self.told = Some(Instant::now());
        let what = format!(
            "{count} changes were too large, and were published without the fields that `_tributary.leftOut` of each names"
        );
        observer.happened(namespace, &what);
    }
}
