use super::*;
use crate::script::ConsoleLine;

/// What a console shows of an expression.
async fn shown(arguments: &str) -> String {
    let text = format!("exports = () => {{ console.log({arguments}); }};");
    let outcome = isolate(&text).run(call("f", vec![])).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    outcome.console.into_iter().map(|line| line.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_shown_as_readable_text() {
    for (arguments, text) in [
        ("'a', 1, true, null, undefined", "a 1 true null undefined"),
        (
            "'%s is %d, %i, %j %o %%', 'x', '4.5', 4.5, { a: 1 }, [1]",
            "x is 4.5, 4, {\"a\":1} [ 1 ] %",
        ),
        ("'%s', 'a', 'b'", "a b"),
        ("'100%', 1", "100% 1"),
        (
            "{ a: 'it', 'b-c': [1, [2], {}], d: { e: -0 } }",
            "{ a: 'it', 'b-c': [ 1, [ 2 ], {} ], d: { e: -0 } }",
        ),
        ("[]", "[]"),
        (
            "BSON.ObjectId('0123456789abcdef01234567')",
            "ObjectId(\"0123456789abcdef01234567\")",
        ),
        (
            "{ n: BSON.Long.fromString('5'), d: BSON.Decimal128.fromString('1.50') }",
            "{ n: Long(\"5\"), d: Decimal128(\"1.50\") }",
        ),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        (
            "new Map([['a', 1]]), new Set(['b'])",
            "Map(1) { 'a' => 1 } Set(1) { 'b' }",
        ),
        ("/x/g, Symbol('s'), 5n", "/x/g Symbol(s) 5n"),
        ("function foo() {}", "[Function: foo]"),
        ("class A {}", "[class A]"),
        ("new (class Point { x = 1 })()", "Point { x: 1 }"),
        ("Object.create(null)", "[Object: null prototype] {}"),
        (
            "(() => { const a = { b: 1 }; a.self = a; return a; })()",
            "{ b: 1, self: [Circular] }",
        ),
        ("{ get a() { return 1; } }", "{ a: [Getter] }"),
        ("new Uint8Array([1, 2])", "Uint8Array(2) [ 1, 2 ]"),
    ] {
        assert_eq!(shown(arguments).await, text, "{arguments}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_values_are_shown_on_lines_of_their_own_and_cut() {
    let text = shown("{ first: 'x'.repeat(40), second: 'y'.repeat(40) }").await;
    assert_eq!(
        text,
        format!(
            "{{\n  first: '{}',\n  second: '{}'\n}}",
            "x".repeat(40),
            "y".repeat(40)
        )
    );
    let text = shown("Array.from({ length: 103 }, () => 1)").await;
    assert!(text.contains("... 3 more items"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_shown_with_its_stack() {
    let text = shown("new TypeError('no')").await;
    assert!(text.starts_with("TypeError: no\n    at "), "{text}");
    assert!(text.contains("functions/f.js:1"), "{text}");
    assert!(!text.contains("internal:"), "{text}");
    assert_eq!(text.matches("TypeError: no").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_says_first_what_failed() {
    let own =
        "class Own extends Error { constructor(message) { super(message); this.name = 'Own'; } }";
    let captured = "class Captured extends RangeError { constructor(message) { super(message); Error.captureStackTrace(this, Captured); } }";
    for (statements, head) in [
        ("throw new Error('boom');", "Error: boom"),
        ("throw new TypeError();", "TypeError"),
        ("throw Error('two\\nlines');", "Error: two\nlines"),
        ("throw new Own('boom');", "Own: boom"),
        ("throw new Captured('boom');", "RangeError: boom"),
        ("null.x;", "TypeError: cannot read property 'x' of null"),
        ("missing;", "ReferenceError: missing is not defined"),
        (
            "BSON.Binary.fromHex('x');",
            "TypeError: the text must be pairs of hexadecimal digits",
        ),
        (
            "const o = { name: 'O', message: 'm' }; Error.captureStackTrace(o); throw o;",
            "O: m",
        ),
        (
            "new DOMException('m', 'AbortError'); atob('*');",
            "InvalidCharacterError: ",
        ),
        ("await Promise.any([]);", "AggregateError"),
        (
            "const f = () => f() + 1; f();",
            "RangeError: Maximum call stack size exceeded",
        ),
        (
            "throw Object.defineProperty(new Error('m'), 'name', { get() { throw 1; } });",
            "Error",
        ),
    ] {
        let text = format!(
            "{own}\n{captured}\nexports = async () => {{ try {{ {statements} }} catch (error) {{ return error.stack; }} }};"
        );
        let stack = result_of(&text).await;
        let stack = stack.as_str().unwrap();
        let rest = stack
            .strip_prefix(head)
            .unwrap_or_else(|| panic!("{stack}"));
        if !head.ends_with(": ") {
            assert!(rest.starts_with("\n    at "), "{stack}");
        }
        assert!(!stack.ends_with('\n'), "{stack}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_may_be_replaced_and_is_shown_once() {
    let text = "exports = () => { const error = new Error('first'); Error.captureStackTrace(error); error.message = 'second'; return [require('util').inspect(error), Object.keys(error)]; };";
    let shown = result_of(text).await;
    let shown = shown.as_array().unwrap();
    let inspected = shown[0].as_str().unwrap();
    assert!(
        inspected.starts_with("Error: second\n    at "),
        "{inspected}"
    );
    assert!(!inspected.contains("first"), "{inspected}");
    assert_eq!(shown[1], Bson::Array(vec![]));
    let text = "exports = () => { const error = new Error('first'); error.stack = 'mine'; Error.prepareStackTrace = (error, sites) => [error.message, sites.length > 0]; const { stack } = new Error('sites'); Error.prepareStackTrace = undefined; return [error.stack, stack]; };";
    assert_eq!(
        result_of(text).await,
        ::bson::bson!(["mine", ["sites", true]])
    );
    let text = "exports = () => { throw new Error('a\\n    at b (c.js:1:1)'); };";
    let failure = failure_of(text, short()).await;
    let stack = failure.stack.unwrap();
    assert!(
        stack.starts_with("    at exports (functions/f.js:1:"),
        "{stack}"
    );
    assert!(!stack.contains("c.js"), "{stack}");
    assert_eq!(failure.place, Some(("functions/f.js".to_owned(), 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_have_their_level() {
    let isolate = isolate(
        "exports = () => { console.log('a'); console.info('b'); console.warn('c'); console.error('d'); console.debug('e'); console.assert(false, 'f'); };",
    );
    let outcome = isolate.run(call("f", vec![])).await;
    let lines: Vec<_> = outcome
        .console
        .iter()
        .map(|line| (line.level, line.text.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("log", "a"),
            ("info", "b"),
            ("warn", "c"),
            ("error", "d"),
            ("debug", "e"),
            ("error", "Assertion failed: f")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_takes_so_much_and_no_more() {
    let isolate =
        isolate("exports = () => { for (let i = 0; i < 10000; i++) console.log('0123456789'); };");
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(outcome.console.len(), 4096 / 10 + 1);
    assert_eq!(
        outcome.console.last(),
        Some(&ConsoleLine {
            level: "warn",
            text: "the run wrote more than its console takes; the rest is left out".to_owned()
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_belong_to_the_run_that_wrote_them() {
    let isolate = isolate(
        "exports = async (n) => { console.log('begin', n); await new Promise((done) => setTimeout(done, 20)); console.log('end', n); if (n % 2) throw new Error('odd'); };",
    );
    let outcomes =
        futures::future::join_all((0..10).map(|n| isolate.run(call("f", vec![Bson::Int32(n)]))))
            .await;
    for (n, outcome) in outcomes.iter().enumerate() {
        let lines: Vec<_> = outcome
            .console
            .iter()
            .map(|line| line.text.clone())
            .collect();
        assert_eq!(lines, [format!("begin {n}"), format!("end {n}")]);
        assert_eq!(outcome.result.is_ok(), n % 2 == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_that_nobody_looks_at_is_written_to_the_console() {
    let isolate = isolate(
        "exports = async () => { Promise.reject(new Error('lost')); queueMicrotask(() => { throw 'thrown'; }); const late = Promise.reject(1); await null; late.catch(() => {}); try { await Promise.reject(2); } catch {} return 1; };",
    );
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(returned(&outcome), Some(Bson::Int32(1)));
    let lines: Vec<_> = outcome
        .console
        .iter()
        .map(|line| (line.level, line.text.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            (
                "error",
                "a promise was rejected and nobody looked: Error: lost"
            ),
            ("error", "a promise was rejected and nobody looked: thrown"),
        ]
    );
    let failing = super::isolate("exports = async () => { throw new Error('told'); };")
        .run(call("f", vec![]))
        .await;
    assert!(failing.console.is_empty(), "{failing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_in_order_and_end_with_their_run() {
    let text = "exports = (leave) => new Promise((done) => {\n  const seen = [];\n  const every = setInterval(() => { seen.push('every'); if (seen.length > 3) { clearInterval(every); done(seen); } }, 300);\n  setTimeout((a, b) => seen.push(a + b), 100, 'on', 'ce');\n  clearTimeout(setTimeout(() => seen.push('never'), 0));\n  setImmediate(() => seen.push('now'));\n});";
    let isolate = isolate(text);
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!(["now", "once", "every", "every"]))
    );
    let leaves = super::isolate(
        "globalThis.late = 0;\nexports = () => { setTimeout(() => { late += 1; }, 5); setInterval(() => { late += 1; }, 5); return late; };",
    );
    assert_eq!(
        returned(&leaves.run(call("f", vec![])).await),
        Some(Bson::Int32(0))
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        returned(&leaves.run(call("f", vec![])).await),
        Some(Bson::Int32(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_are_a_module_and_can_be_awaited() {
    let text = "const timers = require('timers');\nconst { promisify } = require('util');\nexports = async () => [timers.setTimeout === setTimeout, typeof timers.clearImmediate, await promisify(setTimeout)(1, 'late'), await promisify(setImmediate)('now'), await new Promise((done) => timers.setImmediate(done, 'called'))];";
    assert_eq!(
        result_of(text).await,
        ::bson::bson!([true, "function", "late", "now", "called"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_timer_is_an_error_of_its_run() {
    let failure = failure_of(
        "exports = () => new Promise(() => setTimeout(() => { throw new Error('tick'); }, 1));",
        short(),
    )
    .await;
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Thrown, "tick")
    );
}
