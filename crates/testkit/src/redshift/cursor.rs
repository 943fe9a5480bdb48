//! Reading a statement token by token.

use super::{
    lexer::{Kind, Token},
    names::quoted,
    refusal::Refusal,
};

/// The name of a table, and of its schema where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableName {
    pub(super) schema: Option<String>,
    pub(super) name: String,
}

impl TableName {
    /// As PostgreSQL is told it.
    pub(super) fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        }
    }
}

/// Where reading has got to.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [Token],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(tokens: &'a [Token]) -> Self {
        Self { rest: tokens }
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.rest.first()
    }

    pub(super) fn rest(&self) -> &'a [Token] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Reads these keywords, or none of them.
    pub(super) fn accept(&mut self, words: &[&str]) -> bool {
        let found = self.rest.len() >= words.len()
            && self
                .rest
                .iter()
                .zip(words)
                .all(|(token, word)| token.is(word));
        if found {
            self.rest = self.rest.get(words.len()..).unwrap_or_default();
        }
        found
    }

    pub(super) fn accept_symbol(&mut self, symbol: char) -> bool {
        let found = self.peek().is_some_and(|token| token.is_symbol(symbol));
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect(&mut self, words: &[&str]) -> Result<(), Refusal> {
        if self.accept(words) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(super) fn expect_symbol(&mut self, symbol: char) -> Result<(), Refusal> {
        if self.accept_symbol(symbol) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(super) fn expect_end(&self) -> Result<(), Refusal> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(super) fn name(&mut self) -> Result<String, Refusal> {
        let name = self.peek().and_then(Token::name).map(str::to_owned);
        let name = name.ok_or_else(|| self.unexpected())?;
        self.next();
        Ok(name)
    }

    /// The next word that is not quoted.
    pub(super) fn word(&mut self) -> Result<String, Refusal> {
        match self.peek().map(|token| &token.kind) {
            Some(Kind::Word(word)) => {
                self.next();
                Ok(word.clone())
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn string(&mut self) -> Result<String, Refusal> {
        match self.peek().map(|token| &token.kind) {
            Some(Kind::Text(text)) => {
                self.next();
                Ok(text.clone())
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn number(&mut self) -> Result<u32, Refusal> {
        let number = self
            .peek()
            .filter(|token| token.kind == Kind::Number)
            .and_then(|token| token.text.parse().ok())
            .ok_or_else(|| self.unexpected())?;
        self.next();
        Ok(number)
    }

    pub(super) fn table(&mut self) -> Result<TableName, Refusal> {
        let first = self.name()?;
        if !self.accept_symbol('.') {
            return Ok(TableName {
                schema: None,
                name: first,
            });
        }
        let name = self.name()?;
        if self.peek().is_some_and(|token| token.is_symbol('.')) {
            return Err(Refusal::beyond("a name with a database"));
        }
        Ok(TableName {
            schema: Some(first),
            name,
        })
    }

    /// Names in parentheses, with commas between them.
    pub(super) fn names(&mut self) -> Result<Vec<String>, Refusal> {
        self.expect_symbol('(')?;
        let mut names = vec![self.name()?];
        while self.accept_symbol(',') {
            names.push(self.name()?);
        }
        self.expect_symbol(')')?;
        Ok(names)
    }

    /// Reads up to a comma or one of `words` that stands in no parentheses, or up to the parenthesis that closes what is
    /// around.
    pub(super) fn expression(&mut self, words: &[&str]) -> &'a [Token] {
        let start = self.rest;
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::Symbol('(') => depth += 1,
                Kind::Symbol(')') if depth == 0 => break,
                Kind::Symbol(')') => depth -= 1,
                Kind::Symbol(',') if depth == 0 => break,
                Kind::Word(ref word) if depth == 0 && words.contains(&word.as_str()) => break,
                _ => {}
            }
            self.next();
        }
        start
            .get(..start.len() - self.rest.len())
            .unwrap_or_default()
    }

    /// A syntax error at what comes next.
    pub(super) fn unexpected(&self) -> Refusal {
        match self.peek() {
            Some(token) => Refusal::near(&token.text),
            None => Refusal::syntax("syntax error at end of input"),
        }
    }
}
