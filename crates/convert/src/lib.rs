//! BSON to Arrow and back: schema inference, evolution and type mapping.
//!
//! Pure code over bytes and arrays: no I/O, no runtime, no driver. [`decode::Decoder`] turns raw
//! BSON documents into Arrow columns whose schema grows as they are read; [`recast`] brings columns
//! written under an earlier schema to a later one; [`encode`] turns rows back into documents;
//! [`content`] tells whether a row and a document say the same; [`event`] makes events lighter.

pub mod arrow_schema;
pub mod content;
pub mod decode;
pub mod encode;
pub mod event;
pub mod extjson;
pub mod key;
pub mod raw;
pub mod recast;

pub use arrow_schema::Naming;
pub use content::Content;
pub use decode::{DecodedBatch, Decoder};
pub use key::Key;
