//! Who may push.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::{digest, hmac};
use subtle::ConstantTimeEq;
use tributary_model::{Error, ErrorKind, Result};

/// The header of a key, beside `Authorization: Bearer`.
const KEY: &str = "x-api-key";
/// The headers of a signature of the body: `sha256=` and its HMAC in hexadecimal.
const SIGNATURES: [&str; 2] = ["x-signature-256", "x-hub-signature-256"];

/// What has to come with a request: a key, a signature of its body, or both.
#[derive(Clone)]
pub struct Access {
    /// The key's SHA-256: digests of any two keys are of one length.
    key: Option<[u8; digest::SHA256_OUTPUT_LEN]>,
    secret: Option<hmac::Key>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Access {
    /// Wants a key where one is given, and a signature where a secret is.
    ///
    /// # Errors
    /// Neither is given, or one is empty.
    pub fn new(key: Option<&str>, secret: Option<&str>) -> Result<Self> {
        let is_open = key.is_none() && secret.is_none();
        if is_open || key == Some("") || secret == Some("") {
            return Err(Error::new(
                ErrorKind::Usage,
                "events can be pushed by nobody or by everybody",
            )
            .remedy("give the source a `key`, an `hmac` secret, or both"));
        }
        Ok(Self {
            key: key.map(digested),
            secret: secret.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
        })
    }

    /// Whether what the headers alone tell is right. The body does not have to be read where it is not.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let key = self.key.is_none_or(|key| {
            presented(headers).is_some_and(|presented| digested(presented).ct_eq(&key).into())
        });
        key && (self.secret.is_none() || signature(headers).is_some())
    }

    /// Whether a key has to come with a request.
    #[must_use]
    pub fn wants_key(&self) -> bool {
        self.key.is_some()
    }

    /// Whether a request may push.
    #[must_use]
    pub fn grants(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let is_signed = |secret: &hmac::Key| {
            let signature = signature(headers);
            signature.is_some_and(|signature| hmac::verify(secret, body, &signature).is_ok())
        };
        self.admits(headers) && self.secret.as_ref().is_none_or(is_signed)
    }
}

fn digested(key: impl AsRef<[u8]>) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, key.as_ref()).as_ref());
    bytes
}

/// The only header of a name.
fn only(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// The key of a request.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if headers.contains_key(KEY) {
        return only(headers, KEY);
    }
    let (scheme, key) = only(headers, AUTHORIZATION)?.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| key.trim_ascii())
}

/// The signature of a request.
fn signature(headers: &HeaderMap) -> Option<Vec<u8>> {
    let name = SIGNATURES
        .iter()
        .find(|name| headers.contains_key(**name))?;
    let digits = only(headers, *name)?.strip_prefix(b"sha256=")?;
    hex::decode(digits).ok()
}

/// Whether a request looks as if it were signed.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    signature(headers).is_some()
}
