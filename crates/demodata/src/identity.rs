//! Identifiers and times that depend on the seed and the index.

use bson::DateTime;
use bson::oid::ObjectId;

/// 2025-01-01T00:00:00Z in milliseconds: nothing in the documents depends on the clock.
pub(crate) const EPOCH: i64 = 1_735_689_600_000;

/// One day in milliseconds.
pub(crate) const DAY: i64 = 86_400_000;

/// The `_id` of document `index`: as a process would have made it that inserts 1,000 documents a second.
pub(crate) fn object_id(seed: u64, index: u64) -> ObjectId {
    let seconds = (EPOCH / 1000) as u64 + index / 1000;
    let [a, b, c, d, ..] = mix(seed).to_le_bytes();
    let [low, middle, high, overflow, ..] = index.to_le_bytes();
    ObjectId::from_parts(seconds as u32, [a, b, c, d, overflow], [high, middle, low])
}

/// When document `index` was created, one every 250 ms with some jitter below that.
pub(crate) fn created_at(index: u64, jitter: u8) -> DateTime {
    let elapsed = (index % (1 << 40)) as i64 * 250;
    DateTime::from_millis(EPOCH + elapsed + i64::from(jitter % 250))
}

/// The finaliser of SplitMix64: neighbouring numbers become unrelated ones, and no two become the same.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
