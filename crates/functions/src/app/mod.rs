//! The directory of an application, as App Services exports it.
