//! Triggers with a source, a ledger and functions that do as they are told.

mod failures;
mod fakes;
mod letters;
mod order;
mod recursion;
mod schedule;
mod streams;
