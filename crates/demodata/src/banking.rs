//! Statements of bank accounts, `banking_odl.account_statements`: one account and one month each.
//!
//! Six consecutive statements belong to one account, and each opens with the balance that the one before closed with.

mod holder;
mod places;
mod transaction;

#[cfg(test)]
mod tests;

use bson::raw::{RawArrayBuf, cstr};
use bson::{DateTime, RawDocumentBuf};
use rand::Rng;

use crate::identity::{self, DAY, EPOCH};
use crate::money::decimal;
use crate::{numbers, text};
use holder::Holder;
use places::Place;
use transaction::Posting;

/// How many statements an account has: January to June 2025.
const MONTHS: u64 = 6;

/// The days of those months.
const MONTH_DAYS: [i64; MONTHS as usize] = [31, 28, 31, 30, 31, 30];

/// Keeps the numbers of accounts apart from those of statements.
const ACCOUNTS: u64 = 0x6163_636f_756e_7473;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AccountType {
    Savings,
    Checking,
    Credit,
}

impl AccountType {
    fn name(self) -> &'static str {
        match self {
            AccountType::Savings => "savings",
            AccountType::Checking => "checking",
            AccountType::Credit => "credit",
        }
    }
}

/// What the statements of one account share.
struct Account {
    number: u64,
    holder: Holder,
    account_type: AccountType,
    place: &'static Place,
    branch: u32,
    /// The balance in cents at the start of each month, and at the end of the last.
    balances: [i64; MONTHS as usize + 1],
}

impl Account {
    fn new(seed: u64, index: u64) -> Self {
        let rng = &mut numbers(seed ^ ACCOUNTS, index);
        let place = text::pick(rng, &places::PLACES);
        let account_type = match rng.random_range(0..10_u8) {
            0..6 => AccountType::Checking,
            6..8 => AccountType::Savings,
            _ => AccountType::Credit,
        };
        let (opening, change) = match account_type {
            AccountType::Checking => (50_000..800_000, -80_000..120_000),
            AccountType::Savings => (200_000..5_000_000, 1_000..90_000),
            AccountType::Credit => (-250_000..-20_000, -30_000..25_000),
        };
        let mut balances = [rng.random_range(opening); MONTHS as usize + 1];
        for month in 1..balances.len() {
            balances[month] = balances[month - 1] + rng.random_range(change.clone());
        }
        Self {
            number: account_number(seed, index),
            holder: Holder::new(rng, place),
            account_type,
            place,
            branch: rng.random_range(1..=9),
            balances,
        }
    }
}

/// Ten digits that differ for every account below 10^10: multiplying by a number coprime to 10^10 is a permutation.
fn account_number(seed: u64, account: u64) -> u64 {
    const NUMBERS: u64 = 10_000_000_000;
    let product = u128::from(account) * 7_234_567_891 + u128::from(identity::mix(seed));
    (product % u128::from(NUMBERS)) as u64
}

/// Statement number `index`.
pub(crate) fn document(seed: u64, index: u64) -> RawDocumentBuf {
    let account = Account::new(seed, index / MONTHS);
    let month = (index % MONTHS) as usize;
    let start = EPOCH + MONTH_DAYS[..month].iter().sum::<i64>() * DAY;
    let end = start + MONTH_DAYS[month] * DAY;
    let (opening, closing) = (account.balances[month], account.balances[month + 1]);
    let rng = &mut numbers(seed, index);

    let postings = transaction::postings(
        rng,
        account.account_type,
        account.place,
        start..end,
        closing - opening,
    );
    let mut balance = opening;
    let mut transactions = RawArrayBuf::new();
    for (position, posting) in postings.iter().enumerate() {
        balance += posting.cents;
        transactions.push(transaction_document(rng, index, position, posting, balance));
    }

    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), identity::object_id(seed, index));
    document.append(cstr!("accountNumber"), format!("SG-{:010}", account.number));
    document.append(cstr!("accountHolder"), account.holder.document());
    document.append(cstr!("accountType"), account.account_type.name());
    document.append(cstr!("branch"), account.place.branch(account.branch));
    document.append(cstr!("currency"), account.place.currency);
    let mut period = RawDocumentBuf::new();
    period.append(cstr!("startDate"), DateTime::from_millis(start));
    period.append(cstr!("endDate"), DateTime::from_millis(end - 1));
    document.append(cstr!("statementPeriod"), period);
    document.append(cstr!("openingBalance"), decimal(opening));
    document.append(cstr!("closingBalance"), decimal(balance));
    document.append(cstr!("transactions"), transactions);
    let mut metadata = RawDocumentBuf::new();
    let generated = end + rng.random_range(0..6 * 3_600_000);
    metadata.append(cstr!("generatedAt"), DateTime::from_millis(generated));
    metadata.append(cstr!("version"), rng.random_range(1..=3_i32));
    metadata.append(
        cstr!("source"),
        *text::pick(rng, &["core-banking", "card-ledger"]),
    );
    document.append(cstr!("statementMetadata"), metadata);
    document
}

fn transaction_document(
    rng: &mut impl Rng,
    index: u64,
    position: usize,
    posting: &Posting,
    balance: i64,
) -> RawDocumentBuf {
    let mut metadata = RawDocumentBuf::new();
    metadata.append(cstr!("channel"), posting.channel);
    metadata.append(cstr!("location"), posting.location);
    let mut document = RawDocumentBuf::new();
    document.append(
        cstr!("transactionId"),
        format!("TX{index:010}{position:03}"),
    );
    document.append(cstr!("date"), DateTime::from_millis(posting.at));
    document.append(cstr!("description"), posting.description.as_str());
    document.append(cstr!("amount"), decimal(posting.cents));
    document.append(
        cstr!("type"),
        if posting.cents < 0 { "debit" } else { "credit" },
    );
    document.append(cstr!("category"), posting.category);
    document.append(cstr!("merchant"), posting.merchant);
    document.append(
        cstr!("referenceNumber"),
        format!("REF{:012}", rng.random_range(0..1_000_000_000_000_u64)),
    );
    document.append(cstr!("runningBalance"), decimal(balance));
    document.append(cstr!("metadata"), metadata);
    document
}
