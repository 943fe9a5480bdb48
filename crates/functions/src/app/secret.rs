//! Secrets of an application, by their names.

/// The environment variable that a secret of an application is looked for in, where none has the very name
/// of the secret: letters, digits and `_` stay, anything else becomes `_`.
#[must_use]
pub fn secret_variable(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let variable: String = name.chars().map(plain).collect();
    match variable.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{variable}"),
        false => variable,
    }
}
