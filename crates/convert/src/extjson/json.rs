//! A reader of JSON tokens.
//!
//! It keeps what a general JSON library may not: numbers as they were written, so that doubles are
//! rounded correctly whatever features such a library was built with, and every field in order,
//! duplicates included.

use std::borrow::Cow;
use std::fmt;

/// Text that is not Extended JSON, or that BSON cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtJsonError {
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// The type wrapper that is malformed, such as `$oid`, if it is one.
    pub key: Option<&'static str>,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for ExtJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed extended JSON at byte {}: ", self.offset)?;
        if let Some(key) = self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(self.what)
    }
}

impl std::error::Error for ExtJsonError {}

/// A place in a JSON text.
pub(super) struct Json<'a> {
    text: &'a str,
    position: usize,
}

/// A number as it was written.
pub(super) struct Number<'a> {
    pub(super) text: &'a str,
    /// Whether it has neither a fraction nor an exponent.
    pub(super) integer: bool,
}

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    #[cold]
    pub(super) fn error(&self, what: &'static str) -> ExtJsonError {
        ExtJsonError {
            offset: self.position,
            key: None,
            what,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text
            .as_bytes()
            .get(self.position..)
            .unwrap_or_default()
    }

    fn slice(&self, from: usize, to: usize) -> Result<&'a str, ExtJsonError> {
        self.text
            .get(from..to)
            .ok_or_else(|| self.error("text cut within a character"))
    }

    /// The first byte of the next token, which stays where it is.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        let space = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\n' | b'\r');
        let skipped = rest.iter().take_while(space).count();
        self.position += skipped;
        rest.get(skipped).copied()
    }

    /// Takes `punctuation` if it is the next token.
    pub(super) fn take(&mut self, punctuation: u8) -> bool {
        let taken = self.peek() == Some(punctuation);
        self.position += usize::from(taken);
        taken
    }

    /// Takes `punctuation`, or fails with `what`.
    pub(super) fn expect(
        &mut self,
        punctuation: u8,
        what: &'static str,
    ) -> Result<(), ExtJsonError> {
        if self.take(punctuation) {
            Ok(())
        } else {
            Err(self.error(what))
        }
    }

    /// Takes `word` if the text goes on with it.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let taken = self.peek().is_some() && self.rest().starts_with(word.as_bytes());
        if taken {
            self.position += word.len();
        }
        taken
    }

    /// Fails unless the text is at its end.
    pub(super) fn end(&mut self) -> Result<(), ExtJsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("text goes on after the value")),
        }
    }

    /// Takes the name of a field and the colon after it.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, ExtJsonError> {
        let name = self.string()?;
        self.expect(b':', "expected a colon")?;
        Ok(name)
    }

    pub(super) fn number(&mut self) -> Result<Number<'a>, ExtJsonError> {
        self.peek();
        let start = self.position;
        let rest = self.rest();
        let digits = |from: usize| {
            let tail = rest.get(from..).unwrap_or_default();
            tail.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let mut length = usize::from(rest.first() == Some(&b'-'));
        let whole = digits(length);
        let mut valid = whole == 1 || (whole > 1 && rest.get(length) != Some(&b'0'));
        length += whole;
        let mut integer = true;
        if rest.get(length) == Some(&b'.') {
            integer = false;
            let fraction = digits(length + 1);
            valid &= fraction > 0;
            length += 1 + fraction;
        }
        if let Some(b'e' | b'E') = rest.get(length) {
            integer = false;
            length += 1 + usize::from(matches!(rest.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(length);
            valid &= exponent > 0;
            length += exponent;
        }
        if !valid {
            return Err(self.error("expected a value"));
        }
        let text = self.slice(start, start + length)?;
        self.position += length;
        Ok(Number { text, integer })
    }

    /// Takes a string, borrowed unless it contains escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, ExtJsonError> {
        self.expect(b'"', "expected a string")?;
        let plain = self.plain()?;
        if self.rest().first() == Some(&b'"') {
            self.position += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut whole = plain.to_owned();
        loop {
            match self.rest().first() {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(Cow::Owned(whole));
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    whole.push(character);
                }
                Some(_) => return Err(self.error("control character within a string")),
                None => return Err(self.error("string without end")),
            }
            whole.push_str(self.plain()?);
        }
    }

    /// Takes text up to a quote, an escape or a control character.
    fn plain(&mut self) -> Result<&'a str, ExtJsonError> {
        let start = self.position;
        let plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
        self.position += self.rest().iter().take_while(plain).count();
        self.slice(start, self.position)
    }

    /// Takes a backslash and what it escapes.
    fn escape(&mut self) -> Result<char, ExtJsonError> {
        let character = match self.rest().get(1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.error("unknown escape within a string")),
        };
        self.position += 2;
        Ok(character)
    }

    /// Takes `\uXXXX`, or two of them that are a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, ExtJsonError> {
        const LONE: &str = "half of a surrogate pair within a string";
        let high = self.code_unit()?;
        let code = match high {
            0xD800..=0xDBFF => {
                let low = if self.rest().starts_with(b"\\u") {
                    self.code_unit()?
                } else {
                    0
                };
                if !(0xDC00..=0xDFFF).contains(&low) {
                    return Err(self.error(LONE));
                }
                0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.error(LONE))
    }

    fn code_unit(&mut self) -> Result<u32, ExtJsonError> {
        let digits = self.rest().get(2..6).unwrap_or_default();
        let unit = digits.iter().try_fold(0, |unit, &digit| {
            char::from(digit)
                .to_digit(16)
                .map(|value| unit << 4 | value)
        });
        match unit {
            Some(unit) if digits.len() == 4 => {
                self.position += 6;
                Ok(unit)
            }
            _ => Err(self.error("\\u without four hexadecimal digits")),
        }
    }
}
