//! What happens on an account in a month. Merchants are invented.

use std::ops::Range;

use rand::Rng;

use super::AccountType;
use super::places::{PLACES, Place};
use crate::text;

/// One transaction; amounts that leave the account are negative.
pub(super) struct Posting {
    /// Milliseconds since 1970.
    pub(super) at: i64,
    pub(super) cents: i64,
    pub(super) description: String,
    pub(super) category: &'static str,
    pub(super) merchant: &'static str,
    pub(super) channel: &'static str,
    pub(super) location: &'static str,
}

/// Where money is spent: name, category, channel, and the least and the most that a purchase costs, in cents.
type Merchant = (&'static str, &'static str, &'static str, i64, i64);

const MERCHANTS: [Merchant; 32] = [
    ("Green Basket", "groceries", "pos", 400, 14_000),
    ("Harbour Market", "groceries", "pos", 350, 11_000),
    ("Kornblume Bio", "groceries", "pos", 600, 9_000),
    ("Casa Fresca", "groceries", "pos", 500, 12_500),
    ("Brødhuset", "groceries", "pos", 220, 1_800),
    ("Café Morgenrot", "dining", "pos", 280, 2_400),
    ("Bistro Lumière", "dining", "pos", 1_400, 9_500),
    ("Noodle Yard", "dining", "pos", 900, 3_600),
    ("Taverna Azul", "dining", "pos", 1_600, 8_800),
    ("Plateful Delivery", "dining", "mobile", 1_200, 5_200),
    ("Northline Rail", "transport", "mobile", 250, 9_800),
    ("CityLoop Transit", "transport", "mobile", 210, 640),
    ("Voltaro Charging", "transport", "pos", 800, 4_200),
    ("Pedalo Bikes", "transport", "mobile", 100, 900),
    ("Fernweh Travel", "travel", "online", 8_000, 90_000),
    ("Hotel Seeblick", "travel", "pos", 9_000, 48_000),
    ("Skybridge Air", "travel", "online", 5_900, 42_000),
    ("Bookbinder & Daughters", "shopping", "pos", 790, 6_500),
    ("Loom & Thread", "shopping", "pos", 1_900, 18_000),
    ("Pixelhaus Electronics", "shopping", "online", 1_500, 75_000),
    ("Everyday Depot", "shopping", "online", 500, 15_000),
    ("Fjordmöbler", "shopping", "online", 4_900, 60_000),
    ("Apotheke am Ring", "health", "pos", 390, 5_800),
    ("Brightsmile Dental", "health", "branch", 4_500, 32_000),
    ("Pulse Gym", "health", "direct-debit", 2_490, 5_990),
    ("Streamly", "entertainment", "online", 799, 1_799),
    ("Kino Palast", "entertainment", "pos", 900, 3_800),
    ("Arcadia Games", "entertainment", "online", 499, 6_999),
    (
        "Stadtwerke Nord",
        "utilities",
        "direct-debit",
        3_800,
        16_500,
    ),
    ("Clearwave Mobile", "utilities", "direct-debit", 999, 4_999),
    ("Lumen Fibre", "utilities", "direct-debit", 2_999, 5_999),
    (
        "Aurora Insurance",
        "insurance",
        "direct-debit",
        1_500,
        12_000,
    ),
];

const EMPLOYERS: [&str; 5] = [
    "Meridian Logistics",
    "Hartwell & Sons",
    "Blue Fern Studio",
    "Novatec Labor",
    "Alto Health",
];

/// The account's 50 to 200 transactions of a month, by time. Their amounts add up to `change`.
pub(super) fn postings(
    rng: &mut impl Rng,
    account_type: AccountType,
    home: &'static Place,
    month: Range<i64>,
    change: i64,
) -> Vec<Posting> {
    let count = rng.random_range(50..=200);
    let mut postings = Vec::with_capacity(count);
    if account_type == AccountType::Checking {
        postings.push(salary(rng, home, &month));
    }
    while postings.len() + 1 < count {
        postings.push(match account_type {
            AccountType::Savings => round_up(rng, home, &month),
            _ => purchase(rng, home, &month),
        });
    }
    let rest = change - postings.iter().map(|posting| posting.cents).sum::<i64>();
    postings.push(settlement(rng, account_type, home, &month, rest));
    postings.sort_by_key(|posting| posting.at);
    postings
}

fn salary(rng: &mut impl Rng, home: &Place, month: &Range<i64>) -> Posting {
    let employer = *text::pick(rng, &EMPLOYERS);
    Posting {
        at: month.start + 24 * crate::identity::DAY + rng.random_range(0..3_600_000),
        cents: rng.random_range(210_000..680_000),
        description: format!("Salary {employer}"),
        category: "income",
        merchant: employer,
        channel: "transfer",
        location: home.city,
    }
}

fn purchase(rng: &mut impl Rng, home: &Place, month: &Range<i64>) -> Posting {
    let &(merchant, category, channel, least, most) = text::pick(rng, &MERCHANTS);
    // Small purchases are more frequent than big ones: the square of a number below 1 is mostly small.
    let weight: f64 = rng.random();
    let cents = least + ((most - least) as f64 * weight * weight) as i64;
    let refund = rng.random_bool(0.02);
    let location = match channel {
        "online" | "direct-debit" => "online",
        _ if rng.random_bool(0.1) => text::pick(rng, &PLACES).city,
        _ => home.city,
    };
    Posting {
        at: rng.random_range(month.clone()),
        cents: if refund { cents } else { -cents },
        description: match (refund, channel) {
            (true, _) => format!("Refund {merchant}"),
            (_, "direct-debit") => format!("Direct debit {merchant}"),
            _ => format!("{merchant} {location}"),
        },
        category,
        merchant,
        channel,
        location,
    }
}

fn round_up(rng: &mut impl Rng, home: &Place, month: &Range<i64>) -> Posting {
    Posting {
        at: rng.random_range(month.clone()),
        cents: rng.random_range(1..500),
        description: "Round-up saving".to_owned(),
        category: "savings",
        merchant: "Own account",
        channel: "mobile",
        location: home.city,
    }
}

/// The transfer that makes the month add up.
fn settlement(
    rng: &mut impl Rng,
    account_type: AccountType,
    home: &Place,
    month: &Range<i64>,
    cents: i64,
) -> Posting {
    let description = match (account_type, cents < 0) {
        (AccountType::Credit, false) => "Card payment, thank you",
        (_, false) => "Transfer from own account",
        (_, true) => "Transfer to own account",
    };
    Posting {
        at: rng.random_range(month.clone()),
        cents,
        description: description.to_owned(),
        category: "transfer",
        merchant: "Own account",
        channel: "transfer",
        location: home.city,
    }
}
