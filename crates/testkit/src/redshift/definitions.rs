//! How sessions create and alter tables.

use super::{
    alter_table::{AlterTable, Alteration, check_encodings},
    backend::Failure,
    columns::record_columns,
    create_table::CreateTable,
    cursor::TableName,
    names::{literal, quoted},
    refusal::Refusal,
    session::{Session, completed, in_transaction},
    types::{LONGEST_VARCHAR, SCHEMA, Type},
};

/// A column as the catalog has it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) kind: Type,
    encoding: String,
    distkey: bool,
    sortkey: bool,
    default: bool,
    key: bool,
    nullable: bool,
}

impl Session {
    pub(super) async fn create_table(&mut self, create: &CreateTable) -> Result<(), Failure> {
        self.begin().await?;
        self.lock_definition(&create.regclass()).await?;
        let regclass = literal(&create.regclass());
        let rows = self
            .backend
            .query(&format!("SELECT to_regclass({regclass})"))
            .await?;
        let exists = rows.iter().flatten().any(Option::is_some);
        self.relay(&create.postgres()).await?;
        if exists && create.if_not_exists {
            return Ok(());
        }
        for record in create.records() {
            self.backend.query(&record).await?;
        }
        Ok(())
    }

    pub(super) async fn alter_table(&mut self, alter: &AlterTable) -> Result<(), Failure> {
        let widens = matches!(alter.alteration, Alteration::Widen { .. });
        let encodes = matches!(alter.alteration, Alteration::Encode(_));
        if (widens || encodes) && self.backend.status != b'I' && !self.implicit {
            return Err(in_transaction("ALTER TABLE ALTER COLUMN").into());
        }
        self.begin().await?;
        self.note_write(&alter.table.sql()).await?;
        let columns = self.columns(&alter.table).await?;
        let table = alter.table.sql();
        let relation = format!("{}::regclass", literal(&table));
        match &alter.alteration {
            Alteration::AddColumn(column) => {
                self.relay(&format!(
                    "ALTER TABLE {table} ADD COLUMN {}",
                    column.postgres()
                ))
                .await?;
                let record = record_columns(&relation, &[column.record(false, 0)]);
                self.backend.query(&record).await?;
            }
            Alteration::DropColumn { name, cascade } => {
                let column = known(&columns, name)?;
                if column.distkey || column.sortkey {
                    let key = if column.distkey { "distkey" } else { "sortkey" };
                    let refusal = format!("cannot drop {key} column \"{name}\"");
                    return Err(Refusal::unsupported(refusal).into());
                }
                if column.key && !cascade {
                    let refusal = format!(
                        "cannot drop table column {name} because other objects depend on it"
                    );
                    return Err(Refusal::new("2BP01", refusal).into());
                }
                self.relay(&format!("ALTER TABLE {table} DROP COLUMN {}", quoted(name)))
                    .await?;
                let name = literal(name);
                self.backend
                    .query(&format!(
                        "DELETE FROM {SCHEMA}.constraints WHERE relation = {relation} AND {name} = ANY (columns); \
                         DELETE FROM {SCHEMA}.columns k WHERE relation = {relation} AND NOT EXISTS (SELECT FROM \
                         pg_attribute WHERE attrelid = k.relation AND attnum = k.number AND NOT attisdropped)"
                    ))
                    .await?;
            }
            Alteration::Rename(name) => {
                self.relay(&format!("ALTER TABLE {table} RENAME TO {}", quoted(name)))
                    .await?;
            }
            Alteration::RenameColumn { from, to } => {
                let (old, new) = (quoted(from), quoted(to));
                self.relay(&format!("ALTER TABLE {table} RENAME COLUMN {old} TO {new}"))
                    .await?;
                let (old, new) = (literal(from), literal(to));
                self.backend
                    .query(&format!(
                        "UPDATE {SCHEMA}.constraints SET columns = array_replace(columns, {old}, {new}) \
                         WHERE relation = {relation}"
                    ))
                    .await?;
            }
            Alteration::Owner(name) => {
                self.relay(&format!("ALTER TABLE {table} OWNER TO {}", quoted(name)))
                    .await?;
            }
            Alteration::Distribution(style, key) => {
                if let Some(name) = key {
                    keyable(known(&columns, name)?, "distribution")?;
                }
                let key = key.as_deref().unwrap_or_default();
                self.record(&format!(
                    "UPDATE {SCHEMA}.tables SET diststyle = '{style}' WHERE relation = {relation}; \
                     UPDATE {SCHEMA}.columns SET distkey = number IN (SELECT attnum FROM pg_attribute \
                     WHERE attrelid = {relation} AND attname = {}) WHERE relation = {relation}",
                    literal(key)
                ))
                .await?;
            }
            Alteration::Sorting(style, names) => {
                for name in names {
                    keyable(known(&columns, name)?, "sort")?;
                }
                let names: Vec<_> = names.iter().map(|name| literal(name)).collect();
                self.record(&format!(
                    "UPDATE {SCHEMA}.tables SET sortstyle = '{style}' WHERE relation = {relation}; \
                     UPDATE {SCHEMA}.columns SET sortkey = coalesce(array_position(ARRAY[{}]::text[], (SELECT \
                     attname::text FROM pg_attribute WHERE attrelid = relation AND attnum = number)), 0) \
                     WHERE relation = {relation}",
                    names.join(", ")
                ))
                .await?;
            }
            Alteration::EncodeAuto => self.record("SELECT 1").await?,
            Alteration::Encode(encodings) => {
                check_encodings(encodings, |name| Ok(known(&columns, name)?.kind))?;
                let updates: Vec<_> = encodings
                    .iter()
                    .map(|(name, encoding)| {
                        format!(
                            "UPDATE {SCHEMA}.columns SET encoding = {} WHERE relation = {relation} AND number = \
                             (SELECT attnum FROM pg_attribute WHERE attrelid = {relation} AND attname = {})",
                            literal(encoding),
                            literal(name)
                        )
                    })
                    .collect();
                self.record(&updates.join("; ")).await?;
            }
            Alteration::Widen { column, kind } => {
                self.widen(&alter.table, known(&columns, column)?, *kind)
                    .await?
            }
            Alteration::AddConstraint(constraint) => {
                for name in &constraint.columns {
                    if known(&columns, name)?.nullable && constraint.kind == "PRIMARY KEY" {
                        let refusal = format!(
                            "column \"{name}\" contains nulls: a primary key needs NOT NULL"
                        );
                        return Err(Refusal::new("42P16", refusal).into());
                    }
                }
                self.record(&constraint.record(&alter.table, &relation))
                    .await?;
            }
            Alteration::DropConstraint(name) => {
                let name = literal(name);
                let rows = self
                    .backend
                    .query(&format!(
                        "DELETE FROM {SCHEMA}.constraints WHERE relation = {relation} AND name = {name} RETURNING 1"
                    ))
                    .await?;
                if rows.is_empty() {
                    let refusal = format!("constraint {name} does not exist");
                    return Err(Refusal::new("42704", refusal).into());
                }
                self.complete = Some(completed("ALTER TABLE"));
            }
        }
        Ok(())
    }

    /// Does what only the catalog of the stand-in shows.
    async fn record(&mut self, sql: &str) -> Result<(), Failure> {
        self.backend.query(sql).await?;
        self.complete = Some(completed("ALTER TABLE"));
        Ok(())
    }

    /// Gives a `varchar` another length.
    async fn widen(
        &mut self,
        table: &TableName,
        column: &Known,
        kind: Type,
    ) -> Result<(), Failure> {
        let refuse = |why: &str| {
            Refusal::unsupported(format!(
                "cannot alter type of column \"{}\": {why}",
                column.name
            ))
        };
        if !matches!(column.kind, Type::Varchar(_)) {
            return Err(refuse("only the size of a VARCHAR column can be altered").into());
        }
        if column.key {
            return Err(refuse("it has a UNIQUE, PRIMARY KEY or FOREIGN KEY constraint").into());
        }
        if column.default {
            return Err(refuse("it has a default value").into());
        }
        if ["bytedict", "runlength", "text255", "text32k"].contains(&column.encoding.as_str()) {
            return Err(refuse(&format!("it has the encoding {}", column.encoding)).into());
        }
        let (sql, name) = (table.sql(), quoted(&column.name));
        let longest = self
            .backend
            .query(&format!(
                "SELECT coalesce(max(octet_length({name})), 0) FROM {sql}"
            ))
            .await?;
        let longest: u32 = longest
            .into_iter()
            .flatten()
            .flatten()
            .find_map(|length| length.parse().ok())
            .unwrap_or(LONGEST_VARCHAR);
        if matches!(kind, Type::Varchar(length) if length < longest) {
            return Err(refuse(
                "column size should be greater than or equal to the maximum value size",
            )
            .into());
        }
        let (relation, column_name) = (literal(&sql), literal(&column.name));
        let checks = self
            .backend
            .query(&format!(
                "SELECT c.conname FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND \
                 c.conkey = ARRAY[a.attnum] WHERE c.conrelid = {relation}::regclass AND c.contype = 'c' AND \
                 a.attname = {column_name}"
            ))
            .await?;
        let mut actions: Vec<_> = checks
            .into_iter()
            .flatten()
            .flatten()
            .map(|check| format!("DROP CONSTRAINT {}", quoted(&check)))
            .collect();
        actions.push(format!("ALTER COLUMN {name} TYPE {}", kind.postgres()));
        actions.extend(kind.check(&column.name).map(|check| format!("ADD {check}")));
        self.relay(&format!("ALTER TABLE {sql} {}", actions.join(", ")))
            .await?;
        self.backend
            .query(&format!(
                "UPDATE {SCHEMA}.columns SET type = '{kind}' WHERE relation = {relation}::regclass AND number = \
                 (SELECT attnum FROM pg_attribute WHERE attrelid = {relation}::regclass AND attname = {column_name})"
            ))
            .await?;
        Ok(())
    }

    /// The columns of a table, in order.
    pub(super) async fn columns(&mut self, table: &TableName) -> Result<Vec<Known>, Failure> {
        let relation = format!("{}::regclass", literal(&table.sql()));
        let rows = self
            .backend
            .query(&format!(
                "SELECT a.attname, k.type, k.encoding, k.distkey, k.sortkey <> 0, a.atthasdef, EXISTS (SELECT FROM \
                 {SCHEMA}.constraints c WHERE c.relation = a.attrelid AND a.attname::text = ANY (c.columns)), \
                 NOT a.attnotnull FROM pg_attribute a JOIN {SCHEMA}.columns k ON k.relation = a.attrelid AND \
                 k.number = a.attnum WHERE a.attrelid = {relation} AND NOT a.attisdropped ORDER BY a.attnum"
            ))
            .await?;
        let mut columns = Vec::new();
        for row in rows {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            let mut next = || values.next().unwrap_or_default();
            let (name, kind, encoding) = (next(), Type::parse(&next())?, next());
            let mut flag = || next() == "t";
            columns.push(Known {
                name,
                kind,
                encoding,
                distkey: flag(),
                sortkey: flag(),
                default: flag(),
                key: flag(),
                nullable: flag(),
            });
        }
        Ok(columns)
    }
}

fn known<'a>(columns: &'a [Known], name: &str) -> Result<&'a Known, Refusal> {
    let mut columns = columns.iter();
    columns
        .find(|column| column.name == name)
        .ok_or_else(|| Refusal::new("42703", format!("column \"{name}\" does not exist")))
}

fn keyable(column: &Known, key: &str) -> Result<(), Refusal> {
    match column.kind {
        Type::Super | Type::Varbyte(_) => Err(Refusal::unsupported(format!(
            "column \"{}\" of type {} cannot be a {key} key",
            column.name, column.kind
        ))),
        _ => Ok(()),
    }
}
