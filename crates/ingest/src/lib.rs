//! Change events that somebody pushes, such as a function of Atlas over HTTP, as a source like any other.
//!
//! An [`Intake`] is where they come in: it looks who pushes (`access`), reads the request (`body`), checks each
//! event (`check`) and appends all of them to an [`EventLog`], or none. What it has acknowledged is on the disk.
//! [`IngestSource`] and [`IngestEvents`] follow a log, as tables and triggers want it.
//!
//! Positions: each event has a number that is a moment, the one at which it arrived in seconds and an ordinal
//! within it, as cluster times have them, so that the age of a position says something. The number is the
//! position's cluster time, and in hexadecimal its token; the log's own id stands for the deployment. Numbers
//! never go back, whatever the clock does, and there is one between any two that no event has: a position
//! there is behind the one and before the other, also where only its time is known. The cluster time of an
//! event in the deployment that it comes from stays in its document.
//!
//! Order: that of arrival. Events of one document that are pushed side by side may arrive in another order
//! than they happened in. One that is older than what has arrived of its document before, by its own cluster
//! time and resume token, is *late*: triggers get it as it arrived, and tables pass it over, so that no newer
//! row is overwritten.
//!
//! Duplicates: an event whose `_id` is in the log is acknowledged and not appended again. What the log has
//! forgotten it no longer recognises, neither as a duplicate nor as late.

mod access;
mod body;
mod changes;
mod check;
mod cursor;
mod events;
mod fields;
mod intake;
mod log;
#[cfg(test)]
mod tests;

pub use access::Access;
pub use changes::IngestSource;
pub use check::{CheckedEvent, check};
pub use events::IngestEvents;
pub use intake::{Fault, Intake, Refused};
pub use log::{Appended, Beginning, EventLog, LogOptions};
