//! Where the statements of a script begin and end.
//!
//! Nothing is understood of them but what a semicolon may stand in: quotes, comments, brackets, and the
//! bodies of functions that are written as `BEGIN ATOMIC … END`. So what a server adds to its language is
//! no concern here.

/// One statement, without what stands before and behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    pub(super) text: &'a str,
    /// The line that it begins in, from 1 on.
    pub(super) line: usize,
    words: Vec<String>,
}

impl Statement<'_> {
    /// Whether it begins or ends a transaction.
    pub(super) fn controls_transaction(&self) -> bool {
        let second = self.words.get(1).map_or("", String::as_str);
        match self.first_word() {
            "BEGIN" | "COMMIT" | "END" | "ABORT" | "ROLLBACK" => true,
            "START" | "PREPARE" => second == "TRANSACTION",
            _ => false,
        }
    }

    /// In capital letters.
    pub(super) fn first_word(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// The words of a statement that are looked at: as many as stand before the kind of what is created,
/// `CREATE OR REPLACE FUNCTION`.
const WORDS: usize = 4;

/// The statements of a script; empty ones are none.
pub(super) fn statements(script: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut rest = Scanner { script, at: 0 };
    while let Some(statement) = rest.next_statement() {
        found.push(statement);
    }
    found
}

struct Scanner<'a> {
    script: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.script.get(self.at..).unwrap_or_default()
    }

    fn next_statement(&mut self) -> Option<Statement<'a>> {
        loop {
            let (mut begin, mut end) = (None, self.at);
            let mut words: Vec<String> = Vec::new();
            let (mut brackets, mut blocks) = (0_usize, 0_usize);
            while let Some(first) = self.rest().chars().next() {
                let from = self.at;
                if first == ';' && brackets == 0 && blocks == 0 {
                    self.at += 1;
                    break;
                }
                if self.skip_blank(first) {
                    continue;
                }
                begin.get_or_insert(from);
                if let Some(word) = self.word() {
                    let word = word.to_uppercase();
                    let is_of_function = words.first().is_some_and(|word| word == "CREATE")
                        && words
                            .iter()
                            .any(|word| matches!(word.as_str(), "FUNCTION" | "PROCEDURE"));
                    match word.as_str() {
                        "BEGIN" if is_of_function => blocks += 1,
                        "CASE" if blocks > 0 => blocks += 1,
                        "END" if blocks > 0 => blocks -= 1,
                        _ => {}
                    }
                    // The prefix of a text with backslashes in it.
                    if word == "E" && self.rest().starts_with('\'') {
                        self.skip_quoted('\'', true);
                    } else if words.len() < WORDS {
                        words.push(word);
                    }
                } else {
                    match first {
                        '\'' | '"' => self.skip_quoted(first, false),
                        '$' => self.skip_dollars(),
                        '(' | '[' => brackets += 1,
                        ')' | ']' => brackets = brackets.saturating_sub(1),
                        _ => {}
                    }
                    if self.at == from {
                        self.at += first.len_utf8();
                    }
                }
                end = self.at;
            }
            if let Some(begin) = begin {
                let line = 1 + self.script[..begin].matches('\n').count();
                let text = &self.script[begin..end];
                return Some(Statement { text, line, words });
            }
            if self.rest().is_empty() {
                return None;
            }
        }
    }

    /// Passes over a blank, or a comment.
    fn skip_blank(&mut self, first: char) -> bool {
        let rest = self.rest();
        if first.is_whitespace() {
            self.at += first.len_utf8();
        } else if rest.starts_with("--") {
            self.at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            self.at += comment(rest);
        } else {
            return false;
        }
        true
    }

    /// Takes a word, if there is one.
    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let first = rest.chars().next()?;
        if !(first.is_alphabetic() || first == '_') {
            // Digits too, so that `1$` is not taken for the beginning of a quote.
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            self.at += digits;
            return (digits > 0).then_some(&rest[..digits]);
        }
        let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let end = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        self.at += end;
        Some(&rest[..end])
    }

    /// Passes over what is quoted: a quote within is doubled, or behind a backslash where those count.
    fn skip_quoted(&mut self, quote: char, backslashes: bool) {
        let rest = self.rest();
        let mut letters = rest.char_indices().skip(1).peekable();
        while let Some((at, letter)) = letters.next() {
            if backslashes && letter == '\\' {
                letters.next();
            } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
                self.at += at + quote.len_utf8();
                return;
            }
        }
        self.at += rest.len();
    }

    /// Passes over `$tag$ … $tag$`, if that is what begins here.
    fn skip_dollars(&mut self) {
        let rest = self.rest();
        let Some(end) = rest[1..].find('$') else {
            return;
        };
        let tag = &rest[..end + 2];
        let inner = &tag[1..tag.len() - 1];
        let is_tag = inner.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !inner.starts_with(|c: char| c.is_ascii_digit());
        if is_tag {
            let behind = &rest[tag.len()..];
            self.at += match behind.find(tag) {
                Some(end) => 2 * tag.len() + end,
                None => rest.len(),
            };
        }
    }
}

/// The length of the comment that a text begins with. Comments may stand in comments.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(script: &str, expected: &[(usize, &str)]) {
        let found = statements(script);
        let found: Vec<_> = found.iter().map(|s| (s.line, s.text)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_everything() {
        is("", &[]);
        is(" ;; -- nothing\n /* ; /* ; */ */ ;", &[]);
        is(
            "SELECT 1; -- one\n\nSELECT\n 2 ;",
            &[(1, "SELECT 1"), (3, "SELECT\n 2")],
        );
        is(
            "SELECT ';''', \"a;\"\"\", E'\\';', 'é';X",
            &[(1, "SELECT ';''', \"a;\"\"\", E'\\';', 'é'"), (1, "X")],
        );
        is(
            "DO $$ BEGIN; END $$; DO $a$ $$;$$ $a$;A",
            &[
                (1, "DO $$ BEGIN; END $$"),
                (1, "DO $a$ $$;$$ $a$"),
                (1, "A"),
            ],
        );
        is(
            "SELECT $1; SELECT a$b$; X",
            &[(1, "SELECT $1"), (1, "SELECT a$b$"), (1, "X")],
        );
        is(
            "CREATE RULE r AS ON INSERT TO t DO (A; B); X",
            &[(1, "CREATE RULE r AS ON INSERT TO t DO (A; B)"), (1, "X")],
        );
        let function = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC \
                        SELECT CASE WHEN a THEN 1 END; SELECT 2; END";
        is(&format!("{function}; X"), &[(1, function), (1, "X")]);
        is("SELECT 'open", &[(1, "SELECT 'open")]);
    }

    #[test]
    fn what_begins_or_ends_a_transaction_is_known() {
        let controls = |text: &str| statements(text).iter().any(Statement::controls_transaction);
        for text in [
            "begin",
            "SELECT 1; Commit",
            "/* x */ END;",
            "abort",
            "ROLLBACK TO a",
            "start\n transaction",
            "PREPARE TRANSACTION 'x'",
        ] {
            assert!(controls(text), "{text}");
        }
        for text in [
            "SELECT 'commit'",
            "-- begin\nSELECT 1",
            "PREPARE a AS SELECT 1",
            "DO $$ BEGIN END $$",
            "SAVEPOINT a",
            "SELECT CASE WHEN true THEN 1 END",
        ] {
            assert!(!controls(text), "{text}");
        }
    }
}
