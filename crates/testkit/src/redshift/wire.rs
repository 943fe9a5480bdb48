//! Frames of PostgreSQL's protocol, version 3.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::refusal::Refusal;

/// Longer frames are taken for a broken stream.
const LARGEST: usize = 1 << 30;

/// A message and its tag.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

impl Frame {
    pub(super) fn new(tag: u8, body: impl Into<Vec<u8>>) -> Self {
        Self {
            tag,
            body: body.into(),
        }
    }

    /// A message that consists of one string.
    pub(super) fn text(tag: u8, text: &str) -> Self {
        Self::new(tag, terminated(text))
    }

    /// `ReadyForQuery`.
    pub(super) fn ready(status: u8) -> Self {
        Self::new(b'Z', [status])
    }

    /// `ErrorResponse`.
    pub(super) fn error(refusal: &Refusal) -> Self {
        let mut fields = vec![
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', refusal.code.as_str()),
            (b'M', refusal.message.as_str()),
        ];
        fields.extend(refusal.detail.as_deref().map(|detail| (b'D', detail)));
        Self::new(b'E', report(&fields))
    }

    /// `NoticeResponse`.
    pub(super) fn notice(message: &str) -> Self {
        let fields = [
            (b'S', "INFO"),
            (b'V', "INFO"),
            (b'C', "00000"),
            (b'M', message),
        ];
        Self::new(b'N', report(&fields))
    }

    /// A field of an `ErrorResponse`.
    pub(super) fn field(&self, wanted: u8) -> Option<String> {
        let mut rest = self.body.as_slice();
        while let Some((&tag, after)) = rest.split_first() {
            let (text, next) = split_string(after)?;
            if tag == wanted {
                return Some(text);
            }
            rest = next;
        }
        None
    }

    /// What the server said in an `ErrorResponse`.
    pub(super) fn refusal(&self) -> Refusal {
        Refusal {
            code: self.field(b'C').unwrap_or_default(),
            message: self.field(b'M').unwrap_or_default(),
            detail: self.field(b'D'),
        }
    }

    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let tag = stream.read_u8().await?;
        let body = read_body(stream).await?;
        Ok(Self { tag, body })
    }

    /// The first message of a connection, which has no tag.
    pub(super) async fn read_startup(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let body = read_body(stream).await?;
        Ok(Self { tag: 0, body })
    }

    pub(super) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.tag != 0 {
            stream.write_u8(self.tag).await?;
        }
        let length = u32::try_from(self.body.len() + 4).map_err(io::Error::other)?;
        stream.write_u32(length).await?;
        stream.write_all(&self.body).await
    }
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    let length = length.checked_sub(4).filter(|length| *length <= LARGEST);
    let length = length.ok_or_else(|| io::Error::other("a frame has an impossible length"))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// A string as the protocol ends it.
pub(super) fn terminated(text: &str) -> Vec<u8> {
    // A string of the protocol cannot hold a zero byte.
    let mut bytes = text.replace('\0', "").into_bytes();
    bytes.push(0);
    bytes
}

/// A string and what is behind it.
pub(super) fn split_string(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    let text = String::from_utf8_lossy(text).into_owned();
    Some((text, rest.get(1..)?))
}

fn report(fields: &[(u8, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (tag, text) in fields {
        body.push(*tag);
        body.extend(terminated(text));
    }
    body.push(0);
    body
}

/// The values of a `DataRow` in the text format.
pub(super) fn values(row: &Frame) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = row.body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, next) = after.split_at_checked(length)?;
                values.push(Some(String::from_utf8_lossy(value).into_owned()));
                rest = next;
            }
            Err(_) => {
                values.push(None);
                rest = after;
            }
        }
    }
    Some(values)
}

/// A `RowDescription` with other names of columns.
pub(super) fn renamed(
    description: &Frame,
    name_of: impl Fn(&str) -> Option<String>,
) -> Option<Frame> {
    /// Of a column, what follows its name: table, number, type, length, modifier and format.
    const FACTS: usize = 18;
    let (count, mut rest) = description.body.split_first_chunk::<2>()?;
    let mut body = count.to_vec();
    for _ in 0..u16::from_be_bytes(*count) {
        let (name, after) = split_string(rest)?;
        let (facts, next) = after.split_at_checked(FACTS)?;
        body.extend(terminated(&name_of(&name).unwrap_or(name)));
        body.extend(facts);
        rest = next;
    }
    Some(Frame::new(b'T', body))
}

#[cfg(test)]
mod tests {
    use super::{Frame, Refusal, renamed, terminated, values};

    #[test]
    fn errors_are_written_and_read() {
        let refusal = Refusal::new("XX000", "no").detail("because");
        assert_eq!(Frame::error(&refusal).refusal(), refusal);
        let frame = Frame::error(&Refusal::syntax("no"));
        assert_eq!(frame.field(b'D'), None);
    }

    #[test]
    fn rows_and_their_descriptions_are_read() {
        let row = [&[0, 2][..], &[0, 0, 0, 1], b"x", &[255; 4]].concat();
        let found = values(&Frame::new(b'D', row)).unwrap();
        assert_eq!(found, [Some("x".to_owned()), None]);
        let column = [&[0, 1][..], &terminated("a"), &[7; 18]].concat();
        let frame = renamed(&Frame::new(b'T', column), |name| Some(name.repeat(2))).unwrap();
        assert_eq!(
            frame.body,
            [&[0, 1][..], &terminated("aa"), &[7; 18]].concat()
        );
        assert!(renamed(&Frame::new(b'T', [0, 1, b'a']), |_| None).is_none());
    }
}
