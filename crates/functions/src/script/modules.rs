//! Which file a `require` names.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Program, Source};

/// The files of a program, by their path below its `functions/`.
pub(super) struct Files {
    by_path: HashMap<String, Source>,
    functions: HashMap<String, String>,
}

/// What matters here of a `package.json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Package {
    main: Option<String>,
    exports: serde_json::Value,
}

impl Package {
    /// The file of the package itself, relative to it.
    fn entry(&self) -> Option<&str> {
        let own = match &self.exports {
            serde_json::Value::Object(exports) => exports.get(".").unwrap_or(&self.exports),
            other => other,
        };
        target(own).or(self.main.as_deref())
    }

    /// The file that the package gives out under a path such as `./lib`.
    fn given_out(&self, path: &str) -> Option<&str> {
        target(self.exports.as_object()?.get(path)?)
    }
}

/// The file that an entry of `exports` names for code that requires it.
fn target(entry: &serde_json::Value) -> Option<&str> {
    match entry {
        serde_json::Value::String(path) => Some(path),
        serde_json::Value::Object(conditions) => ["require", "node", "default"]
            .iter()
            .find_map(|condition| target(conditions.get(*condition)?)),
        _ => None,
    }
}

impl Files {
    pub(super) fn new(program: &Program) -> Self {
        let mut by_path = HashMap::with_capacity(program.modules.len() + program.functions.len());
        for (path, source) in &program.modules {
            by_path.insert(path.clone(), source.clone());
        }
        let mut functions = HashMap::new();
        for (name, source) in &program.functions {
            let path = match source.file.strip_prefix("functions/") {
                Some(path) => path.to_owned(),
                None => format!("{name}.js"),
            };
            by_path.insert(path.clone(), source.clone());
            functions.insert(name.clone(), path);
        }
        Self { by_path, functions }
    }

    /// The path of a function's file.
    pub(super) fn function(&self, name: &str) -> Option<&str> {
        self.functions.get(name).map(String::as_str)
    }

    /// The file at a path.
    pub(super) fn source(&self, path: &str) -> Option<&Source> {
        self.by_path.get(path)
    }

    /// The path of what the file at `from` means by `require(name)`, as Node.js finds it.
    pub(super) fn resolve(&self, from: &str, name: &str) -> Option<String> {
        let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
        if name.starts_with("./") || name.starts_with("../") || name == "." || name == ".." {
            return self.file_or_directory(&join(directory, name)?);
        }
        if let Some(path) = name.strip_prefix('/') {
            return self.file_or_directory(path);
        }
        let mut above = Some(directory);
        while let Some(directory) = above {
            if let Some(found) = self.in_packages(directory, name) {
                return Some(found);
            }
            above = match directory.rsplit_once('/') {
                Some((parent, _)) => Some(parent),
                None if directory.is_empty() => None,
                None => Some(""),
            };
        }
        None
    }

    fn in_packages(&self, directory: &str, name: &str) -> Option<String> {
        let packages = join(directory, "node_modules")?;
        let parts = if name.starts_with('@') { 2 } else { 1 };
        let end = name
            .match_indices('/')
            .nth(parts - 1)
            .map_or(name.len(), |(at, _)| at);
        let (package, inner) = name.split_at_checked(end)?;
        let root = join(&packages, package)?;
        if !inner.is_empty()
            && let Some(package) = self.package(&root)
            && let Some(file) = package.given_out(&format!(".{inner}"))
        {
            return self.file_or_directory(&join(&root, file)?);
        }
        self.file_or_directory(&join(&packages, name)?)
    }

    fn package(&self, root: &str) -> Option<Package> {
        let source = self.by_path.get(&join(root, "package.json")?)?;
        Some(serde_json::from_str(&source.text).unwrap_or_default())
    }

    fn file_or_directory(&self, path: &str) -> Option<String> {
        self.file(path).or_else(|| {
            let main = self
                .package(path)
                .and_then(|package| package.entry().and_then(|entry| join(path, entry)))
                .filter(|main| main != path)
                .and_then(|main| self.file(&main).or_else(|| self.index(&main)));
            main.or_else(|| self.index(path))
        })
    }

    fn file(&self, path: &str) -> Option<String> {
        ["", ".js", ".cjs", ".json"]
            .iter()
            .map(|ending| format!("{path}{ending}"))
            .find(|path| self.by_path.contains_key(path))
    }

    fn index(&self, path: &str) -> Option<String> {
        self.file(&join(path, "index")?)
    }
}

/// A path relative to a directory, without `.` and `..`; none where it leads out of all directories.
fn join(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests;
