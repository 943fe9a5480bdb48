//! Statements as tokens, whose names are already those of PostgreSQL.

use super::{
    names::{folded, quoted, stored},
    refusal::Refusal,
};

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a name without quotation marks, in lower case.
    Word(String),
    /// A name in double quotation marks, folded.
    Quoted(String),
    /// A string, without its quotation marks.
    Text(String),
    /// A number or a parameter such as `$1`.
    Number,
    /// Any other character.
    Symbol(char),
}

/// A token and how it is written for PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// Whether there was space or a comment before it.
    pub(super) space: bool,
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }

    /// Whether it is this character.
    pub(super) fn is_symbol(&self, symbol: char) -> bool {
        self.kind == Kind::Symbol(symbol)
    }

    /// The name, if it may be one.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(name) | Kind::Quoted(name) => Some(name),
            Kind::Text(_) | Kind::Number | Kind::Symbol(_) => None,
        }
    }
}

/// Tokens as text again.
pub(super) fn written(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        if token.space && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&token.text);
    }
    text
}

/// One statement of a message.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// As it was sent.
    pub(super) source: String,
    pub(super) tokens: Vec<Token>,
    /// Names that PostgreSQL keeps under others: theirs and Redshift's.
    pub(super) long_names: Vec<(String, String)>,
}

/// The statements of a message; empty ones are left out.
pub(super) fn statements(sql: &str) -> Result<Vec<Statement>, Refusal> {
    let mut lexer = Lexer { rest: sql };
    let mut found = Vec::new();
    loop {
        let start = sql.len() - lexer.rest.len();
        let (mut tokens, mut long_names) = (Vec::new(), Vec::new());
        let mut end;
        let last = loop {
            let space = lexer.skip_space()?;
            end = sql.len() - lexer.rest.len();
            match lexer.next(space, &mut long_names)? {
                None => break true,
                Some(token) if token.is_symbol(';') => break false,
                Some(token) => tokens.push(token),
            }
        };
        if !tokens.is_empty() {
            let source = sql.get(start..end).unwrap_or_default().trim().to_owned();
            found.push(Statement {
                source,
                tokens,
                long_names,
            });
        }
        if last {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn skip_space(&mut self) -> Result<bool, Refusal> {
        let before = self.rest.len();
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("--") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.take(end);
            } else if self.rest.starts_with("/*") {
                self.skip_comment()?;
            } else {
                return Ok(self.rest.len() != before);
            }
        }
    }

    /// Comments of this kind nest.
    fn skip_comment(&mut self) -> Result<(), Refusal> {
        let mut depth = 0;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.take(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take(2);
            } else if let Some(first) = self.rest.chars().next() {
                self.take(first.len_utf8());
            } else {
                return Err(Refusal::syntax("unterminated /* comment"));
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn next(
        &mut self,
        space: bool,
        long_names: &mut Vec<(String, String)>,
    ) -> Result<Option<Token>, Refusal> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let (kind, text) = match first {
            '"' => {
                let source = self.delimited('"', "unterminated quoted identifier")?;
                let name = source.replace("\"\"", "\"");
                if name.is_empty() {
                    return Err(Refusal::syntax("zero-length delimited identifier"));
                }
                let name = self.name(&name, long_names);
                let text = quoted(&name);
                (Kind::Quoted(name), text)
            }
            '\'' => {
                let source = self.delimited('\'', "unterminated quoted string")?;
                (Kind::Text(source.replace("''", "'")), format!("'{source}'"))
            }
            'e' | 'E' if self.rest.get(1..2) == Some("'") => {
                self.take(1);
                let source = self.escaped()?;
                (Kind::Text(source.to_owned()), format!("E'{source}'"))
            }
            '$' if self.rest.starts_with("$$") => {
                let end = self.rest.get(2..).and_then(|rest| rest.find("$$"));
                let end =
                    end.ok_or_else(|| Refusal::syntax("unterminated dollar-quoted string"))?;
                let text = self.take(end + 4);
                let inner = text.get(2..end + 2).unwrap_or_default();
                (Kind::Text(inner.to_owned()), text.to_owned())
            }
            '0'..='9' | '$' => {
                let end = end_of(self.rest, |char| {
                    char.is_ascii_alphanumeric() || matches!(char, '.' | '$' | '_')
                });
                (Kind::Number, self.take(end).to_owned())
            }
            _ if first.is_alphabetic() || first == '_' => {
                let end = end_of(self.rest, |char| {
                    char.is_alphanumeric() || matches!(char, '_' | '$')
                });
                let source = self.take(end);
                let name = self.name(source, long_names);
                // Only a name that was shortened needs quotation marks, which would make a name of a keyword.
                let text = if name.len() == source.len() {
                    name.clone()
                } else {
                    quoted(&name)
                };
                (Kind::Word(name), text)
            }
            _ => {
                let text = self.take(first.len_utf8()).to_owned();
                (Kind::Symbol(first), text)
            }
        };
        Ok(Some(Token { kind, text, space }))
    }

    fn name(&self, source: &str, long_names: &mut Vec<(String, String)>) -> String {
        let name = folded(source);
        let kept = stored(&name);
        if kept != name {
            long_names.push((kept.clone(), name));
        }
        kept
    }

    /// What is between two `mark`s, where a doubled one stands for itself.
    fn delimited(&mut self, mark: char, error: &str) -> Result<&'a str, Refusal> {
        self.take(1);
        let mut from = 0;
        loop {
            let found = self
                .rest
                .get(from..)
                .and_then(|rest| rest.find(mark))
                .map(|at| from + at)
                .ok_or_else(|| Refusal::syntax(error))?;
            if self
                .rest
                .get(found + 1..)
                .is_some_and(|rest| rest.starts_with(mark))
            {
                from = found + 2;
                continue;
            }
            let text = self.take(found);
            self.take(1);
            return Ok(text);
        }
    }

    /// A string in which a backslash escapes.
    fn escaped(&mut self) -> Result<&'a str, Refusal> {
        self.take(1);
        let mut bytes = self.rest.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => {
                    bytes.next();
                }
                b'\'' if self.rest.as_bytes().get(at + 1) == Some(&b'\'') => {
                    bytes.next();
                }
                b'\'' => {
                    let text = self.take(at);
                    self.take(1);
                    return Ok(text);
                }
                _ => {}
            }
        }
        Err(Refusal::syntax("unterminated quoted string"))
    }
}

fn end_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|char| !belongs(char)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::{statements, written};

    fn check(sql: &str, expected: &[&str]) {
        let found = statements(sql).unwrap();
        let texts: Vec<_> = found.iter().map(|each| written(&each.tokens)).collect();
        assert_eq!(texts, expected, "{sql}");
    }

    #[test]
    fn statements_are_told_apart_and_names_folded() {
        check("", &[]);
        check(" ; -- nothing\n;", &[]);
        check(
            "SELECT \"A;b\", ';''x' /* ; /* ; */ */ FROM T; commit",
            &["select \"a;b\", ';''x' from t", "commit"],
        );
        check(
            "select 'it''s', E'\\';', $$;$$, a::date",
            &["select 'it''s', E'\\';', $$;$$, a::date"],
        );
        check("select 1.5e3>=$1", &["select 1.5e3>=$1"]);
    }

    #[test]
    fn the_source_of_a_statement_is_as_sent() {
        let found = statements("BEGIN ; \n DELETE FROM \"T\" ;").unwrap();
        let sources: Vec<_> = found.iter().map(|each| each.source.as_str()).collect();
        assert_eq!(sources, ["BEGIN", "DELETE FROM \"T\""]);
    }

    #[test]
    fn what_does_not_end_is_refused() {
        for sql in [
            "select 'a",
            "select \"a",
            "/* a",
            "select $$a",
            "select E'a\\'",
        ] {
            statements(sql).unwrap_err();
        }
    }
}
