//! The MongoDB adapter, and the only user of its driver: snapshots of collections, their
//! changes, and what there is to know of a deployment.

mod changes;
mod connect;
mod error;
mod inspect;
mod lookup;
mod partition;
mod selection;
mod snapshot;
mod updated;

pub use connect::{Connection, ReadFrom};
pub use inspect::{CollectionReport, DeploymentReport, Finding, InspectOptions, OplogWindow};
pub use selection::{Selection, SelectionOptions};
pub use snapshot::MongoSource;
