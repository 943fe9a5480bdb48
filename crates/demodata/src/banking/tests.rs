use std::collections::{HashMap, HashSet};

use bson::{Bson, Document};

use super::MONTHS;
use crate::{Generator, Kind};

fn statement(index: u64) -> Document {
    Document::try_from(Generator::new(Kind::Banking, 7).document(index)).unwrap()
}

/// The cents of a decimal with exactly two decimals.
fn cents(document: &Document, field: &str) -> i64 {
    let text = match document.get(field) {
        Some(Bson::Decimal128(value)) => value.to_string(),
        other => panic!("{field} is {other:?}"),
    };
    let (whole, fraction) = text.split_once('.').unwrap();
    assert_eq!(fraction.len(), 2, "{text}");
    format!("{whole}{fraction}").parse().unwrap()
}

#[test]
fn balances_add_up_to_the_cent() {
    for index in 0..300 {
        let statement = statement(index);
        let mut balance = cents(&statement, "openingBalance");
        let transactions = statement.get_array("transactions").unwrap();
        assert!(
            (50..=200).contains(&transactions.len()),
            "{}",
            transactions.len()
        );
        for transaction in transactions {
            let transaction = transaction.as_document().unwrap();
            let amount = cents(transaction, "amount");
            let expected = if amount < 0 { "debit" } else { "credit" };
            assert_eq!(transaction.get_str("type").unwrap(), expected);
            balance += amount;
            assert_eq!(cents(transaction, "runningBalance"), balance);
        }
        assert_eq!(cents(&statement, "closingBalance"), balance);
    }
}

#[test]
fn a_statement_opens_with_the_balance_that_the_one_before_closed_with() {
    let mut accounts = HashMap::new();
    for account in 0..50 {
        let statements: Vec<Document> = (0..MONTHS)
            .map(|month| statement(account * MONTHS + month))
            .collect();
        for pair in statements.windows(2) {
            for field in [
                "accountNumber",
                "accountType",
                "accountHolder",
                "branch",
                "currency",
            ] {
                assert_eq!(pair[0].get(field), pair[1].get(field));
            }
            assert_eq!(
                cents(&pair[0], "closingBalance"),
                cents(&pair[1], "openingBalance")
            );
            let end = pair[0]
                .get_document("statementPeriod")
                .unwrap()
                .get_datetime("endDate")
                .unwrap();
            let start = pair[1]
                .get_document("statementPeriod")
                .unwrap()
                .get_datetime("startDate")
                .unwrap();
            assert_eq!(end.timestamp_millis() + 1, start.timestamp_millis());
        }
        let number = statements[0].get_str("accountNumber").unwrap().to_owned();
        assert_eq!(number.len(), 13);
        assert!(number.starts_with("SG-"));
        assert_eq!(accounts.insert(number, account), None);
    }
}

#[test]
fn transactions_lie_in_the_period_and_follow_one_another() {
    for index in 0..60 {
        let statement = statement(index);
        let period = statement.get_document("statementPeriod").unwrap();
        let mut earliest = *period.get_datetime("startDate").unwrap();
        for transaction in statement.get_array("transactions").unwrap() {
            let date = *transaction
                .as_document()
                .unwrap()
                .get_datetime("date")
                .unwrap();
            assert!(earliest <= date);
            earliest = date;
        }
        assert!(earliest <= *period.get_datetime("endDate").unwrap());
    }
}

#[test]
fn the_second_line_of_an_address_is_missing_for_some() {
    let lines: HashSet<bool> = (0..20)
        .map(|account| statement(account * MONTHS))
        .map(|statement| {
            let holder = statement.get_document("accountHolder").unwrap();
            holder
                .get_document("address")
                .unwrap()
                .contains_key("line2")
        })
        .collect();
    assert_eq!(lines.len(), 2);
}
