//! Tests of the conversions, in one binary.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod arbitrary;
mod content;
mod extjson_cases;
mod extjson_properties;
mod extjson_reading;
mod key;
mod raw;
mod roundtrip;
