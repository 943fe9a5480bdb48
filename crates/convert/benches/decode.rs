//! How fast documents become columns, on one core: `cargo bench -p tributary-convert`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark of broken code has nothing to measure"
)]

use divan::Bencher;
use divan::counter::BytesCount;
use tributary_convert::{Decoder, Naming};
use tributary_demodata::{Generator, Kind};

fn main() {
    divan::main();
}

fn documents(kind: Kind, bytes: u64) -> Vec<Vec<u8>> {
    let generator = Generator::new(kind, 1);
    (0..bytes / kind.typical_bytes())
        .map(|i| generator.document(i).into_bytes())
        .collect()
}

/// Batches of 4 MB, as the writer makes them.
#[divan::bench(args = [Kind::Flat, Kind::Nested, Kind::Wide, Kind::Sized4K, Kind::Banking])]
fn decode(bencher: Bencher<'_, '_>, kind: Kind) {
    let documents = documents(kind, 4 << 20);
    let bytes: usize = documents.iter().map(Vec::len).sum();
    let mut decoder = Decoder::default();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        for document in &documents {
            decoder
                .append(document)
                .expect("generated documents are BSON");
        }
        decoder
            .finish(Naming::Logical)
            .expect("columns fit together")
    });
}
