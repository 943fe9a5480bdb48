//! Documents with nested documents, an array of documents and an array of strings.

use bson::raw::{RawArrayBuf, cstr};
use bson::{RawDocumentBuf, oid::ObjectId};
use rand::Rng;

use crate::{flat, identity, money, text};

const TAGS: [&str; 10] = [
    "bulk", "fragile", "gift", "new", "online", "priority", "retail", "return", "sale", "vip",
];

/// About 600 bytes: the fields of the flat documents, `address`, `items` (1 to 7) and `tags` (0 to 4).
pub(crate) fn document(seed: u64, index: u64, rng: &mut impl Rng) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), identity::object_id(seed, index));
    flat::append_fields(&mut document, index, rng);
    document.append(cstr!("address"), address(rng));
    let mut items = RawArrayBuf::new();
    for _ in 0..rng.random_range(1..=7) {
        items.push(item(rng));
    }
    document.append(cstr!("items"), items);
    let mut tags = RawArrayBuf::new();
    for _ in 0..rng.random_range(0..=4) {
        tags.push(*text::pick(rng, &TAGS));
    }
    document.append(cstr!("tags"), tags);
    document
}

fn address(rng: &mut impl Rng) -> RawDocumentBuf {
    let mut location = RawDocumentBuf::new();
    location.append(cstr!("lat"), rng.random_range(-60.0..60.0));
    location.append(cstr!("lon"), rng.random_range(-180.0..180.0));
    let mut address = RawDocumentBuf::new();
    address.append(cstr!("street"), text::words(rng, 1));
    address.append(cstr!("number"), rng.random_range(1..300_i32));
    address.append(
        cstr!("postalCode"),
        format!("{:05}", rng.random_range(1000..100_000)),
    );
    address.append(cstr!("location"), location);
    address
}

fn item(rng: &mut impl Rng) -> RawDocumentBuf {
    let mut item = RawDocumentBuf::new();
    item.append(cstr!("sku"), ObjectId::from_bytes(rng.random()));
    item.append(cstr!("count"), rng.random_range(1..20_i32));
    item.append(cstr!("price"), money::decimal(rng.random_range(99..50_000)));
    item
}
