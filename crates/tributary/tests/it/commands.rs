//! The commands around copying: sample documents, help, completions, manual pages.

use tributary_testkit::{Signal, send_signal};

use crate::support::{Fixture, command, files_below, run, wait};

#[tokio::test]
async fn sample_documents_are_the_same_every_time_and_their_balances_add_up() {
    let fixture = Fixture::new("sample").await;
    let uri = fixture.uri();
    for collection in ["one", "two"] {
        run(&[
            "demo-data",
            &uri,
            "--collection",
            collection,
            "--count",
            "60",
            "--seed",
            "9",
        ])
        .ok();
    }
    fixture.copy(&[]).ok();
    let differing =
        fixture.number("SELECT count(*) FROM (SELECT * FROM one EXCEPT SELECT * FROM two) AS d");
    assert_eq!(differing, 0);
    let wrong = fixture.number(
        "SELECT count(*) FROM (SELECT _id, min(openingBalance) AS o, min(closingBalance) AS c, sum(t['amount']) AS a \
         FROM (SELECT _id, openingBalance, closingBalance, unnest(transactions) AS t FROM one) AS x GROUP BY _id) AS y \
         WHERE o + a <> c",
    );
    assert_eq!(wrong, 0);

    run(&[
        "demo-data",
        &uri,
        "--collection",
        "one",
        "--count",
        "5",
        "--seed",
        "9",
    ])
    .fails(1, &["cannot insert", "--drop", "--start"]);
    run(&[
        "demo-data",
        &uri,
        "--collection",
        "one",
        "--count",
        "5",
        "--seed",
        "9",
        "--start",
        "60",
    ])
    .ok();
    run(&["demo-data", &uri, "--rate", "0"]).fails(2, &["above 0"]);
    let unknown = run(&["demo-data", &uri, "--kind", "nonsense"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains("banking, flat, nested"),
        "{unknown:#?}"
    );
}

#[tokio::test]
async fn sample_documents_come_on_until_stopped() {
    let fixture = Fixture::new("stream").await;
    let uri = fixture.uri();
    let child = command(&[
        "demo-data",
        &uri,
        "--kind",
        "flat",
        "--collection",
        "c",
        "--count",
        "0",
        "--rate",
        "200",
    ])
    .spawn()
    .unwrap();
    let collection = fixture.database.collection::<bson::Document>("c");
    let deadline = std::time::Instant::now() + crate::support::LIMIT;
    while collection.estimated_document_count().await.unwrap() < 50 {
        assert!(std::time::Instant::now() < deadline, "no documents came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    send_signal(&child, Signal::TERM).unwrap();
    let run = tokio::task::spawn_blocking(move || wait(child))
        .await
        .unwrap()
        .ok();
    assert!(run.stdout.contains("the next one is number"), "{run:#?}");
}

#[test]
fn help_completions_and_manual_pages_are_there() {
    let help = run(&["copy", "--help"]).ok().stdout;
    for words in [
        "Examples:",
        "--overwrite",
        "--read-preference",
        "AWS_SERVER_SIDE_ENCRYPTION",
        "Exit status:",
    ] {
        assert!(help.contains(words), "no `{words}` in {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&["completions", shell])
                .ok()
                .stdout
                .contains("demo-data")
        );
    }
    let directory = tempfile::TempDir::new().unwrap();
    run(&["man", &directory.path().to_string_lossy()]).ok();
    let pages = files_below(directory.path());
    assert!(pages.contains(&"tributary-copy.1".to_owned()), "{pages:?}");
    run(&["man", "/no/such/directory"]).fails(1, &["manual pages", "/no/such/directory"]);
}
