//! `COPY … FROM 's3://…'`: what it may say.

pub(super) mod json;
pub(super) mod objects;
pub(super) mod rows;

use super::{
    cursor::{Cursor, TableName},
    lexer::Token,
    refusal::Refusal,
};

/// Parameters of `COPY` that Redshift does not take for Parquet.
const REFUSED: &[&str] = &[
    "acceptanydate",
    "addquotes",
    "blanksasnull",
    "bzip2",
    "comprows",
    "compupdate",
    "dateformat",
    "delimiter",
    "emptyasnull",
    "encoding",
    "encrypted",
    "escape",
    "fixedwidth",
    "gzip",
    "ignoreblanklines",
    "ignoreheader",
    "lzop",
    "maxerror",
    "noload",
    "null",
    "quote",
    "readratio",
    "region",
    "removequotes",
    "roundec",
    "ssh",
    "timeformat",
    "trimblanks",
    "truncatecolumns",
    "zstd",
];

/// By whose leave objects are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authority {
    Role(String),
    DefaultRole,
    Key {
        id: String,
        secret: String,
        token: Option<String>,
    },
}

/// A `COPY` of Parquet files.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) table: TableName,
    pub(super) columns: Option<Vec<String>>,
    pub(super) source: String,
    pub(super) authority: Authority,
    pub(super) manifest: bool,
    pub(super) serialize_to_json: bool,
    pub(super) fill_record: bool,
}

impl Copy {
    /// Reads what follows `COPY`.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Refusal> {
        if cursor.peek().is_some_and(|token| token.is_symbol('(')) {
            return Err(Refusal::unsupported(
                "COPY ... TO is not supported: use UNLOAD",
            ));
        }
        let table = cursor.table()?;
        let columns = if cursor.peek().is_some_and(|token| token.is_symbol('(')) {
            Some(cursor.names()?)
        } else {
            None
        };
        if cursor.peek().is_some_and(|token| token.is("to")) {
            return Err(Refusal::unsupported(
                "COPY ... TO is not supported: use UNLOAD",
            ));
        }
        cursor.expect(&["from"])?;
        if cursor.peek().is_some_and(|token| token.is("stdin")) {
            return Err(Refusal::unsupported("COPY FROM STDIN is not supported"));
        }
        let source = cursor.string()?;
        if !source.starts_with("s3://") {
            return Err(Refusal::beyond(&format!("COPY from {source}")));
        }
        let mut copy = Self {
            table,
            columns,
            source,
            authority: Authority::DefaultRole,
            manifest: false,
            serialize_to_json: false,
            fill_record: false,
        };
        copy.read_parameters(cursor)?;
        Ok(copy)
    }

    fn read_parameters(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
        let (mut authority, mut parquet) = (None, false);
        let (mut key, mut secret, mut token) = (None, None, None);
        while !cursor.is_empty() {
            cursor.accept(&["with"]);
            if cursor.accept(&["iam_role"]) {
                authority = Some(if cursor.accept(&["default"]) {
                    Authority::DefaultRole
                } else {
                    role(&cursor.string()?)?
                });
            } else if cursor.accept(&["credentials"]) {
                cursor.accept(&["as"]);
                authority = Some(credentials(&cursor.string()?)?);
            } else if cursor.accept(&["access_key_id"]) {
                key = Some(cursor.string()?);
            } else if cursor.accept(&["secret_access_key"]) {
                secret = Some(cursor.string()?);
            } else if cursor.accept(&["session_token"]) || cursor.accept(&["token"]) {
                token = Some(cursor.string()?);
            } else if cursor.accept(&["manifest"]) {
                self.manifest = true;
            } else if cursor.accept(&["serializetojson"]) {
                self.serialize_to_json = true;
            } else if cursor.accept(&["fillrecord"]) {
                self.fill_record = true;
            } else if cursor.accept(&["statupdate"]) {
                let _ = cursor.accept(&["on"]) || cursor.accept(&["off"]);
            } else if cursor.accept(&["acceptinvchars"]) {
                cursor.accept(&["as"]);
                // What is written in place of characters that are not UTF-8; strings that arrow has read are.
                if cursor
                    .peek()
                    .is_some_and(|token| token.text.starts_with('\''))
                {
                    cursor.string()?;
                }
            } else if cursor.accept(&["explicit_ids"]) {
                return Err(Refusal::beyond("EXPLICIT_IDS"));
            } else {
                cursor.accept(&["format"]);
                cursor.accept(&["as"]);
                parquet = true;
                format(cursor)?;
            }
        }
        if !parquet {
            return Err(Refusal::beyond("COPY of text: FORMAT AS PARQUET is, which"));
        }
        if let Some(id) = key {
            let secret =
                secret.ok_or_else(|| Refusal::syntax("ACCESS_KEY_ID needs SECRET_ACCESS_KEY"))?;
            authority = Some(Authority::Key { id, secret, token });
        }
        self.authority = authority.ok_or_else(|| {
            Refusal::new(
                "42601",
                "CREDENTIALS argument is required but missing: an IAM role or access keys have to be given",
            )
        })?;
        Ok(())
    }
}

fn format(cursor: &mut Cursor<'_>) -> Result<(), Refusal> {
    let word = cursor.peek().filter(|token| !token.text.starts_with('\''));
    let word = word
        .and_then(Token::name)
        .ok_or_else(|| cursor.unexpected())?;
    if cursor.accept(&["parquet"]) {
        return Ok(());
    }
    if ["csv", "json", "avro", "orc", "shapefile"].contains(&word) {
        return Err(Refusal::beyond(&format!("COPY of {}", word.to_uppercase())));
    }
    if REFUSED.contains(&word) {
        return Err(Refusal::unsupported(format!(
            "{} argument is not supported for PARQUET based COPY",
            word.to_uppercase()
        )));
    }
    Err(cursor.unexpected())
}

fn role(arn: &str) -> Result<Authority, Refusal> {
    if arn.contains(',') {
        return Err(Refusal::beyond("a chain of IAM roles"));
    }
    Ok(Authority::Role(arn.to_owned()))
}

/// `aws_iam_role=…` or `aws_access_key_id=…;aws_secret_access_key=…[;token=…]`.
fn credentials(text: &str) -> Result<Authority, Refusal> {
    let (mut id, mut secret, mut token) = (None, None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("aws_iam_role", arn)) => return role(arn),
            Some(("aws_access_key_id", value)) => id = Some(value.to_owned()),
            Some(("aws_secret_access_key", value)) => secret = Some(value.to_owned()),
            Some(("token", value)) => token = Some(value.to_owned()),
            _ => return Err(invalid_credentials()),
        }
    }
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Authority::Key { id, secret, token }),
        _ => Err(invalid_credentials()),
    }
}

fn invalid_credentials() -> Refusal {
    Refusal::internal(
        "Invalid credentials. Must be of the format: credentials 'aws_iam_role=...' or \
         'aws_access_key_id=...;aws_secret_access_key=...[;token=...]'",
    )
}

#[cfg(test)]
mod tests {
    use super::{Authority, Copy, Cursor};
    use crate::redshift::lexer::statements;

    fn copy(sql: &str) -> Result<Copy, String> {
        let found = statements(sql).unwrap();
        let mut cursor = Cursor::new(&found[0].tokens);
        cursor.expect(&["copy"]).unwrap();
        Copy::read(&mut cursor).map_err(|refusal| refusal.message)
    }

    #[test]
    fn authority_is_given_in_several_ways() {
        let key = |token: Option<&str>| Authority::Key {
            id: "I".to_owned(),
            secret: "S".to_owned(),
            token: token.map(str::to_owned),
        };
        for (clause, expected) in [
            ("IAM_ROLE 'arn:r'", Authority::Role("arn:r".to_owned())),
            ("IAM_ROLE default", Authority::DefaultRole),
            (
                "CREDENTIALS 'aws_iam_role=arn:r'",
                Authority::Role("arn:r".to_owned()),
            ),
            (
                "WITH CREDENTIALS AS 'aws_access_key_id=I;aws_secret_access_key=S'",
                key(None),
            ),
            (
                "ACCESS_KEY_ID 'I' SECRET_ACCESS_KEY 'S' SESSION_TOKEN 'T'",
                key(Some("T")),
            ),
        ] {
            let read = copy(&format!(
                "COPY t FROM 's3://b/p' {clause} FORMAT AS PARQUET"
            ))
            .unwrap();
            assert_eq!(read.authority, expected, "{clause}");
        }
    }

    #[test]
    fn what_parquet_does_not_take_is_refused() {
        for (sql, expected) in [
            ("COPY t FROM STDIN", "COPY FROM STDIN is not supported"),
            (
                "COPY t TO STDOUT",
                "COPY ... TO is not supported: use UNLOAD",
            ),
            (
                "COPY t FROM 's3://b/p' IAM_ROLE default PARQUET REGION 'eu-west-1'",
                "REGION argument is not supported for PARQUET based COPY",
            ),
            (
                "COPY t FROM 's3://b/p' IAM_ROLE default PARQUET MAXERROR 5",
                "MAXERROR argument is not supported for PARQUET based COPY",
            ),
            (
                "COPY t FROM 's3://b/p' PARQUET",
                "CREDENTIALS argument is required but missing: an IAM role or access keys have to be given",
            ),
        ] {
            assert_eq!(copy(sql).unwrap_err(), expected);
        }
    }
}
