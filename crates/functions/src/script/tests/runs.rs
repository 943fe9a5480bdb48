use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_function_gets_its_arguments_and_returns_a_value() {
    let isolate =
        isolate("exports = function (a, b) { return { sum: a + b.c, list: [a, null, 'x'] }; };");
    let outcome = isolate
        .run(call("f", vec![Bson::Int32(2), doc! { "c": 40 }.into()]))
        .await;
    assert_eq!(
        returned(&outcome),
        Some(doc! { "sum": 42, "list": [2, null, "x"] }.into())
    );
    assert!(outcome.console.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_exported_in_every_way_that_atlas_takes() {
    let texts = [
        "exports = function () { return 1; };",
        "exports = async () => 1;",
        "module.exports = () => 1;",
        "module.exports = async function named() { return 1; }",
        "exports.f = () => 1;",
        "exports.handler = async () => 1; exports.other = () => 2;",
        "exports.whatever = () => 1;",
        "async function foo() { return 1; }\nexports = foo",
        "exports = module.exports = () => 1; // at the end",
        "\u{feff}exports = () => 1",
        "class A { static f() { return 1; } }\nexports = A.f;",
    ];
    for text in texts {
        assert_eq!(result_of(text).await, Bson::Int32(1), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_returns_nothing_has_no_value() {
    for text in [
        "exports = () => {};",
        "exports = async () => undefined;",
        "exports = () => () => 1;",
    ] {
        let outcome = isolate(text).run(call("f", vec![])).await;
        assert_eq!(returned(&outcome), None, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_of_any_make_are_awaited() {
    for expression in [
        "Promise.resolve(7)",
        "new Promise((resolve) => setTimeout(resolve, 1, 7))",
        "({ then(resolve) { resolve(7); } })",
        "(async () => { await null; await null; return 7; })()",
    ] {
        let text = format!("exports = () => {expression};");
        assert_eq!(result_of(&text).await, Bson::Int32(7), "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_thrown_is_told_with_its_place() {
    let text = "exports = async function (a) {\n  await null;\n  inner();\n};\nfunction inner() {\n  throw new TypeError('no');\n}\n";
    let failure = failure_of(text, short()).await;
    assert_eq!(failure.kind, FailureKind::Thrown);
    assert_eq!(failure.name, "TypeError");
    assert_eq!(failure.message, "no");
    assert_eq!(failure.place, Some(("functions/f.js".to_owned(), 6)));
    let stack = failure.stack.unwrap();
    assert!(stack.contains("inner (functions/f.js:6"), "{stack}");
    assert!(stack.contains("functions/f.js:3"), "{stack}");
    assert!(!stack.contains("internal:"), "{stack}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_class_of_bson_throws_has_the_place_of_its_use() {
    let failure = failure_of("\nexports = () => BSON.ObjectId('zz');", short()).await;
    assert_eq!(failure.name, "TypeError");
    assert_eq!(failure.place, Some(("functions/f.js".to_owned(), 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_thrown_and_is_no_error_is_shown() {
    for (thrown, name, message) in [
        ("'boom'", "Error", "boom"),
        ("42", "Error", "42"),
        ("null", "Error", "null"),
        ("undefined", "Error", "undefined"),
        (
            "{ code: 5, inner: { a: [1] } }",
            "Error",
            "{ code: 5, inner: { a: [ 1 ] } }",
        ),
        ("{ name: 'Custom', message: 'text' }", "Custom", "text"),
        ("new (class Odd { x = 1 })()", "Odd", "Odd { x: 1 }"),
        ("Symbol('s')", "Error", "Symbol(s)"),
        (
            "new Proxy({}, { get() { throw 1; } })",
            "Error",
            "what was thrown cannot be shown",
        ),
    ] {
        for text in [
            format!("exports = () => {{ throw {thrown}; }};"),
            format!("exports = async () => {{ throw {thrown}; }};"),
            format!("exports = () => Promise.reject({thrown});"),
        ] {
            let failure = failure_of(&text, short()).await;
            assert_eq!(failure.kind, FailureKind::Thrown, "{text}");
            assert_eq!(
                (failure.name.as_str(), failure.message.as_str()),
                (name, message),
                "{text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_javascript_is_told_with_its_line() {
    let failure = failure_of("exports = () => {\n  let x = ;\n};", short()).await;
    assert_eq!(failure.kind, FailureKind::NotLoaded);
    assert_eq!(failure.name, "SyntaxError");
    assert_eq!(failure.place, Some(("functions/f.js".to_owned(), 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_missing_or_exports_none_is_not_loaded() {
    let isolate = isolate("exports = { a: 1 };");
    for (name, message) in [
        ("g", "there is no function 'g'"),
        ("f", "the file of function 'f' exports no function"),
    ] {
        let outcome = isolate.run(call(name, vec![])).await;
        assert_eq!(failed(&outcome).kind, FailureKind::NotLoaded);
        assert_eq!(failed(&outcome).message, message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_throws_when_it_is_loaded_is_tried_again() {
    let once = "globalThis.tries = (globalThis.tries ?? 0) + 1;\nif (tries < 2) throw new Error('not yet');\nexports = () => tries;";
    let twice = "exports = () => [1, 2].map(() => { try { return require('./f')(); } catch (error) { return error.message; } });";
    let isolate = start(
        program(&[("f", once), ("twice", twice)]),
        short(),
        &Fake::idle(),
    );
    let first = isolate.run(call("f", vec![])).await;
    assert_eq!(failed(&first).kind, FailureKind::Thrown);
    assert_eq!(failed(&first).place, Some(("functions/f.js".to_owned(), 2)));
    assert_eq!(
        returned(&isolate.run(call("twice", vec![])).await),
        Some(::bson::bson!(["not yet", 2]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_nothing_can_settle_fails_at_once() {
    let failure = failure_of(
        "exports = () => new Promise(() => {});",
        Limits {
            timeout: Duration::from_secs(3600),
            ..short()
        },
    )
    .await;
    assert_eq!(failure.kind, FailureKind::NeverSettled);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_cannot_be_bson_are_told() {
    for (expression, message) in [
        (
            "(() => { const a = { b: [] }; a.b.push(a); return a; })()",
            "the value contains itself, at b[0]",
        ),
        (
            "(() => { let a = {}; for (let i = 0; i < 300; i++) a = { a }; return a; })()",
            "nested deeper than 200 levels",
        ),
        ("({ a: { b: new Date(NaN) } })", "a date is invalid, at a.b"),
        ("({ 'a\\0b': 1 })", "the name of a field contains a NUL"),
        ("[2n ** 64n]", "a bigint is beyond 64 bits, at [0]"),
        (
            "Object.create(BSON.ObjectId.prototype)",
            "an object is no ObjectId, but has its prototype",
        ),
        (
            "(() => { const a = []; a.length = 4000000000; return a; })()",
            "the value is too large",
        ),
    ] {
        let failure = failure_of(&format!("exports = () => {expression};"), short()).await;
        assert_eq!(failure.kind, FailureKind::BadResult, "{expression}");
        assert!(failure.message.contains(message), "{}", failure.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_object_twice_is_no_cycle() {
    assert_eq!(
        value_of("(() => { const a = { x: 1 }; return { a, b: [a, a] }; })()").await,
        doc! { "a": { "x": 1 }, "b": [{ "x": 1 }, { "x": 1 }] }.into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_getter_that_throws_is_a_bad_result() {
    let failure = failure_of(
        "exports = () => ({\n  get a() { throw new RangeError('never'); }\n});",
        short(),
    )
    .await;
    assert_eq!(failure.kind, FailureKind::BadResult);
    assert_eq!(failure.name, "RangeError");
    assert_eq!(failure.place, Some(("functions/f.js".to_owned(), 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_order_begin_when_the_one_before_has_ended() {
    let text = "globalThis.log = [];\nexports = async (n) => { log.push(`begin ${n}`); await new Promise((done) => setTimeout(done, 5 - n)); log.push(`end ${n}`); return log; };";
    let isolate = isolate(text);
    let calls = (0..3).map(|n| call("f", vec![Bson::Int32(n)])).collect();
    let outcomes = isolate.run_in_order(calls).await;
    assert_eq!(outcomes.len(), 3);
    assert_eq!(
        returned(&outcomes[2]).unwrap(),
        ::bson::bson!(["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_order_stop_behind_the_first_failure() {
    let isolate = isolate(
        "globalThis.begun = 0;\nexports = (n) => { begun += 1; if (n === 2) throw new Error('two'); return begun; };",
    );
    let calls = (0..5).map(|n| call("f", vec![Bson::Int32(n)])).collect();
    let outcomes = isolate.run_in_order(calls).await;
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes[1].result.is_ok());
    assert_eq!(failed(&outcomes[2]).message, "two");
    assert_eq!(
        returned(&isolate.run(call("f", vec![Bson::Int32(0)])).await),
        Some(Bson::Int32(1))
    );
    assert!(isolate.run_in_order(Vec::new()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_in_flight_at_once() {
    let fake = Fake::new(|_, arguments| {
        let n = arguments
            .get_document("filter")
            .unwrap()
            .get_i32("n")
            .unwrap();
        Reply::Late(Duration::from_millis(200), Bson::Int32(n * 2))
    });
    let text = "exports = async (n) => { const all = []; for (let i = 0; i < 2; i++) all.push(await context.services.get('mongodb-atlas').db('d').collection('c').findOne({ n: n + i })); return all; };";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    let began = Instant::now();
    let outcomes =
        futures::future::join_all((0..50).map(|n| isolate.run(call("f", vec![Bson::Int32(n)]))))
            .await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    for (n, outcome) in (0..).zip(&outcomes) {
        assert_eq!(returned(outcome), Some(::bson::bson!([n * 2, n * 2 + 2])));
    }
    until("the scopes are closed", || fake.open() == 0).await;
}

/// A function that keeps what it was given in a global, in a variable of its file and in a prototype while it waits.
const KEEPS: &str = "let kept;\nexports = async (n) => { given = n; kept = n; Array.prototype.n = n; await context.services.get('mongodb-atlas').db('d').collection('c').findOne({ n }); return [given, kept, [].n]; };";

#[tokio::test(flavor = "multi_thread")]
async fn runs_in_flight_see_nothing_of_each_other() {
    let fake = Fake::new(|_, arguments| {
        let filter = arguments.get_document("filter").unwrap();
        let n = u64::try_from(filter.get_i32("n").unwrap()).unwrap();
        Reply::Late(Duration::from_millis(50 + n % 7 * 10), Bson::Null)
    });
    let isolate = start(program(&[("f", KEEPS)]), short(), &fake);
    for _ in 0..3 {
        let runs = (0..20).map(|n| isolate.run(call("f", vec![Bson::Int32(n)])));
        for (n, outcome) in (0..).zip(futures::future::join_all(runs).await) {
            assert_eq!(returned(&outcome), Some(::bson::bson!([n, n, n])));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_that_ended_well_keeps_is_there_for_the_next_and_what_one_that_failed_did_is_not()
 {
    let text = "let count = 0;\nlet connected;\nexports = async (fails) => { count += 1; connected ??= fails ? Promise.reject(new Error('refused')) : Promise.resolve(7); return [count, await connected]; };";
    let isolate = isolate(text);
    let run = |fails: bool| isolate.run(call("f", vec![Bson::Boolean(fails)]));
    for _ in 0..2 {
        assert_eq!(failed(&run(true).await).message, "refused");
        assert_eq!(returned(&run(false).await), Some(::bson::bson!([1, 7])));
        assert_eq!(returned(&run(true).await), Some(::bson::bson!([2, 7])));
        let unawaited = isolate
            .run(call("f", vec![doc! { "toJSON": 1 }.into()]))
            .await;
        assert_eq!(returned(&unawaited), Some(::bson::bson!([3, 7])));
        // Whatever fails has its context gone, be it in another function.
        let missing = isolate.run(call("missing", vec![])).await;
        assert_eq!(failed(&missing).kind, FailureKind::NotLoaded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_of_runs_that_failed_leave_no_memory_behind() {
    let fake = Fake::new(|_, _| Reply::Never);
    let waits = "exports = () => context.services.get('mongodb-atlas').db('d').collection('c').findOne({});";
    let fails = "const kept = new Uint8Array(1 << 20); const self = { kept }; self.self = self; globalThis.self = self;\nexports = async () => { setTimeout(() => self, 1e6); await null; throw new Error('no'); };";
    let isolate = start(program(&[("waits", waits), ("f", fails)]), short(), &fake);
    let mut waiting = Box::pin(isolate.run(call("waits", vec![])));
    for _ in 0..100 {
        tokio::select! {
            outcome = &mut waiting => panic!("{outcome:?}"),
            outcome = isolate.run(call("f", vec![])) => assert_eq!(failed(&outcome).message, "no"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_runs_than_memory_holds_contexts_for_wait_for_one_another() {
    let fake = Fake::new(|_, _| Reply::Late(Duration::from_millis(20), Bson::Int32(1)));
    let text = "const kept = new Uint8Array(4 << 20).fill(1);\nexports = async () => (await context.services.get('mongodb-atlas').db('d').collection('c').findOne({})) + kept[0];";
    let isolate = start(program(&[("f", text)]), short(), &fake);
    let runs = (0..60).map(|_| isolate.run(call("f", vec![])));
    for outcome in futures::future::join_all(runs).await {
        assert_eq!(returned(&outcome), Some(Bson::Int32(2)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_has_all_globals_of_the_language() {
    let names: Vec<String> = {
        let runtime = rquickjs::Runtime::new().unwrap();
        let context = rquickjs::Context::full(&runtime).unwrap();
        context.with(|ctx| ctx.eval("Object.getOwnPropertyNames(globalThis)").unwrap())
    };
    assert!(names.len() > 50, "{names:?}");
    let isolate = isolate(
        "exports = async (names) => { await null; return names.filter((name) => !(name in globalThis)); };",
    );
    let runs = (0..3).map(|_| isolate.run(call("f", vec![names.clone().into()])));
    for outcome in futures::future::join_all(runs).await {
        assert_eq!(returned(&outcome), Some(::bson::bson!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_functions_of_a_context_are_its_own() {
    let text = "exports = async () => { await null; return Object.getOwnPropertyNames(globalThis).filter((name) => typeof globalThis[name] === 'function' && !(globalThis[name] instanceof Function)); };";
    let isolate = isolate(text);
    let runs = (0..3).map(|_| isolate.run(call("f", vec![])));
    for outcome in futures::future::join_all(runs).await {
        assert_eq!(returned(&outcome), Some(::bson::bson!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn globals_are_not_shared_between_isolates() {
    let text = "exports = (set) => { if (set) { globalThis.mark = 1; Array.prototype.mark = 1; } return [typeof mark, [].mark ?? 0]; };";
    let (one, two) = (isolate(text), isolate(text));
    let first = one.run(call("f", vec![Bson::Boolean(true)])).await;
    assert_eq!(returned(&first), Some(::bson::bson!(["number", 1])));
    let second = two.run(call("f", vec![Bson::Boolean(false)])).await;
    assert_eq!(returned(&second), Some(::bson::bson!(["undefined", 0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_waits_for_is_abandoned() {
    let fake = Fake::new(|call, _| {
        if call.operation == "findOne" {
            Reply::Never
        } else {
            Reply::Value(Bson::Null)
        }
    });
    let waits = "exports = () => context.services.get('mongodb-atlas').db('d').collection('c').findOne({});";
    let spins = "exports = () => { for (;;); };";
    let isolate = start(
        program(&[
            ("waits", waits),
            ("spins", spins),
            ("f", "exports = () => 1;"),
        ]),
        Limits {
            timeout: Duration::from_secs(3600),
            ..short()
        },
        &fake,
    );
    for name in ["waits", "spins"] {
        let run = isolate.run_in_order(vec![call(name, vec![]), call("f", vec![])]);
        assert!(
            tokio::time::timeout(Duration::from_millis(100), run)
                .await
                .is_err()
        );
        assert_eq!(
            returned(&isolate.run(call("f", vec![])).await),
            Some(Bson::Int32(1)),
            "{name}"
        );
    }
    until("the scope is closed", || fake.open() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_an_isolate_ends_its_thread_and_what_it_waits_for() {
    let fake = Fake::new(|_, _| Reply::Never);
    let text = "exports = (spin) => { while (spin); return context.services.get('mongodb-atlas').db('d').collection('c').findOne({}); };";
    for spin in [false, true] {
        let isolate = start(
            program(&[("f", text)]),
            Limits {
                timeout: Duration::from_secs(3600),
                ..short()
            },
            &fake,
        );
        let mut run = Box::pin(isolate.run(call("f", vec![Bson::Boolean(spin)])));
        assert!(
            tokio::time::timeout(Duration::from_millis(100), &mut run)
                .await
                .is_err()
        );
        std::mem::forget(run);
        let began = Instant::now();
        drop(isolate);
        assert!(began.elapsed() < Duration::from_secs(5));
        until("the scope is closed", || fake.open() == 0).await;
    }
}
