//! From JSON text to BSON bytes.

use std::borrow::Cow;

use super::MAX_DEPTH;
use super::json::{ExtJsonError, Json};
use super::wrapper::Wrapper;
use crate::raw::kind;

/// A BSON value of its own, without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedValue {
    /// The element type, one of [`kind`].
    pub kind: u8,
    /// Exactly the bytes of the value.
    pub value: Vec<u8>,
}

/// Reads one Extended JSON value, canonical or relaxed.
///
/// A JSON integer becomes the smallest of int32, int64 and double that holds it, any other number
/// a double. Field order and duplicate field names are kept. An object that has a key of a type
/// wrapper but not its form is an error that names the key, as the specification wants it.
pub fn parse_value(json: &str) -> Result<ParsedValue, ExtJsonError> {
    let mut reader = Reader::new(json);
    let kind = reader.value(1)?;
    reader.json.end()?;
    Ok(ParsedValue {
        kind,
        value: reader.out,
    })
}

/// Reads one Extended JSON object, canonical or relaxed, as a document.
///
/// As [`parse_value`], but the outermost object is a document whatever its keys are.
pub fn parse_document(json: &str) -> Result<Vec<u8>, ExtJsonError> {
    let mut reader = Reader::new(json);
    reader.document(1)?;
    reader.json.end()?;
    Ok(reader.out)
}

/// Reads `json` and appends to `out`.
pub(super) struct Reader<'a> {
    pub(super) json: Json<'a>,
    pub(super) out: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(json: &'a str) -> Self {
        Self {
            json: Json::new(json),
            out: Vec::new(),
        }
    }

    /// Appends the next value and returns its type; `depth` is its own level, should it be a
    /// document.
    pub(super) fn value(&mut self, depth: usize) -> Result<u8, ExtJsonError> {
        match self.json.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => {
                let text = self.json.string()?;
                self.push_string(text.as_bytes())?;
                Ok(kind::STRING)
            }
            Some(b't') if self.json.take_word("true") => {
                self.out.push(1);
                Ok(kind::BOOL)
            }
            Some(b'f') if self.json.take_word("false") => {
                self.out.push(0);
                Ok(kind::BOOL)
            }
            Some(b'n') if self.json.take_word("null") => Ok(kind::NULL),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Result<u8, ExtJsonError> {
        let number = self.json.number()?;
        if number.integer
            && let Ok(value) = number.text.parse::<i64>()
        {
            if let Ok(value) = i32::try_from(value) {
                self.out.extend_from_slice(&value.to_le_bytes());
                return Ok(kind::INT32);
            }
            self.out.extend_from_slice(&value.to_le_bytes());
            return Ok(kind::INT64);
        }
        match number.text.parse::<f64>() {
            Ok(value) if value.is_finite() => {
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(kind::DOUBLE)
            }
            _ => Err(self.json.error("number out of the range of a double")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<u8, ExtJsonError> {
        self.json.expect(b'{', "expected an object")?;
        let first = self.first_name()?;
        match first.as_deref().and_then(Wrapper::of) {
            Some(wrapper) => self.wrapper(wrapper, depth),
            None => self.members(first, depth, false),
        }
    }

    /// Appends the next value, which must be an object, as a document whatever its keys are.
    pub(super) fn document(&mut self, depth: usize) -> Result<u8, ExtJsonError> {
        self.json.expect(b'{', "expected an object")?;
        let first = self.first_name()?;
        self.members(first, depth, true)
    }

    /// The name of the first field after an opening brace; `None` if there is none.
    fn first_name(&mut self) -> Result<Option<Cow<'a, str>>, ExtJsonError> {
        if self.json.take(b'}') {
            Ok(None)
        } else {
            self.json.name().map(Some)
        }
    }

    /// The name of the next field, `None` at the closing brace.
    pub(super) fn next_name(&mut self) -> Result<Option<Cow<'a, str>>, ExtJsonError> {
        if self.json.take(b',') {
            return self.json.name().map(Some);
        }
        self.json
            .expect(b'}', "expected a comma or a closing brace")?;
        Ok(None)
    }

    /// Appends a document whose first name has been read, up to its closing brace.
    ///
    /// A `plain` document is not checked for the keys of type wrappers.
    fn members(
        &mut self,
        first: Option<Cow<'a, str>>,
        depth: usize,
        plain: bool,
    ) -> Result<u8, ExtJsonError> {
        let start = self.start_document(depth)?;
        let mut next = first;
        let mut only_scope = None;
        while let Some(name) = next {
            if !plain && let Some(wrapper) = Wrapper::of(&name) {
                return match (wrapper, only_scope) {
                    (Wrapper::Code, Some(scope)) => self.code_after_scope(start, scope),
                    _ => Err(self.error_in(wrapper, "the object has other keys")),
                };
            }
            let is_first = self.out.len() == start + 4;
            let value = self.element(&name, depth + 1)?;
            only_scope = (is_first && name == "$scope").then_some(value);
            next = self.next_name()?;
        }
        self.end_document(start)?;
        Ok(kind::DOCUMENT)
    }

    /// Appends an element, the value of which comes next; returns where its value starts.
    fn element(&mut self, name: &str, depth: usize) -> Result<usize, ExtJsonError> {
        let at = self.out.len();
        self.out.push(0);
        self.push_cstring(name.as_bytes())?;
        let value = self.out.len();
        let kind = self.value(depth)?;
        if let Some(byte) = self.out.get_mut(at) {
            *byte = kind;
        }
        Ok(value)
    }

    /// Reads the rest of `{"$scope": …, "$code": …}`, of which `{"$scope": …, "$code":` has been
    /// read and the scope's value has been appended at `scope`, in a document begun at `start`.
    fn code_after_scope(&mut self, start: usize, scope: usize) -> Result<u8, ExtJsonError> {
        let is_document = self.out.get(start + 4) == Some(&kind::DOCUMENT);
        if !is_document {
            return Err(self.error_in(Wrapper::Code, "$scope is not a document"));
        }
        let scope = self.out.split_off(scope);
        self.out.truncate(start);
        self.out.extend_from_slice(&[0; 4]);
        self.text(Wrapper::Code)?;
        self.out.extend_from_slice(&scope);
        self.end_wrapper(Wrapper::Code)?;
        self.set_length(start, start)?;
        Ok(kind::CODE_WITH_SCOPE)
    }

    fn array(&mut self, depth: usize) -> Result<u8, ExtJsonError> {
        self.json.expect(b'[', "expected an array")?;
        let start = self.start_document(depth)?;
        if !self.json.take(b']') {
            let mut index = 0_u32;
            loop {
                self.element(itoa::Buffer::new().format(index), depth + 1)?;
                index = index.wrapping_add(1);
                if !self.json.take(b',') {
                    break;
                }
            }
            self.json
                .expect(b']', "expected a comma or a closing bracket")?;
        }
        self.end_document(start)?;
        Ok(kind::ARRAY)
    }

    fn start_document(&mut self, depth: usize) -> Result<usize, ExtJsonError> {
        if depth > MAX_DEPTH {
            return Err(self.json.error("nested too deeply"));
        }
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        Ok(start)
    }

    fn end_document(&mut self, start: usize) -> Result<(), ExtJsonError> {
        self.out.push(0);
        self.set_length(start, start)
    }

    /// Writes the length of what was appended since `from` into the four bytes at `at`.
    pub(super) fn set_length(&mut self, at: usize, from: usize) -> Result<(), ExtJsonError> {
        let length = i32::try_from(self.out.len().saturating_sub(from))
            .map_err(|_| self.json.error("longer than BSON can hold"))?;
        if let Some(bytes) = self
            .out
            .get_mut(at..)
            .and_then(|tail| tail.first_chunk_mut::<4>())
        {
            *bytes = length.to_le_bytes();
        }
        Ok(())
    }

    /// Appends a string with its length and terminator.
    pub(super) fn push_string(&mut self, text: &[u8]) -> Result<(), ExtJsonError> {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.out.extend_from_slice(text);
        self.out.push(0);
        self.set_length(start, start + 4)
    }

    /// Appends text with its terminator.
    pub(super) fn push_cstring(&mut self, text: &[u8]) -> Result<(), ExtJsonError> {
        if text.contains(&0) {
            return Err(self.json.error("NUL where BSON does not allow it"));
        }
        self.out.extend_from_slice(text);
        self.out.push(0);
        Ok(())
    }

    #[cold]
    pub(super) fn error_in(&self, wrapper: Wrapper, what: &'static str) -> ExtJsonError {
        ExtJsonError {
            offset: self.json.position(),
            key: Some(wrapper.key()),
            what,
        }
    }
}
