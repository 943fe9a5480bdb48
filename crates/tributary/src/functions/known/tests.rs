use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

#[test]
fn triggers_hide_the_arguments_of_functions_that_say_so() {
    let directory = TempDir::new().unwrap();
    let write = |path: &str, text: String| {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let functions = json!([{ "name": "silent", "disable_arg_logs": true }, { "name": "open" }]);
    write("app/functions/config.json", functions.to_string());
    for name in ["silent", "open"] {
        write(
            &format!("app/functions/{name}.js"),
            "exports = () => {};".to_owned(),
        );
        let trigger: Value = json!({
            "name": name, "type": "SCHEDULED", "config": { "schedule": "0 2 * * *" },
            "function_name": name,
        });
        write(&format!("app/triggers/{name}.json"), trigger.to_string());
    }
    let plan = "apps: { shop: { path: app } }\n";
    let plan = Plan::parse(plan, directory.path(), &|_| None).unwrap();
    let known = known(&plan).unwrap();
    let hides: Vec<(&str, bool)> = known
        .iter()
        .map(|trigger| (trigger.name.as_str(), trigger.hides_arguments))
        .collect();
    assert_eq!(hides, [("shop/open", false), ("shop/silent", true)]);
}
