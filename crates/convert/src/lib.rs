//! BSON to Arrow and back: schema inference, evolution, type mapping.

/// A bounds-checked cursor over the bytes of BSON documents.
pub mod raw;

/// MongoDB Extended JSON (v2), written from and read into BSON bytes.
pub mod extjson;
