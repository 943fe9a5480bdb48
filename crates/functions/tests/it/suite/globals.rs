//! The console, and what comes from the web and from Node.

use tributary_functions::script::Limits;

use super::stage::Stage;
use super::table::{Row, ends, returns};

const ROWS: &[Row] = &[
    returns(
        "globals/web",
        "[]",
        r#"{
            "href": "https://user@example.com:8443/shop/list?page=2&tag=a+b&tag=c%26d#top",
            "host": "example.com:8443",
            "path": "/shop/list",
            "tags": ["a b", "c&d"],
            "bytes": [90, 111, 195, 171],
            "text": "Zoë",
            "encoded": "a%2Fb%20c",
            "invalid": "TypeError"
        }"#,
    ),
    returns(
        "globals/hashes",
        r#"["tea"]"#,
        r#"{
            "sha256": "a9f74d1ec36ebdeb2da3f6e5868090cd2a2d20b3dcca7b62f60304b1d3d9ef42",
            "hmacHex": "300fb267ae149d11c584ef6523d9e4b45e587714d4af1b5ec882e82c4c8999df",
            "hmacBase64": "MA+yZ64UnRHFhO9lI9nktF5YdxTUrxteyILoLEyJmd8=",
            "isHidden": true,
            "shown": "tea",
            "node": "300fb267ae149d11c584ef6523d9e4b45e587714d4af1b5ec882e82c4c8999df"
        }"#,
    ),
    returns(
        "globals/tokens",
        "[]",
        r#"{ "parts": 3, "sub": "ada", "alg": "HS256", "kid": "k1", "refused": true }"#,
    ),
];

/// The level of each line, and what is in it.
const LINES: [(&str, &[&str]); 5] = [
    ("log", &["plain 1 true null undefined"]),
    ("info", &["order", "id: 7", "tea"]),
    ("warn", &["low on tea"]),
    ("error", &["TypeError: not a number"]),
    ("debug", &["a", "1"]),
];

pub(super) async fn run(stage: &mut Stage) {
    stage.rows(ROWS).await;

    let row = ends("console/levels", "[]");
    let outcome = stage.call(row.function, row.arguments).await;
    stage.note(row.judge(&outcome));
    let levels: Vec<&str> = outcome.console.iter().map(|line| line.level).collect();
    let expected: Vec<&str> = LINES.iter().map(|(level, _)| *level).collect();
    stage.expect("the levels of the console", levels, expected);
    for (line, (_, parts)) in outcome.console.iter().zip(LINES) {
        let has_all = parts.iter().all(|part| line.text.contains(part));
        stage.expect(&format!("{line:?} has {parts:?}"), has_all, true);
    }

    let row = returns("console/floods", "[]", r#""said""#);
    let outcome = stage.call(row.function, row.arguments).await;
    stage.note(row.judge(&outcome));
    let written: usize = outcome.console.iter().map(|line| line.text.len()).sum();
    let most = Limits::default().console;
    let is_bounded = (most / 2..=most + 1000).contains(&written);
    stage.expect(&format!("{written} bytes of a flood"), is_bounded, true);
}
