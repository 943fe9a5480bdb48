//! Tables of a lake taken over into what stands in for Redshift, through kills and faults.
//!
//! What is shown here holds of the stand-in, which follows AWS's documentation.

use std::sync::Arc;

use bson::{Binary, Bson, doc, spec::BinarySubtype};

use crate::running::Running;
use crate::support::{Fixture, command, run, wait};
use crate::sync::{catch_up, collection};
use crate::warehouse::{Warehouse, changes, every_type, killed, unfit};

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_every_type_agree_with_pymongo_document_by_document() {
    let fixture = Fixture::new("rsevery").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    every_type(&fixture, &warehouse).await;
    // What has arrived is staged no more.
    assert_eq!(warehouse.staged_files().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_rows_and_of_columns_arrive() {
    let fixture = Fixture::new("rschanges").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    changes(&fixture, &warehouse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_column_cannot_hold_is_rescued_and_its_neighbours_are_not() {
    let fixture = Fixture::new("rsunfit").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    unfit(&fixture, &warehouse).await;

    // Texts, documents and what they hold, each larger than it may be.
    let long = "ä".repeat(40_000);
    let many: Vec<String> = (0..40)
        .map(|i| format!("{i} {}", "x".repeat(60_000)))
        .collect();
    let binary = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![7; 2_000_000],
    };
    collection(&fixture, "large")
        .insert_many([
            doc! { "_id": 1, "text": &long, "n": 1, "in": { "long": &long, "short": "y" } },
            doc! { "_id": 2, "text": "fine", "n": 2, "many": &many, "mixed": [1, &long, "z"] },
            doc! { "_id": 3, "text": "x".repeat(65_535), "binary": binary },
        ])
        .await
        .unwrap();
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();
    warehouse.assert_same(&fixture, "large");
    let table = format!("\"{}\".large", fixture.name);
    let kept = [
        "text IS NULL AND n = 1 AND \"in\"->>'short' = 'y' AND \"in\"->>'long' IS NULL",
        "jsonb_array_length(many) = 40 AND many->>0 LIKE '0 x%' AND mixed->>2 = 'z'",
        "length(text) = 65535 AND length(\"binary\") = 2000000",
    ];
    for (id, kept) in kept.into_iter().enumerate() {
        let query = format!(
            "SELECT count(*) FROM {table} WHERE _id = {} AND {kept}",
            id + 1
        );
        assert_eq!(warehouse.number(&query).await, 1, "{kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_grow_with_what_they_are_to_hold() {
    let fixture = Fixture::new("rsgrow").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    let c = collection(&fixture, "c");
    let document = |i: i32, bytes: usize| {
        let binary = Binary {
            subtype: BinarySubtype::Generic,
            bytes: vec![1; bytes],
        };
        doc! { "_id": format!("{i}"), "text": "x".repeat(bytes), "binary": binary, "n": i }
    };
    c.insert_one(document(1, 100)).await.unwrap();
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();
    let size = async |column: &str| {
        let query = format!(
            "SELECT character_maximum_length::bigint FROM redshift_standin.svv_columns \
             WHERE table_schema = '{}' AND table_name = 'c' AND column_name = '{column}'",
            fixture.name
        );
        warehouse.number(&query).await
    };
    assert_eq!((size("text").await, size("binary").await), (256, 1_024));

    // Text in place, binary data by another column, and both once more.
    for (bytes, text, binary) in [(3_000, 4_096, 65_535), (60_000, 65_535, 65_535)] {
        c.insert_one(document(i32::try_from(bytes).unwrap(), bytes))
            .await
            .unwrap();
        catch_up(&fixture);
        let applied = warehouse.take_over(&fixture, &[]).ok();
        assert_eq!(applied.collection()["documents"], 0, "{applied:#?}");
        assert_eq!((size("text").await, size("binary").await), (text, binary));
        warehouse.assert_same(&fixture, "c");
    }
    let seen = warehouse.stand_in().statements();
    let altered = seen
        .iter()
        .filter(|said| said.contains("ALTER COLUMN \"text\" TYPE"));
    assert_eq!(altered.count(), 2);
    let swapped = seen
        .iter()
        .filter(|said| said.contains("DROP COLUMN \"binary\""));
    assert_eq!(swapped.count(), 1);

    // A column that cannot be altered in place gets another in its place as well; so does a number.
    let table = format!("\"{}\".\"c\"", fixture.name);
    c.update_one(
        doc! { "_id": "1" },
        doc! { "$set": { "n": 2.5, "later": "a" } },
    )
    .await
    .unwrap();
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();
    warehouse.stand_in().fail(
        "ALTER COLUMN \"later\" TYPE",
        "0A000",
        "cannot alter type of a column with its encoding",
    );
    c.update_one(
        doc! { "_id": "1" },
        doc! { "$set": { "later": "b".repeat(2_000) } },
    )
    .await
    .unwrap();
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();
    warehouse.assert_same(&fixture, "c");
    let seen = warehouse.stand_in().statements();
    for column in ["n", "later"] {
        let drop = format!("ALTER TABLE {table} DROP COLUMN \"{column}\"");
        assert!(seen.contains(&drop), "{drop}: {seen:#?}");
    }

    // A key that grows has the table loaded anew.
    c.insert_one(doc! { "_id": "k".repeat(1_000), "n": 1 })
        .await
        .unwrap();
    catch_up(&fixture);
    let reloaded = warehouse.take_over(&fixture, &[]).ok();
    assert_eq!(reloaded.collection()["documents"], 4, "{reloaded:#?}");
    warehouse.assert_same(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let fixture = Arc::new(Fixture::new("rskill").await);
    let warehouse = Warehouse::redshift(&fixture).await;
    killed(fixture, warehouse, 50..1200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_made_once() {
    let fixture = Fixture::new("rscut").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    let c = collection(&fixture, "c");
    c.insert_many((0..20).map(|i| doc! { "_id": i, "n": 0 }))
        .await
        .unwrap();
    catch_up(&fixture);
    for round in 0..6 {
        match round % 2 {
            0 => warehouse.stand_in().cut_before("COMMIT"),
            _ => warehouse.stand_in().cut_after("COMMIT"),
        }
        let taken = warehouse.take_over(&fixture, &[]).ok();
        assert!(taken.stdout.contains("\"retrying\""), "{round}: {taken:#?}");
        warehouse.stand_in().heal();
        warehouse.assert_same(&fixture, "c");
        c.update_one(doc! { "_id": round }, doc! { "$set": { "n": round + 1 } })
            .await
            .unwrap();
        c.insert_one(doc! { "_id": 100 + round, "n": 1 })
            .await
            .unwrap();
        catch_up(&fixture);
    }
    warehouse.take_over(&fixture, &[]).ok();
    warehouse.assert_same(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_laid_out_as_is_asked_and_never_in_conflict() {
    let fixture = Fixture::new("rslayout").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    let names: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    for name in &names {
        let documents = (0..50).map(|i| doc! { "_id": i, "at": i % 7, "customer": i % 3 });
        collection(&fixture, name)
            .insert_many(documents)
            .await
            .unwrap();
    }
    catch_up(&fixture);
    let one = |option: &str| format!("{}.t1={option}", fixture.name);
    let (by_customer, by_time) = (one("customer"), one("at,_id"));
    let arguments = [
        "--parallel",
        "6",
        "--distribution",
        "even",
        "--distribution",
        &by_customer,
        "--sort-key",
        &by_time,
    ];
    let taken = warehouse.take_over(&fixture, &arguments).ok();
    // Transactions of several tables side by side do not read what the others write.
    assert!(!taken.stdout.contains("\"retrying\""), "{taken:#?}");
    let seen = warehouse.stand_in().statements();
    let made = |table: &str| {
        let begin = format!("CREATE TABLE \"{}\".\"{table}\"", fixture.name);
        let made = seen.iter().find(|said| said.starts_with(&begin));
        made.cloned()
            .unwrap_or_else(|| panic!("{table} in {seen:#?}"))
    };
    let all = made("t0");
    assert!(
        all.ends_with("PRIMARY KEY (\"_id\")) DISTSTYLE EVEN COMPOUND SORTKEY (\"_id\")"),
        "{all}"
    );
    let own = made("t1");
    assert!(
        own.ends_with("DISTSTYLE KEY DISTKEY (\"customer\") COMPOUND SORTKEY (\"at\", \"_id\")"),
        "{own}"
    );

    // What cannot be is said, and the other tables are taken over.
    collection(&fixture, "t9")
        .insert_one(doc! { "_id": 1, "in": { "a": 1 } })
        .await
        .unwrap();
    catch_up(&fixture);
    let wrong = format!("{}.t9=in", fixture.name);
    warehouse
        .take_over(&fixture, &["--sort-key", &wrong])
        .fails(1, &["can neither be a key nor sorted by", "field in", "t9"]);
    let missing = format!("{}.t9=nothing", fixture.name);
    warehouse
        .take_over(&fixture, &["--distribution", &missing])
        .fails(1, &["no column for the field", "nothing"]);
    warehouse
        .take_over(&fixture, &["--distribution", "t9=even"])
        .fails(2, &["DATABASE.COLLECTION=FIELD"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_whose_names_differ_in_case_have_tables_of_their_own() {
    let fixture = Fixture::new("rscase").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    let long = "n".repeat(130);
    for (name, n) in [("orders", 1), ("Orders", 2), (long.as_str(), 3)] {
        collection(&fixture, name)
            .insert_one(doc! { "_id": n, "Select": n })
            .await
            .unwrap();
    }
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();
    let tables = "SELECT count(DISTINCT table_name) FROM tributary.ledger";
    assert_eq!(warehouse.number(tables).await, 3);
    // Each is found again.
    collection(&fixture, "Orders")
        .insert_one(doc! { "_id": 20 })
        .await
        .unwrap();
    catch_up(&fixture);
    let again = warehouse.take_over(&fixture, &[]).ok();
    let finished = again.finished();
    let changed = finished["collections"].as_array().unwrap().iter();
    let changed: Vec<_> = changed
        .filter(|of| of["changes"] == 1)
        .map(|of| of["namespace"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(changed, [format!("{}.Orders", fixture.name)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_and_rights_that_do_not_do_are_said() {
    let fixture = Fixture::new("rsbad").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    collection(&fixture, "c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    collection(&fixture, "null")
        .insert_one(doc! { "_id": Bson::Null, "n": 1 })
        .await
        .unwrap();
    catch_up(&fixture);
    let (lake, uri) = (fixture.lake(), warehouse.uri.clone());
    let env = warehouse.env();
    let staging = warehouse.staging();
    let taken = |uri: &str, more: &[&str]| {
        let fixed = ["sync", &lake, uri, "--once", "--collection", "c"];
        let mut command = command(&[&fixed, more].concat());
        wait(command.envs(env.clone()).spawn().unwrap())
    };
    let staged = ["--s3-staging", &staging];
    let role = "arn:aws:iam::123456789012:role/other";

    taken(&uri, &[]).fails(2, &["no place there is given", "--s3-staging"]);
    taken(&uri, &["--s3-staging", "./here"]).fails(2, &["in S3 only", "s3://bucket/prefix"]);
    taken(&uri, &["--s3-staging", &staging, "--iam-role", "loader"])
        .fails(2, &["not the name of a role"]);
    taken(&uri, &["--s3-staging", &staging, "--iam-role", role])
        .fails(1, &["not authorized to assume", "attach the role"]);
    taken(
        &uri,
        &["--s3-staging", "s3://no-such-bucket/x", "--iam-role", role],
    )
    .fails(1, &["no-such-bucket"]);
    // With the keys of the environment, which are not told.
    taken(&uri, &staged).ok();
    warehouse.assert_same(&fixture, "c");
    let seen = warehouse.stand_in().statements();
    assert!(
        seen.iter()
            .any(|said| said.contains("ACCESS_KEY_ID 'testkit' SECRET_ACCESS_KEY"))
    );

    // Nothing of it is there, and neither are the files.
    assert_eq!(warehouse.staged_files().await, 0);
    let schemas = "SELECT count(*) FROM redshift_standin.svv_columns WHERE table_name = 'null'";
    warehouse
        .take_over(&fixture, &[])
        .fails(1, &["no key", "null"]);
    assert_eq!(warehouse.number(schemas).await, 0);

    let place = uri.split_once('@').unwrap().1;
    taken(&format!("redshift://postgres:wrong@{place}"), &staged)
        .fails(1, &["password", "redshift://127.0.0.1"]);
    for address in ["redshift://", "redshift://127.0.0.1/"] {
        taken(address, &staged).fails(2, &["not an address of Redshift", "5439"]);
    }
    run(&["sync", &lake, "postgres://h/db", "--s3-staging", &staging])
        .fails(2, &["--s3-staging", "is for Redshift"]);
    run(&["sync", &fixture.uri(), &lake, "--sort-key", "a"])
        .fails(2, &["--sort-key", "for a warehouse"]);

    // A server that is not there is waited for.
    let mut waiting = command(&[
        "sync",
        &lake,
        "redshift://a:secret@127.0.0.1:1/db",
        "--s3-staging",
        &staging,
        "--output",
        "json",
    ]);
    waiting.envs(env.clone());
    let mut waiting = Running::start(waiting);
    waiting.wait_for_events("retrying", 1).await;
    let ended = waiting.stop().ok();
    assert!(ended.stdout.contains("cannot connect"), "{ended:#?}");
    assert!(!ended.stdout.contains("secret"), "{ended:#?}");
}
