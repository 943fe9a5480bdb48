use super::*;

fn with_modules(functions: &[(&str, &str)], modules: &[(&str, &str)]) -> Isolate {
    let mut program = program(functions);
    program.modules = modules
        .iter()
        .map(|(path, text)| ((*path).to_owned(), source(path, text)))
        .collect();
    start(program, short(), &Fake::idle())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_require_each_other_and_packages() {
    let isolate = with_modules(
        &[(
            "dir/f",
            "const { one } = require('../lib/one');\nconst data = require('../lib/data.json');\nconst pack = require('pack');\nexports = () => [one, data.list, pack('x'), require('../lib/one') === require('../lib/one.js')];",
        )],
        &[
            (
                "lib/one.js",
                "exports.one = require('./two') + __filename + __dirname;",
            ),
            ("lib/two/index.js", "module.exports = 'two ';"),
            ("lib/data.json", "{ \"list\": [1, 2] }"),
            (
                "node_modules/pack/package.json",
                "{ \"main\": \"main.js\" }",
            ),
            (
                "node_modules/pack/main.js",
                "const dep = require('dep'); module.exports = (x) => dep + x;",
            ),
            ("node_modules/dep/index.js", "module.exports = 'dep ';"),
        ],
    );
    let outcome = isolate.run(call("dir/f", vec![])).await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!(["two lib/one.jslib", [1, 2], "dep x", true]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_require_each_other_in_a_circle_see_what_there_is_so_far() {
    let isolate = with_modules(
        &[(
            "f",
            "const a = require('./a'); exports = () => [a.name, a.seen, a.b.seen];",
        )],
        &[
            (
                "a.js",
                "exports.name = 'a'; const b = require('./b'); exports.seen = b.name; exports.b = b;",
            ),
            (
                "b.js",
                "const a = require('./a'); exports.name = 'b'; exports.seen = a.name + (a.seen ?? ' only');",
            ),
        ],
    );
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(
        returned(&outcome),
        Some(::bson::bson!(["a", "b", "a only"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_missing_is_an_error_with_its_place() {
    let failure = failure_of("\nexports = () => require('nowhere');", short()).await;
    assert_eq!(failure.message, "Cannot find module 'nowhere'");
    assert_eq!(failure.kind, FailureKind::Thrown);
    assert_eq!(failure.place, Some(("functions/f.js".to_owned(), 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_file_that_is_no_javascript_says_so() {
    let isolate = with_modules(
        &[("f", "require('./bad');\nexports = () => 1;")],
        &[("bad.js", "let a;\nlet a;")],
    );
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(failed(&outcome).kind, FailureKind::NotLoaded);
    assert_eq!(
        failed(&outcome).place,
        Some(("functions/bad.js".to_owned(), 2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_modules_are_required_by_name() {
    assert_eq!(
        value_of(
            "[require('bson').ObjectId === BSON.ObjectId, require('node:util').inspect({ a: 1 })]"
        )
        .await,
        ::bson::bson!([true, "{ a: 1 }"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_executes_another() {
    let isolate = start(
        program(&[
            (
                "f",
                "exports = async () => [context.functions.execute('sum', 1, 2), await context.functions.execute('later', 3)];",
            ),
            ("sum", "exports = (a, b) => a + b;"),
            ("later", "exports = async (a) => a;"),
            (
                "lost",
                "exports = () => context.functions.execute('nothing');",
            ),
        ]),
        short(),
        &Fake::idle(),
    );
    assert_eq!(
        returned(&isolate.run(call("f", vec![])).await),
        Some(::bson::bson!([3, 3]))
    );
    let outcome = isolate.run(call("lost", vec![])).await;
    assert_eq!(failed(&outcome).name, "FunctionError");
    assert_eq!(failed(&outcome).message, "there is no function 'nothing'");
    assert_eq!(failed(&outcome).kind, FailureKind::Thrown);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_says_where_the_function_runs() {
    let mut program = program(&[(
        "f",
        "exports = () => ({ limit: context.values.get('limit'), none: context.values.get('none') === undefined, tag: context.environment.tag, base: context.environment.values.base, app: context.app, user: context.user.type, system: context.runningAsSystem(), request: context.request ?? null });",
    )]);
    program
        .values
        .insert("limit".to_owned(), bytes(doc! { "v": { "max": 5 } }));
    program
        .environment_values
        .insert("base".to_owned(), bytes(doc! { "v": "url" }));
    let isolate = start(program, short(), &Fake::idle());
    let expected = doc! {
        "limit": { "max": 5 }, "none": true, "tag": "production", "base": "url",
        "app": { "id": "app-id", "name": "app-name" }, "user": "system", "system": true,
    };
    let mut asked = call("f", vec![]);
    for request in [None, Some(doc! { "httpMethod": "GET" })] {
        asked.request = request.clone().map(bytes);
        let mut expected = expected.clone();
        expected.insert("request", request);
        assert_eq!(
            returned(&isolate.run(asked.clone()).await),
            Some(expected.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_says_what_is_known_of_the_application() {
    let mut program = program(&[("f", "exports = () => context.app;")]);
    program.app = AppMetadata {
        id: "60c8e59866b0c33d14ee634a".to_owned(),
        name: "myapp".to_owned(),
        client_id: "myapp-abcde".to_owned(),
        project_id: "5e1ec444970199272441a214".to_owned(),
        deployment_model: String::new(),
        provider_region: "aws-us-east-1".to_owned(),
    };
    let isolate = start(program, short(), &Fake::idle());
    let expected = doc! {
        "id": "60c8e59866b0c33d14ee634a", "name": "myapp", "clientAppId": "myapp-abcde",
        "projectId": "5e1ec444970199272441a214", "deployment": { "providerRegion": "aws-us-east-1" },
    };
    assert_eq!(
        returned(&isolate.run(call("f", vec![])).await),
        Some(expected.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_run_sees_its_own_request() {
    let isolate = isolate(
        "exports = async () => { const before = context.request.n; context.request.seen = before; await new Promise((done) => setTimeout(done, 10)); return [before, context.request.n, context.request.seen]; };",
    );
    let runs = (0..10).map(|n| {
        let mut call = call("f", vec![]);
        call.request = Some(bytes(doc! { "n": n }));
        isolate.run(call)
    });
    for (n, outcome) in (0..).zip(futures::future::join_all(runs).await) {
        assert_eq!(returned(&outcome), Some(::bson::bson!([n, n, n])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_for_a_shell_is_no_code() {
    let isolate = with_modules(
        &[(
            "f",
            "#!/usr/bin/env node\nconst { line } = require('./lib'); exports = () => [line, new Error().stack.includes('f.js:2:')];",
        )],
        &[("lib.js", "#!/usr/bin/env node\r\nexports.line = 2;")],
    );
    let outcome = isolate.run(call("f", vec![])).await;
    assert_eq!(returned(&outcome), Some(::bson::bson!([2, true])));
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_of_the_network_are_refused_with_what_there_is_instead() {
    for name in ["http", "node:https", "net"] {
        let text = format!("exports = () => require('{name}');");
        let failure = failure_of(&text, short()).await;
        let bare = name.trim_start_matches("node:");
        let message =
            format!("Cannot find module '{bare}': functions reach others by context.http");
        assert_eq!(failure.message, message);
    }
    let text =
        "exports = () => { try { require('https'); } catch (error) { return error.code; } };";
    assert_eq!(result_of(text).await, Bson::from("MODULE_NOT_FOUND"));
}
