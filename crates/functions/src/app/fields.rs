//! The settings of a JSON object, taken one by one: what is left over is not known.

use serde_json::{Map, Value};

use super::directory::Directory;

/// An object, of which what was asked for is taken away.
pub(super) struct Fields<'f> {
    file: &'f str,
    /// What stands before the names of its fields: `config.`, or nothing.
    within: String,
    left: Map<String, Value>,
}

impl<'f> Fields<'f> {
    pub(super) fn new(file: &'f str, object: Map<String, Value>) -> Self {
        Self {
            file,
            within: String::new(),
            left: object,
        }
    }

    /// The value of a field; null is none.
    pub(super) fn value(&mut self, key: &str) -> Option<Value> {
        self.left.shift_remove(key).filter(|value| !value.is_null())
    }

    /// The value of a field, be it null.
    pub(super) fn raw(&mut self, key: &str) -> Option<Value> {
        self.left.shift_remove(key)
    }

    fn wrong(&self, directory: &mut Directory<'_>, key: &str, wanted: &str) {
        let what = format!("`{}{key}` is not {wanted}", self.within);
        directory.wrong(self.file, what, format!("write {wanted}"));
    }

    /// A text; an empty one is none.
    pub(super) fn text(&mut self, directory: &mut Directory<'_>, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            _ => {
                self.wrong(directory, key, "a text");
                None
            }
        }
    }

    /// A text that has to be there.
    pub(super) fn needed(&mut self, directory: &mut Directory<'_>, key: &str) -> Option<String> {
        let problems = directory.problems.len();
        let text = self.text(directory, key);
        if text.is_none() && directory.problems.len() == problems {
            let what = format!("`{}{key}` is missing", self.within);
            directory.wrong(self.file, what, "add it");
        }
        text
    }

    /// `true` or `false`; false where it is missing.
    pub(super) fn flag(&mut self, directory: &mut Directory<'_>, key: &str) -> bool {
        match self.value(key) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                self.wrong(directory, key, "`true` or `false`");
                false
            }
        }
    }

    /// Texts; none where it is missing.
    pub(super) fn texts(&mut self, directory: &mut Directory<'_>, key: &str) -> Vec<String> {
        let values = match self.value(key) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                self.wrong(directory, key, "an array of texts");
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::String(text) => texts.push(text),
                _ => self.wrong(directory, key, "an array of texts"),
            }
        }
        texts
    }

    /// The fields of an object in it; none where it is missing.
    pub(super) fn object(&mut self, directory: &mut Directory<'_>, key: &str) -> Fields<'f> {
        let left = match self.value(key) {
            None => Map::new(),
            Some(Value::Object(object)) => object,
            Some(_) => {
                self.wrong(directory, key, "an object");
                Map::new()
            }
        };
        Fields {
            file: self.file,
            within: format!("{}{key}.", self.within),
            left,
        }
    }

    /// Fields that mean nothing outside of App Services, such as the ids of its own records.
    pub(super) fn skip(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.shift_remove(*key);
        }
    }

    /// Leaves a field out where it says what is the case anyway.
    pub(super) fn skip_if(&mut self, key: &str, is_so: impl FnOnce(&Value) -> bool) {
        if self.left.get(key).is_some_and(is_so) {
            self.left.shift_remove(key);
        }
    }

    /// Notes that a field is not honoured, where it says anything.
    pub(super) fn refuse(
        &mut self,
        directory: &mut Directory<'_>,
        key: &str,
        why: &str,
        remedy: &str,
    ) {
        if self.value(key).is_some_and(|value| says_something(&value)) {
            let what = format!("`{}{key}` is not honoured: {why}", self.within);
            directory.found(self.file, what, remedy);
        }
    }

    /// What is left, for objects whose fields may be anything.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Notes what is left as not known.
    pub(super) fn finish(self, directory: &mut Directory<'_>) {
        for key in self.left.keys() {
            let what = format!(
                "`{}{key}` is not a known setting, and is ignored",
                self.within
            );
            directory.found(self.file, what, "check how it is written, or remove it");
        }
    }
}

/// Whether a value is more than an empty place in a form.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}
