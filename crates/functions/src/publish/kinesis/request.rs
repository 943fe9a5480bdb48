//! Which records go together.

use std::collections::HashSet;

use super::record::Record;

/// What one request takes: records, and bytes of them with their keys. Kinesis has come to take more bytes, for
/// streams of larger records; one that is larger goes alone.
const MOST_RECORDS: usize = 500;
const MOST_BYTES: usize = 5 << 20;

/// The first records of which each has a key of its own and that fit into one request, and the others: both in
/// their order.
pub(super) fn next_request(records: Vec<Record>) -> (Vec<Record>, Vec<Record>) {
    let (mut request, mut rest) = (Vec::new(), Vec::new());
    let mut keys: HashSet<String> = HashSet::new();
    let mut bytes = 0;
    let mut is_full = false;
    for record in records {
        // A key that is left behind once stays behind.
        let is_next = keys.insert(record.key.clone());
        let fits = request.is_empty()
            || (request.len() < MOST_RECORDS && bytes + record.bytes() <= MOST_BYTES);
        is_full = is_full || (is_next && !fits);
        if is_next && !is_full {
            bytes += record.bytes();
            request.push(record);
        } else {
            rest.push(record);
        }
    }
    (request, rest)
}
