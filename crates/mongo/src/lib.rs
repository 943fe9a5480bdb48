//! The MongoDB adapter: snapshot reader and deployment inspection.
