//! Parameters of a session.

use std::collections::BTreeMap;

use super::{
    cursor::Cursor,
    lexer::{Kind, Token, written},
    refusal::Refusal,
};

/// Those that PostgreSQL knows as well.
const SHARED: &[&str] = &[
    "application_name",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "search_path",
    "statement_timeout",
    "timezone",
];

/// Those that only Redshift knows, and what they are at first.
const OWN: &[(&str, &str)] = &[
    ("analyze_threshold_percent", "10"),
    ("cast_super_null_on_error", "on"),
    ("default_geometry_encoding", "1"),
    ("describe_field_name_in_uppercase", "off"),
    ("downcase_delimited_identifier", "on"),
    ("enable_case_sensitive_identifier", "off"),
    ("enable_case_sensitive_super_attribute", "off"),
    ("enable_numeric_rounding", "on"),
    ("enable_result_cache_for_session", "on"),
    ("error_on_nondeterministic_update", "off"),
    ("json_parse_dedup_attributes", "off"),
    ("json_parse_truncate_strings", "off"),
    ("json_serialization_enable", "off"),
    ("mv_enable_aqmv_for_session", "on"),
    ("navigate_super_null_on_error", "on"),
    ("parse_super_null_on_error", "off"),
    ("query_group", "default"),
    ("spectrum_query_maxerror", "-1"),
    ("stored_proc_log_min_messages", "log"),
    ("use_fips_ssl", "off"),
    ("wlm_query_slot_count", "1"),
];

/// Those of [`OWN`] that change what statements do, so that pretending would mislead.
const FIXED: &[&str] = &[
    "downcase_delimited_identifier",
    "enable_case_sensitive_identifier",
    "enable_case_sensitive_super_attribute",
    "json_parse_truncate_strings",
    "parse_super_null_on_error",
];

/// What is done with a parameter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// PostgreSQL does it.
    Forward(String),
    Set(String, String),
    Reset(String),
    Show(String),
}

/// Reads a `SET`, `RESET` or `SHOW`.
pub(super) fn read(tokens: &[Token]) -> Result<Setting, Refusal> {
    let mut cursor = Cursor::new(tokens);
    let verb = cursor.word()?;
    if verb == "set" {
        for refused in ["transaction", "role", "constraints", "authorization"] {
            if cursor.peek().is_some_and(|token| token.is(refused)) {
                return Err(Refusal::beyond(&format!("SET {}", refused.to_uppercase())));
            }
        }
        if cursor.accept(&["session", "authorization"])
            || cursor.accept(&["session", "characteristics"])
        {
            return Err(Refusal::beyond("SET SESSION AUTHORIZATION"));
        }
        if !cursor.accept(&["session"]) {
            cursor.accept(&["local"]);
        }
    }
    let name = if cursor.accept(&["time", "zone"]) {
        "timezone".to_owned()
    } else {
        cursor.name()?
    };
    if SHARED.contains(&name.as_str()) {
        return Ok(Setting::Forward(written(tokens)));
    }
    let Some((_, usual)) = OWN.iter().find(|(own, _)| *own == name) else {
        return Err(Refusal::new(
            "42704",
            format!("unrecognized configuration parameter \"{name}\""),
        ));
    };
    match verb.as_str() {
        "show" => return Ok(Setting::Show(name)),
        "reset" => return Ok(Setting::Reset(name)),
        _ => {}
    }
    if !cursor.accept(&["to"]) {
        cursor.expect_symbol('=')?;
    }
    let value = match cursor.rest() {
        [token] => match &token.kind {
            Kind::Word(value) | Kind::Quoted(value) | Kind::Text(value) => value.clone(),
            Kind::Number | Kind::Symbol(_) => token.text.clone(),
        },
        tokens => written(tokens),
    };
    if value == "default" {
        return Ok(Setting::Reset(name));
    }
    if FIXED.contains(&name.as_str()) && switched(&value) != switched(usual) {
        return Err(Refusal::beyond(&format!("{name} = {value}")));
    }
    Ok(Setting::Set(name, value))
}

fn switched(value: &str) -> bool {
    ["on", "true", "1", "yes"].contains(&value.to_ascii_lowercase().as_str())
}

/// The parameters that PostgreSQL does not know.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(super) fn set(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    pub(super) fn reset(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn get(&self, name: &str) -> String {
        let usual = || {
            OWN.iter()
                .find(|(own, _)| *own == name)
                .map(|(_, usual)| *usual)
        };
        self.0
            .get(name)
            .map(String::as_str)
            .or_else(usual)
            .unwrap_or_default()
            .to_owned()
    }
}
