use std::collections::BTreeMap;

use super::*;

fn files(modules: &[(&str, &str)]) -> Files {
    let source = |path: &str, text: &str| Source {
        file: format!("functions/{path}"),
        text: text.into(),
    };
    Files::new(&Program {
        functions: BTreeMap::from([("orders/copy".to_owned(), source("orders/copy.js", ""))]),
        modules: modules
            .iter()
            .map(|(path, text)| ((*path).to_owned(), source(path, text)))
            .collect(),
        ..Program::default()
    })
}

#[test]
fn a_relative_name_is_relative_to_the_file_that_requires_it() {
    let files = files(&[("lib/a.js", ""), ("lib/b/index.js", ""), ("lib/c.json", "")]);
    let from = "orders/copy.js";
    assert_eq!(files.function("orders/copy"), Some(from));
    for (name, path) in [
        ("../lib/a", "lib/a.js"),
        ("../lib/a.js", "lib/a.js"),
        ("../lib/b", "lib/b/index.js"),
        ("../lib/c", "lib/c.json"),
        ("./copy", "orders/copy.js"),
    ] {
        assert_eq!(files.resolve(from, name).as_deref(), Some(path), "{name}");
    }
    for name in ["./a", "../../lib/a", "lib/a", "../lib/d"] {
        assert_eq!(files.resolve(from, name), None, "{name}");
    }
}

#[test]
fn a_package_is_looked_for_in_the_directories_above() {
    let files = files(&[
        ("node_modules/one/package.json", r#"{"main": "lib/main"}"#),
        ("node_modules/one/lib/main.js", ""),
        ("node_modules/one/other.js", ""),
        ("node_modules/@scope/two/index.js", ""),
        (
            "node_modules/three/package.json",
            r#"{"exports": "./x.js", "main": "no.js"}"#,
        ),
        ("node_modules/three/x.js", ""),
        (
            "node_modules/four/package.json",
            r#"{"exports": {".": {"import": "./x.mjs", "require": "./x.cjs"}, "./y": "./lib/y.js"}}"#,
        ),
        ("node_modules/four/x.cjs", ""),
        ("node_modules/four/lib/y.js", ""),
        ("node_modules/one/node_modules/three/index.js", ""),
    ]);
    for (from, name, path) in [
        ("orders/copy.js", "one", "node_modules/one/lib/main.js"),
        ("orders/copy.js", "one/other", "node_modules/one/other.js"),
        ("a.js", "@scope/two", "node_modules/@scope/two/index.js"),
        ("a.js", "three", "node_modules/three/x.js"),
        ("a.js", "four", "node_modules/four/x.cjs"),
        ("a.js", "four/y", "node_modules/four/lib/y.js"),
        (
            "node_modules/one/lib/main.js",
            "three",
            "node_modules/one/node_modules/three/index.js",
        ),
        (
            "node_modules/one/lib/main.js",
            "four",
            "node_modules/four/x.cjs",
        ),
    ] {
        assert_eq!(
            files.resolve(from, name).as_deref(),
            Some(path),
            "{name} from {from}"
        );
    }
    assert_eq!(files.resolve("a.js", "five"), None);
    assert_eq!(files.resolve("a.js", "@scope"), None);
}

#[test]
fn a_package_whose_description_is_broken_or_points_to_itself_has_its_index() {
    let files = files(&[
        ("node_modules/a/package.json", "{"),
        ("node_modules/a/index.js", ""),
        ("node_modules/b/package.json", r#"{"main": "."}"#),
        ("node_modules/b/index.js", ""),
    ]);
    for name in ["a", "b"] {
        let path = format!("node_modules/{name}/index.js");
        assert_eq!(files.resolve("x.js", name), Some(path));
    }
}
