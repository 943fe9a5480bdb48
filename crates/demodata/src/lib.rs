//! Deterministic documents for demonstrations, tests and benchmarks.
//!
//! A [`Generator`] makes documents one at a time, without I/O. Document number *i* depends on the kind, the seed and
//! *i* alone, so documents can be made in parallel, in any order, and a run can be continued where another one ended.
//! [`load`](load()) inserts them into a collection.

mod banking;
mod everything;
mod flat;
mod identity;
mod load;
mod money;
mod nested;
mod sized;
mod text;
mod wide;

use std::fmt;
use std::str::FromStr;

use bson::RawDocumentBuf;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use load::{LoadOptions, LoadReport, Progress, load};

/// What the documents look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bank account statements of 50 to 200 transactions each, whose balances add up to the cent.
    Banking,
    /// About 225 bytes in a dozen fields of the everyday types, one of which is missing in 30 % of the documents.
    Flat,
    /// About 600 bytes: the fields of [`Kind::Flat`], nested documents and arrays.
    Nested,
    /// 500 fields.
    Wide,
    /// About 4 KiB, most of it text and numbers that hardly compress.
    Sized4K,
    /// About 250 KiB, most of it text and numbers that hardly compress.
    Sized250K,
    /// Every BSON type and the odd cases: mixed types in one field, values outside the usual ranges, odd names.
    Everything,
}

impl Kind {
    /// Every kind, in the order in which help texts should list them.
    pub const ALL: [Kind; 7] = [
        Kind::Banking,
        Kind::Flat,
        Kind::Nested,
        Kind::Wide,
        Kind::Sized4K,
        Kind::Sized250K,
        Kind::Everything,
    ];

    /// The name that [`FromStr`] accepts: `banking`, `flat`, `nested`, `wide`, `4k`, `250k` or `everything`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Banking => "banking",
            Kind::Flat => "flat",
            Kind::Nested => "nested",
            Kind::Wide => "wide",
            Kind::Sized4K => "4k",
            Kind::Sized250K => "250k",
            Kind::Everything => "everything",
        }
    }

    /// The usual size of one document in bytes, from which batches are planned.
    pub fn typical_bytes(self) -> u64 {
        match self {
            Kind::Banking => 40_000,
            Kind::Flat => 225,
            Kind::Nested => 600,
            Kind::Wide => 10_000,
            Kind::Sized4K => 4 * 1024,
            Kind::Sized250K => 250 * 1024,
            Kind::Everything => 1_350,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is not one of a [`Kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Kind::ALL.map(Kind::name).join(", ");
        write!(
            formatter,
            "unknown kind of documents {:?}; choose one of {names}",
            self.0
        )
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// Makes the documents of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    kind: Kind,
    seed: u64,
}

impl Generator {
    /// A generator of documents of `kind`. Another seed gives other documents with other `_id`s.
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, seed }
    }

    /// The kind of documents that it makes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Document number `index`: the same bytes whenever kind, seed and index are the same.
    ///
    /// `_id`s are unique for indexes below 2³² and rise with the index, as those of a driver do.
    pub fn document(&self, index: u64) -> RawDocumentBuf {
        let rng = &mut numbers(self.seed, index);
        match self.kind {
            Kind::Banking => banking::document(self.seed, index),
            Kind::Flat => flat::document(self.seed, index, rng),
            Kind::Nested => nested::document(self.seed, index, rng),
            Kind::Wide => wide::document(self.seed, index, rng),
            Kind::Sized4K | Kind::Sized250K => {
                sized::document(self.seed, index, rng, self.kind.typical_bytes() as usize)
            }
            Kind::Everything => everything::document(self.seed, index, rng),
        }
    }
}

/// Random numbers that belong to `seed` and `stream` alone.
fn numbers(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

#[cfg(test)]
mod tests;
