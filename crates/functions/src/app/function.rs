//! Functions, and the modules that they `require`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::directory::Directory;
use super::fields::Fields;
use super::problem::meant;
use crate::script::Source;

/// Where functions are, below the application's directory.
const FUNCTIONS: &str = "functions";
const NODE_MODULES: &str = "node_modules";

/// A function.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its JavaScript.
    pub source: Source,
    /// Whether it is for other functions only.
    pub is_private: bool,
    /// Whether it says that it runs as the system. All functions do.
    pub runs_as_system: bool,
    /// Whether its arguments are not to be shown. Logs of runs have none; dead letters do.
    pub hides_arguments: bool,
}

/// All of `functions/`.
#[derive(Debug, Default)]
pub(super) struct Functions {
    pub(super) by_name: BTreeMap<String, Function>,
    /// By their path below `functions/`.
    pub(super) modules: BTreeMap<String, Source>,
}

/// Reads `functions/` in either layout: one `config.json` for all functions, beside `NAME.js`; or, as older
/// exports have it, `NAME/config.json` and `NAME/source.js` for each.
pub(super) fn read_functions(directory: &mut Directory<'_>) -> Functions {
    let mut functions = Functions::default();
    for path in directory.files_below(FUNCTIONS) {
        let Some(below) = path.strip_prefix("functions/") else {
            continue;
        };
        if !is_module(below) {
            note_unread(directory, &path, below);
        } else if let Some(text) = module_text(directory, &path, below) {
            let source = Source {
                file: path.clone(),
                text: text.into(),
            };
            functions.modules.insert(below.to_owned(), source);
        }
    }
    if directory.is_over() {
        return functions;
    }
    check_packages(directory, &functions.modules);
    match directory.has("functions/config.json") {
        true => read_manifest(directory, &mut functions),
        false => read_single_functions(directory, &mut functions),
    }
    functions
}

fn is_module(below: &str) -> bool {
    [".js", ".cjs", ".json"]
        .iter()
        .any(|ending| below.ends_with(ending))
}

fn is_of_package(below: &str) -> bool {
    below.split('/').any(|name| name == NODE_MODULES)
}

/// The text of a module. Packages may hold files that no function ever sees, in whatever encoding.
fn module_text(directory: &mut Directory<'_>, path: &str, below: &str) -> Option<String> {
    if !is_of_package(below) {
        return directory.text(path);
    }
    match String::from_utf8(directory.bytes(path)?) {
        Ok(text) => Some(text),
        Err(_) => {
            directory.found(
                path,
                "this is not UTF-8, and cannot be required",
                "save it as UTF-8, if a function needs it",
            );
            None
        }
    }
}

fn note_unread(directory: &mut Directory<'_>, path: &str, below: &str) {
    if is_of_package(below) {
        return;
    }
    if is_archive(below) {
        directory.found(
            path,
            "packages in an archive are not read",
            "unpack it to functions/node_modules",
        );
    } else if [".ts", ".tsx", ".jsx", ".mjs"]
        .iter()
        .any(|ending| below.ends_with(ending))
    {
        directory.found(
            path,
            "functions in this language are not read",
            "translate it to JavaScript, with the ending .js and CommonJS modules",
        );
    }
}

fn is_archive(below: &str) -> bool {
    let ending = below.strip_prefix("node_modules.");
    ending.is_some_and(|ending| matches!(ending, "tar" | "tar.gz" | "tgz" | "zip" | "7z" | "gz"))
}

/// Notes the packages that functions depend on and that are not there.
fn check_packages(directory: &mut Directory<'_>, modules: &BTreeMap<String, Source>) {
    const FILE: &str = "functions/package.json";
    let Some(source) = modules.get("package.json") else {
        return;
    };
    let Ok(package) = serde_json::from_str::<Value>(&source.text) else {
        directory.found(FILE, "this is no JSON, and is not looked at", "correct it");
        return;
    };
    let Some(Value::Object(dependencies)) = package.get("dependencies") else {
        return;
    };
    let is_there = |name: &String| {
        let below = format!("{NODE_MODULES}/{name}/");
        let next = modules.range(below.clone()..).next();
        next.is_some_and(|(path, _)| path.starts_with(&below))
    };
    let missing: Vec<&str> = dependencies
        .keys()
        .filter(|name| !is_there(name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let what = format!(
            "functions/node_modules does not have {}",
            missing.join(", ")
        );
        directory.found(FILE, what, "run `npm install` in functions/");
    }
}

/// Functions of the newer layout. Those that the file does not name are functions too: App Services adds them
/// to it when they are deployed.
fn read_manifest(directory: &mut Directory<'_>, functions: &mut Functions) {
    const FILE: &str = "functions/config.json";
    // What is said of functions is no module.
    functions.modules.remove("config.json");
    add_all(functions, &BTreeSet::new());
    let mut named = BTreeSet::new();
    for object in directory.objects(FILE).unwrap_or_default() {
        let Some((name, settings)) = read_settings(directory, FILE, object, None) else {
            continue;
        };
        if !named.insert(name.clone()) {
            directory.wrong(
                FILE,
                format!("the function `{name}` is there twice"),
                "remove one of them",
            );
        }
        if let Some(function) = functions.by_name.get_mut(&name) {
            settings.apply(function);
        } else if !directory.has(&format!("functions/{name}.js")) {
            // One that is there, and could not be read, has been told of.
            let known = functions.by_name.keys().map(String::as_str);
            let remedy = meant(&name, known, &format!("add functions/{name}.js"));
            directory.wrong(FILE, format!("the function `{name}` has no source"), remedy);
        }
    }
}

/// Functions of the older layout, and files that are functions by themselves.
fn read_single_functions(directory: &mut Directory<'_>, functions: &mut Functions) {
    let mut taken = BTreeSet::new();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut read = BTreeMap::new();
    for entry in directory.entries(FUNCTIONS) {
        let config = format!("{}/config.json", entry.path);
        if !entry.is_directory || entry.name == NODE_MODULES || !directory.has(&config) {
            continue;
        }
        let has_source = directory.has(&format!("{}/source.js", entry.path));
        if !has_source && !is_about_function(functions, &entry.name) {
            continue;
        }
        functions
            .modules
            .remove(&format!("{}/config.json", entry.name));
        let below = format!("{}/source.js", entry.name);
        let Some(object) = directory.object(&config) else {
            taken.insert(below);
            continue;
        };
        let Some((name, settings)) = read_settings(directory, &config, object, Some(&entry.name))
        else {
            continue;
        };
        if let Some(other) = files.insert(name.clone(), config.clone()) {
            let what = format!("the function `{name}` is in {other} too");
            directory.wrong(&config, what, "give one of them another name");
        }
        let Some(source) = functions.modules.get(&below) else {
            if !has_source {
                directory.wrong(
                    &config,
                    format!("the function `{name}` has no source"),
                    format!("add functions/{below}"),
                );
            }
            continue;
        };
        let mut function = Function::new(source.clone());
        settings.apply(&mut function);
        read.insert(name, function);
        taken.insert(below);
    }
    add_all(functions, &taken);
    for (name, function) in read {
        let file = function.source.file.clone();
        if let Some(other) = functions.by_name.insert(name.clone(), function) {
            let what = format!("the function `{name}` is in {} too", other.source.file);
            directory.wrong(&file, what, "give one of them another name");
        }
    }
}

/// Whether the `config.json` of a directory is that of a function rather than a module.
fn is_about_function(functions: &Functions, name: &str) -> bool {
    let source = functions.modules.get(&format!("{name}/config.json"));
    let config = source.and_then(|source| serde_json::from_str::<Value>(&source.text).ok());
    config.is_some_and(|config| config.get("name").is_some() && config.get("private").is_some())
}

/// Makes functions of all files that can be functions.
fn add_all(functions: &mut Functions, taken: &BTreeSet<String>) {
    for (below, source) in &functions.modules {
        let Some(name) = below.strip_suffix(".js") else {
            continue;
        };
        if !is_of_package(below) && !taken.contains(below) {
            functions
                .by_name
                .insert(name.to_owned(), Function::new(source.clone()));
        }
    }
}

impl Function {
    /// A function of which nothing is said but its source.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            is_private: false,
            runs_as_system: false,
            hides_arguments: false,
        }
    }
}

/// What is said of a function.
struct Settings {
    is_private: bool,
    runs_as_system: bool,
    hides_arguments: bool,
}

impl Settings {
    fn apply(&self, function: &mut Function) {
        function.is_private = self.is_private;
        function.runs_as_system = self.runs_as_system;
        function.hides_arguments = self.hides_arguments;
    }
}

fn read_settings(
    directory: &mut Directory<'_>,
    file: &str,
    object: Map<String, Value>,
    otherwise: Option<&str>,
) -> Option<(String, Settings)> {
    let mut fields = Fields::new(file, object);
    fields.skip(&["id", "_id"]);
    let name = match otherwise {
        Some(otherwise) => Some(
            fields
                .text(directory, "name")
                .unwrap_or_else(|| otherwise.to_owned()),
        ),
        None => fields.needed(directory, "name"),
    };
    let settings = Settings {
        is_private: fields.flag(directory, "private"),
        runs_as_system: fields.flag(directory, "run_as_system"),
        hides_arguments: fields.flag(directory, "disable_arg_logs"),
    };
    let of = name.as_deref().unwrap_or_default();
    refuse_users(directory, &mut fields, of);
    fields.finish(directory);
    Some((name?, settings))
}

/// Notes settings that are about who calls a function or whom it runs as.
pub(super) fn refuse_users(directory: &mut Directory<'_>, fields: &mut Fields<'_>, function: &str) {
    let why = format!("`{function}` runs as the system, whoever calls it");
    fields.skip_if("can_evaluate", |rule| {
        // What App Services writes for a rule that always holds.
        *rule == Value::Bool(true) || rule["%%true"] == Value::Bool(true)
    });
    for key in [
        "can_evaluate",
        "run_as_authed_user",
        "run_as_user_id",
        "run_as_user_id_script_source",
    ] {
        let remedy = "check in the function who may do what";
        fields.refuse(directory, key, &why, remedy);
    }
}
