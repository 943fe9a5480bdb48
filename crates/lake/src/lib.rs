//! The lake adapter: Delta tables, plain files and SQL.
