use std::rc::Rc;

use rquickjs::{Context, Runtime};

use super::*;
use crate::script::heap::{Heap, HeapAllocator};
use crate::script::host::Host;
use crate::script::modules::Files;
use crate::script::prelude::Prelude;

/// Functions that take time without end, each in another way.
const ENDLESS: [(&str, &str); 12] = [
    ("a loop", "exports = () => { for (;;); };"),
    (
        "a loop that catches",
        "exports = () => { for (;;) { try { for (;;); } catch {} } };",
    ),
    (
        "a finally",
        "exports = () => { try { for (;;); } finally { for (;;); } };",
    ),
    ("a job", "exports = async () => { await null; for (;;); };"),
    (
        "a job that catches",
        "exports = async () => { await null; try { for (;;); } catch { return 1; } finally { return 2; } };",
    ),
    (
        "jobs without end",
        "exports = () => new Promise(() => { const next = () => { Promise.resolve().then(next); }; next(); });",
    ),
    (
        "awaits without end",
        "exports = async () => { for (;;) await null; };",
    ),
    (
        "a timer",
        "exports = () => new Promise(() => setTimeout(() => { for (;;); }, 1));",
    ),
    (
        "a getter of the result",
        "exports = () => ({ get a() { for (;;); } });",
    ),
    (
        "toBSON of the result",
        "exports = async () => ({ a: { toBSON() { for (;;); } } });",
    ),
    (
        "a regular expression",
        "exports = () => /^(a+)+$/.test('a'.repeat(100) + 'b');",
    ),
    (
        "a timer again and again",
        "exports = () => new Promise(() => setInterval(() => {}, 1));",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn code_without_end_is_ended_and_the_isolate_goes_on() {
    for (what, text) in ENDLESS {
        let isolate = start(
            program(&[
                ("f", text),
                ("g", "exports = async () => { await null; return 1; };"),
            ]),
            hasty(),
            &Fake::idle(),
        );
        let began = Instant::now();
        let outcome = isolate.run(call("f", vec![])).await;
        assert_eq!(
            failed(&outcome).kind,
            FailureKind::TimedOut,
            "{what}: {outcome:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        assert!(outcome.duration >= hasty().timeout, "{what}");
        for _ in 0..3 {
            let next = isolate.run(call("g", vec![])).await;
            assert_eq!(returned(&next), Some(Bson::Int32(1)), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_ended_run_goes_on() {
    let fake = Fake::idle();
    let text = "const ask = () => context.services.get('mongodb-atlas').db('d').collection('c').findOne({});\nexports = async () => { (async () => { for (;;) { await null; ask(); } })().finally(ask); for (;;); };";
    let functions = [("f", text), ("g", "exports = async () => { await null; };")];
    let isolate = start(program(&functions), hasty(), &fake);
    assert_eq!(
        failed(&isolate.run(call("f", vec![])).await).kind,
        FailureKind::TimedOut
    );
    for _ in 0..2 {
        assert_eq!(returned(&isolate.run(call("g", vec![])).await), None);
    }
    assert_eq!(fake.operations().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_in_flight_survive_one_that_is_ended() {
    let fake = Fake::new(|_, _| Reply::Late(Duration::from_millis(300), Bson::Int32(5)));
    let waits = "exports = () => context.services.get('mongodb-atlas').db('d').collection('c').findOne({});";
    let isolate = start(
        program(&[
            ("waits", waits),
            ("spins", "exports = () => { for (;;); };"),
        ]),
        hasty(),
        &fake,
    );
    let (waited, spun) = tokio::join!(
        isolate.run(call("waits", vec![])),
        isolate.run(call("spins", vec![]))
    );
    assert_eq!(failed(&spun).kind, FailureKind::TimedOut);
    assert_eq!(returned(&waited), Some(Bson::Int32(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_service_has_an_end_too() {
    let fake = Fake::new(|_, _| Reply::Never);
    let text = "exports = () => context.services.get('mongodb-atlas').db('d').collection('c').findOne({});";
    let isolate = start(program(&[("f", text)]), hasty(), &fake);
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(failed(&outcome).kind, FailureKind::TimedOut);
    until("the scope is closed", || fake.open() == 0).await;
}

/// Functions that take memory without end, each in another way.
const GREEDY: [(&str, &str); 9] = [
    (
        "arrays",
        "exports = () => { const all = []; for (;;) all.push(new Array(1000).fill(1)); };",
    ),
    (
        "objects",
        "exports = () => { const all = []; for (;;) all.push({ a: { b: {} } }); };",
    ),
    (
        "strings",
        "exports = () => { let text = 'x'; for (;;) text += text + '!'; };",
    ),
    (
        "one buffer",
        "exports = () => new ArrayBuffer(1 << 30).byteLength;",
    ),
    (
        "a catch",
        "exports = () => { const all = []; for (;;) { try { for (;;) all.push('x'.repeat(100000) + all.length); } catch {} } };",
    ),
    (
        "a job",
        "exports = async () => { const all = []; for (;;) { await null; all.push(new Uint8Array(100000)); } };",
    ),
    (
        "promises",
        "exports = () => { const all = []; for (;;) all.push(new Promise(() => {}).then(() => all)); };",
    ),
    (
        "promises that wait for each other",
        "exports = () => new Promise(() => { const next = () => Promise.resolve().then(next); next(); });",
    ),
    (
        "a native function",
        "exports = () => { const text = 'x,'.repeat(1 << 20); const all = []; for (;;) all.push(text.split(',')); };",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_takes_too_much_memory_harms_no_other() {
    for (what, text) in GREEDY {
        let functions = [
            ("f", text),
            ("g", "exports = async () => { await null; return 1; };"),
        ];
        let other = start(program(&functions), short(), &Fake::idle());
        let isolate = start(program(&functions), short(), &Fake::idle());
        let outcome = isolate.run(call("f", vec![])).await;
        let kind = failed(&outcome).kind;
        // A string has a greatest length, which it may meet first.
        let is_string = what == "strings" && kind == FailureKind::Thrown;
        assert!(
            kind == FailureKind::OutOfMemory || is_string,
            "{what}: {outcome:?}"
        );
        for isolate in [&isolate, &other] {
            for _ in 0..3 {
                let next = isolate.run(call("g", vec![])).await;
                assert_eq!(returned(&next), Some(Bson::Int32(1)), "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_beside_one_that_takes_too_much_memory_are_lost() {
    let fake = Fake::new(|_, _| Reply::Never);
    let waits = "exports = () => context.services.get('mongodb-atlas').db('d').collection('c').findOne({});";
    let isolate = start(
        program(&[("waits", waits), ("f", GREEDY[0].1)]),
        short(),
        &fake,
    );
    let (waited, greedy) = tokio::join!(
        isolate.run(call("waits", vec![])),
        isolate.run(call("f", vec![]))
    );
    assert_eq!(failed(&greedy).kind, FailureKind::OutOfMemory);
    assert_eq!(failed(&waited).kind, FailureKind::Lost);
    until("the scope is closed", || fake.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_variables_of_files_keep_is_freed_when_it_is_nearly_all() {
    let text = "const kept = [];\nexports = () => { kept.push(new Uint8Array(1 << 20)); return kept.length; };";
    let isolate = start(program(&[("f", text)]), short(), &Fake::idle());
    let mut lengths = Vec::new();
    for _ in 0..80 {
        let outcome = isolate.run(call("f", vec![])).await;
        lengths.push(returned(&outcome).unwrap().as_i32().unwrap());
    }
    let starts = lengths.iter().filter(|length| **length == 1).count();
    assert!((2..=5).contains(&starts), "{lengths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion_without_end_is_an_error_that_can_be_caught() {
    for text in [
        "exports = () => { const f = () => f() + 1; return f(); };",
        "exports = async () => { const f = async () => (await f()) + 1; return f(); };",
        "exports = () => { let a = []; for (let i = 0; i < 100000; i++) a = [a]; return JSON.stringify(a); };",
    ] {
        let failure = failure_of(text, short()).await;
        assert_eq!(failure.kind, FailureKind::Thrown, "{text}");
        assert_eq!(failure.name, "RangeError", "{text}: {failure:?}");
    }
    let caught = "exports = () => { const f = () => f() + 1; try { f(); } catch (error) { return error.name; } };";
    assert_eq!(
        result_of(caught).await,
        Bson::String("RangeError".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_its_memory_does_not_hold_does_not_start() {
    let error = Isolate::start(
        Arc::new(program(&[])),
        Limits {
            memory: 100 << 10,
            ..short()
        },
        Arc::new(Reached(Fake::idle())),
        tokio::runtime::Handle::current(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot start a thread for functions"),
        "{error}"
    );
}

#[test]
fn an_engine_leaves_no_memory_behind_even_where_it_ran_out_of_it() {
    for (text, is_greedy) in [
        ("1", false),
        ("const all = []; for (;;) all.push({ a: [all] });", true),
        (
            "const all = []; const next = async () => { for (;;) { all.push(new Uint8Array(1 << 20)); await null; } }; next();",
            true,
        ),
        (
            "let text = 'x,'.repeat(1 << 19); const all = []; for (;;) all.push(text.split(','));",
            true,
        ),
    ] {
        let heap = Heap::new(16 << 20);
        {
            let runtime = Runtime::new_with_alloc(HeapAllocator(Rc::clone(&heap))).unwrap();
            let context = Context::full(&runtime).unwrap();
            context.with(|ctx| {
                let host = Host::new(Rc::clone(&heap), Arc::default());
                let program = Arc::new(Program::default());
                let files = Rc::new(Files::new(&program));
                Prelude::install(&ctx, &host, &program, &files)
                    .map(|_| ())
                    .unwrap();
                let failed = ctx.eval::<(), _>(text).is_err();
                ctx.catch();
                while ctx.execute_pending_job() {}
                assert!(failed || !is_greedy || text.contains("async"), "{text}");
            });
            assert!(heap.used() > 0);
        }
        assert_eq!(heap.exceeded(), is_greedy, "{text}");
        assert_eq!(heap.used(), 0, "{text}");
    }
}
