//! The function of `examples/materialized-view`: totals that are right whatever the order of events is, how many run
//! at once, and how often they come.

use std::collections::BTreeMap;

use bson::{Decimal128, Document, doc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{Collection, Database};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use tributary_functions::app::TriggerEvent;
use tributary_functions::script::Limits;

use super::changes::{events, with_pre_images};
use super::example;
use super::stage::Stage;

/// How often something happens to an order.
const CHANGES: usize = 160;
/// Few of both, so that changes meet.
const ORDERS: i32 = 20;
const CUSTOMERS: [&str; 4] = ["ada", "bob", "cyd", "dee"];
/// How many runs there are at once.
const AT_ONCE: usize = 12;

/// An amount with two places.
fn amount(random: &mut StdRng) -> Decimal128 {
    let cents: u32 = random.random_range(1..100_000);
    let text = format!("{}.{:02}", cents / 100, cents % 100);
    text.parse().unwrap()
}

fn customer(random: &mut StdRng) -> &'static str {
    CUSTOMERS.choose(random).unwrap()
}

/// Does something to an order that there is, or inserts it.
async fn change(orders: &Collection<Document>, random: &mut StdRng, number: usize) {
    let filter = doc! { "_id": random.random_range(0..ORDERS) };
    let number = i64::try_from(number).unwrap();
    let mut order =
        doc! { "customer": customer(random), "total": amount(random), "number": number };
    if orders.find_one(filter.clone()).await.unwrap().is_none() {
        order.extend(filter);
        orders.insert_one(order).await.unwrap();
        return;
    }
    // The number is always another one, so that there is an event.
    let update = match random.random_range(0..8) {
        0 => {
            orders.delete_one(filter).await.unwrap();
            return;
        }
        1 => {
            orders.replace_one(filter, order).await.unwrap();
            return;
        }
        2 => doc! { "$set": { "number": number } },
        3 => doc! { "$set": { "number": number, "customer": customer(random) } },
        4 => doc! { "$set": { "number": number }, "$unset": { "customer": "" } },
        5 => doc! { "$set": { "number": number }, "$unset": { "total": "" } },
        6 => doc! { "$set": order },
        _ => doc! { "$set": { "number": number, "total": amount(random) } },
    };
    orders.update_one(filter, update).await.unwrap();
}

/// Count and hundredths of each customer, from documents `{ _id, count, total }`.
type Totals = BTreeMap<String, (i64, i64)>;

fn totals(documents: Vec<Document>) -> Totals {
    let hundredths = |total: &str| match total.split_once('.') {
        Some((whole, places)) => format!("{whole}{places:0<2}").parse::<i64>().unwrap(),
        None => total.parse::<i64>().unwrap() * 100,
    };
    documents
        .iter()
        .map(|document| {
            let customer = document.get_str("_id").unwrap().to_owned();
            let total = document.get("total").unwrap().to_string();
            let total = document
                .get_decimal128("total")
                .map_or(total, |total| total.to_string());
            let count = match document.get("count") {
                Some(bson::Bson::Int32(count)) => i64::from(*count),
                Some(bson::Bson::Int64(count)) => *count,
                #[allow(clippy::cast_possible_truncation, reason = "it is whole and small")]
                Some(bson::Bson::Double(count)) => *count as i64,
                other => panic!("{other:?} is no count"),
            };
            (customer, (count, hundredths(&total)))
        })
        .collect()
}

async fn kept(shop: &Database) -> Totals {
    let totals_of = shop.collection::<Document>("totals");
    let found = totals_of.find(doc! {}).await.unwrap();
    totals(found.try_collect().await.unwrap())
}

async fn computed(orders: &Collection<Document>) -> Totals {
    let pipeline = [
        doc! { "$match": { "customer": { "$exists": true } } },
        doc! { "$group": {
            "_id": "$customer", "count": { "$sum": 1 }, "total": { "$sum": "$total" },
        } },
    ];
    let found = orders.aggregate(pipeline).await.unwrap();
    totals(found.try_collect().await.unwrap())
}

#[tokio::test]
async fn the_totals_of_the_example_are_those_of_the_orders_whatever_the_order_of_events_is() {
    let mut stage = Stage::start(&example("materialized-view"), "", &[]).await;
    assert_eq!(stage.app.findings, []);
    let TriggerEvent::Database(trigger) = &stage.app.triggers[0].event else {
        panic!("no database trigger");
    };
    assert!(trigger.unordered && trigger.full_document_before_change);
    assert!(!trigger.full_document);

    let seed: u64 = rand::rng().random();
    let mut random = StdRng::seed_from_u64(seed);
    let shop = stage.mongodb().await.database("shop");
    let orders = with_pre_images(&shop, "orders").await;
    let act = async {
        for number in 0..CHANGES {
            change(&orders, &mut random, number).await;
        }
        CHANGES
    };
    let happened = events(&orders, false, act).await;

    let mut delivered = happened.clone();
    for event in &happened {
        if random.random_bool(0.3) {
            delivered.push(event.clone());
        }
    }
    delivered.shuffle(&mut random);
    // As with several threads of one trigger.
    let isolates = [
        stage.isolate(Limits::default()),
        stage.isolate(Limits::default()),
    ];
    let runs = delivered.into_iter().enumerate().map(|(index, event)| {
        let arguments = doc! { "v": [event] }.to_vec().unwrap();
        let mut call = stage.a_call("keepTotals", "[]");
        call.arguments = arguments.into();
        isolates[index % isolates.len()].run(call)
    });
    let failures: Vec<_> = stream::iter(runs)
        .buffer_unordered(AT_ONCE)
        .filter_map(async |outcome| outcome.result.err())
        .collect()
        .await;
    assert_eq!(failures, [], "seed {seed}");

    let computed = computed(&orders).await;
    assert!(!computed.is_empty(), "seed {seed}");
    assert_eq!(kept(&shop).await, computed, "seed {seed}");
    let counted = shop.collection::<Document>("totals_events");
    let counted = counted.count_documents(doc! {}).await.unwrap();
    assert_eq!(usize::try_from(counted).unwrap(), CHANGES, "seed {seed}");

    // Once more, all of them: nothing is counted twice.
    for event in happened {
        let outcome = stage.call_with("keepTotals", event).await;
        outcome.result.unwrap();
    }
    assert_eq!(kept(&shop).await, computed, "seed {seed}");
}

#[tokio::test]
async fn the_totals_of_the_example_do_not_leave_a_change_out_without_a_word() {
    let mut stage = Stage::start(&example("materialized-view"), "", &[]).await;
    let event = doc! {
        "_id": { "_data": "82" },
        "operationType": "delete",
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": 1 },
    };
    let outcome = stage.call_with("keepTotals", event).await;
    let failure = outcome.result.unwrap_err();
    assert!(
        failure.message.contains("turn pre-images on"),
        "{failure:?}"
    );
    let shop = stage.mongodb().await.database("shop");
    assert_eq!(kept(&shop).await, Totals::new());
}
