//! What one file says is to run, and that it runs: flows, jobs, schedules, their history, and alerts.
//!
//! [`config::Plan`] is the file, read and checked. An [`Orchestrator`] runs it: each flow is kept going by
//! itself, jobs are begun when it is time for them or something happened, and what became of them is kept
//! in a [`Store`]. What moves data is an [`engine::Engine`], and what runs triggers an [`engine::TriggerHost`],
//! which the caller brings; what others may ask and do is [`control::Control`].

mod alerts;
mod command;
pub mod config;
pub mod control;
mod deliver;
mod ended;
pub mod engine;
mod flows;
mod jobs;
mod numbers;
mod objects;
mod orchestrator;
mod runs;
mod schedule;
pub mod status;
mod steering;
mod store;
mod triggers;
mod watch;

pub use jobs::Jobs;
pub use orchestrator::{Orchestrator, Setup, test_alerts};
pub use store::{RunnerLock, Store};
pub use triggers::Triggers;
