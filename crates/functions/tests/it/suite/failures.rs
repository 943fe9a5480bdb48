//! Functions that fail, each in its own way, and harm nobody else.

use std::time::Duration;

use tributary_functions::script::{FailureKind, Limits};

use super::stage::Stage;
use super::table::{Expected, Row, fails, returns};

const ROWS: &[Row] = &[
    fails(
        "failures/throws",
        r#"["tea"]"#,
        FailureKind::Thrown,
        "RangeError",
        "refused: tea",
    ),
    fails(
        "failures/throwsText",
        "[]",
        FailureKind::Thrown,
        "Error",
        "only a text",
    ),
    fails(
        "failures/rejects",
        "[]",
        FailureKind::Thrown,
        "OutOfStock",
        "tea is out of stock",
    ),
    fails(
        "failures/neverSettles",
        "[]",
        FailureKind::NeverSettled,
        "",
        "",
    ),
    fails("failures/cycle", "[]", FailureKind::BadResult, "", "lines"),
    fails("failures/loops", "[]", FailureKind::TimedOut, "", ""),
    fails("failures/loopsLater", "[]", FailureKind::TimedOut, "", ""),
    fails("failures/waits", "[]", FailureKind::TimedOut, "", ""),
    fails("failures/bomb", "[]", FailureKind::OutOfMemory, "", ""),
    fails(
        "failures/bombOfText",
        "[]",
        FailureKind::OutOfMemory,
        "",
        "",
    ),
    fails(
        "failures/recurses",
        "[]",
        FailureKind::Thrown,
        "RangeError",
        "stack",
    ),
    fails(
        "failures/noFunction",
        "[]",
        FailureKind::NotLoaded,
        "",
        "function",
    ),
    fails(
        "failures/noJavaScript",
        "[]",
        FailureKind::NotLoaded,
        "SyntaxError",
        "",
    ),
];

const WELL: Row = returns("greet", r#"["again"]"#, r#""Hello, again!""#);

const LIMITS: Limits = Limits {
    memory: 48 << 20,
    stack: 1 << 20,
    // Longer than a busy machine stops for.
    timeout: Duration::from_secs(60),
    console: 64 << 10,
};

/// The limits of what is to run out of time.
const HASTY: Limits = Limits {
    timeout: Duration::from_secs(2),
    ..LIMITS
};

/// Within this a run that is out of time has ended, on however busy a machine.
const LATEST: Duration = Duration::from_secs(30);

pub(super) async fn run(stage: &mut Stage) {
    let (patient, hasty) = (stage.isolate(LIMITS), stage.isolate(HASTY));
    for row in ROWS {
        let is_late = matches!(row.expected, Expected::Failure(FailureKind::TimedOut, _, _));
        let isolate = if is_late { &hasty } else { &patient };
        stage.ran.insert(row.function.to_owned());
        let call = stage.a_call(row.function, row.arguments);
        let outcome = isolate.run(call).await;
        stage.note(row.judge(&outcome));
        if is_late {
            let is_in_time = outcome.duration < LATEST;
            let took = format!("{} took {:?}", row.function, outcome.duration);
            stage.expect(&took, is_in_time, true);
        }
        // Whatever it did, the next one runs.
        let outcome = isolate
            .run(stage.a_call(WELL.function, WELL.arguments))
            .await;
        let judgement = WELL.judge(&outcome);
        stage.note(judgement.map_err(|wrong| format!("after {}: {wrong}", row.function)));
    }

    let throws = patient
        .run(stage.a_call("failures/throws", r#"["tea"]"#))
        .await;
    let failure = throws.result.unwrap_err();
    let place = Some(("functions/failures/throws.js".to_owned(), 2));
    stage.expect("where it was thrown", failure.place, place);
    let stack = failure.stack.unwrap_or_default();
    stage.expect(&stack, stack.contains("refuse"), true);
}
