//! BSON to Arrow and back: schema inference, evolution, type mapping.
