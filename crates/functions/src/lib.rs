//! Triggers and functions with the semantics of MongoDB Atlas.
//!
//! An [`app`] is a directory as App Services exports it: triggers, functions in JavaScript, values, services and
//! endpoints. A [`script`] runs its functions, on threads of their own and within limits, and what they reach
//! beyond themselves is a [`services::Services`]. A [`trigger`] has them run for events and at
//! moments, an [`endpoint`] for requests over HTTP.

pub mod app;
pub mod endpoint;
pub mod script;
pub mod services;
pub mod trigger;
