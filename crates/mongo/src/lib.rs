//! The MongoDB adapter, and the only user of its driver: snapshots of collections, their
//! changes and events, what functions do to single documents, and what there is to know of a
//! deployment.

mod changes;
mod connect;
mod documents;
mod error;
mod events;
mod inspect;
mod lookup;
mod partition;
mod selection;
mod snapshot;
mod updated;

pub use connect::{Connection, ReadFrom};
pub use documents::MongoDocuments;
pub use events::MongoEvents;
pub use inspect::{CollectionReport, DeploymentReport, Finding, InspectOptions, OplogWindow};
pub use selection::{Selection, SelectionOptions};
pub use snapshot::MongoSource;
