//! Databases beside the lake whose tables a query reads as they are now.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use tributary_model::Result;

/// A database that a query may read.
///
/// Nothing is asked of the server before one of these is called. Whatever is read is read only.
#[async_trait]
pub trait AttachedDatabase: fmt::Debug + Send + Sync {
    /// Where it is, without credentials.
    fn place(&self) -> &str;

    /// All its tables and views but the system's own.
    async fn tables(&self) -> Result<Vec<AttachedName>>;

    /// One table; none where there is none of that name.
    async fn open(&self, name: &AttachedName) -> Result<Option<Arc<dyn AttachedTable>>>;
}

/// The name of a table in its database, spelled as the database has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachedName {
    /// The schema that it is in.
    pub schema: String,
    /// Its name there.
    pub table: String,
}

impl fmt::Display for AttachedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A table of an attached database.
#[async_trait]
pub trait AttachedTable: fmt::Debug + Send + Sync {
    /// Its columns, as they were when it was opened.
    fn schema(&self) -> SchemaRef;

    /// About how many rows it has, as far as the database knows.
    fn estimated_rows(&self) -> Option<u64>;

    /// What the database can do about a condition.
    fn support(&self, filter: &Filter) -> FilterSupport;

    /// What the database is asked for, for people.
    fn statement(&self, scan: &Scan) -> String;

    /// Reads rows: the columns of the scan in its order, in batches of a few megabytes, each read
    /// from the server when it is asked for. All rows of a scan are of one moment; those of two scans
    /// may be of two. Dropping the stream ends the statement.
    ///
    /// # Errors
    /// The database cannot be read; a value is none that its column can hold, which is told and not
    /// changed.
    async fn scan(&self, scan: &Scan) -> Result<RowStream>;
}

/// Rows on their way.
pub type RowStream = BoxStream<'static, Result<RecordBatch>>;

/// What is read of a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// Which columns, by their places in the table's schema.
    pub columns: Vec<usize>,
    /// Conditions that all have to hold, each of which the table supports.
    pub filters: Vec<Filter>,
    /// How many rows at most.
    pub limit: Option<u64>,
}

/// A condition on the columns of one table. Where it is null it does not hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// A column's value compared with another.
    Compare(usize, Comparison, Literal),
    /// A column's value is one of these.
    In(usize, Vec<Literal>),
    /// A column is null.
    IsNull(usize),
    /// A column is not null.
    IsNotNull(usize),
    /// All of these hold.
    And(Vec<Filter>),
    /// One of these holds.
    Or(Vec<Filter>),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A value in a condition, of the type of the column that it is compared with. None is null.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Of a boolean column.
    Boolean(bool),
    /// Of a column of whole numbers.
    Integer(i64),
    /// Of a column of 32-bit floating-point numbers.
    Float(f32),
    /// Of a column of 64-bit floating-point numbers.
    Double(f64),
    /// Of a decimal column: the digits, and how many of them are behind the point.
    Decimal(i128, i8),
    /// Of a text column.
    Text(String),
    /// Of a date column: days since 1970.
    Date(i32),
    /// Of a column of times without a zone: microseconds since 1970.
    Timestamp(i64),
    /// Of a column of moments: microseconds since 1970, UTC.
    Moment(i64),
}

/// What a database makes of a condition, compared with how the query's engine defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilterSupport {
    /// It cannot be asked for.
    None,
    /// The database answers all rows for which it holds, and maybe others.
    Superset,
    /// The database answers the rows for which it holds and no others.
    Exact,
}
