//! Small documents of the everyday types, without nesting.

use bson::RawDocumentBuf;
use bson::raw::cstr;
use rand::Rng;

use crate::{identity, money, text};

const STATUSES: [&str; 5] = ["new", "active", "paused", "closed", "archived"];
const COUNTRIES: [&str; 8] = ["AT", "CH", "DE", "ES", "FR", "GB", "PL", "SE"];
const DOMAINS: [&str; 4] = ["example.com", "example.net", "example.org", "mail.example"];

/// About 225 bytes.
pub(crate) fn document(seed: u64, index: u64, rng: &mut impl Rng) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), identity::object_id(seed, index));
    append_fields(&mut document, index, rng);
    document
}

/// Appends every field but the `_id`. `note` is missing in 30 % of the documents.
pub(crate) fn append_fields(document: &mut RawDocumentBuf, index: u64, rng: &mut impl Rng) {
    let name = text::words(rng, 2);
    let mailbox = name.replace(' ', ".");
    document.append(cstr!("sequence"), index as i64);
    document.append(cstr!("quantity"), rng.random_range(1..10_000_i32));
    document.append(cstr!("status"), *text::pick(rng, &STATUSES));
    document.append(cstr!("name"), name.as_str());
    document.append(
        cstr!("email"),
        format!("{mailbox}@{}", text::pick(rng, &DOMAINS)),
    );
    document.append(cstr!("country"), *text::pick(rng, &COUNTRIES));
    document.append(
        cstr!("createdAt"),
        identity::created_at(index, rng.random()),
    );
    document.append(cstr!("score"), rng.random_range(0.0..100.0));
    document.append(cstr!("active"), rng.random_bool(0.8));
    document.append(
        cstr!("amount"),
        money::decimal(rng.random_range(-100_000..10_000_000)),
    );
    if rng.random_bool(0.7) {
        document.append(cstr!("note"), text::words(rng, 2));
    }
}
