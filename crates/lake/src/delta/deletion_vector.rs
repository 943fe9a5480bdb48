//! Deletion vectors: which rows of a data file are deleted.
//!
//! Format: the Delta protocol, "Deletion Vector Format". Rows are numbered by their place in the
//! Parquet file, across its row groups, deleted ones included.

use deltalake::kernel::{DeletionVectorDescriptor, StorageType};
use object_store::ObjectStoreExt;
use roaring::RoaringTreemap;
use tributary_model::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::location::Location;

/// The number that a serialised bitmap begins with.
const MAGIC: [u8; 4] = 1_681_511_377_u32.to_le_bytes();
/// The version of the format of files.
const VERSION: u8 = 1;
/// The characters that a file's UUID takes in a descriptor.
const UUID_CHARACTERS: usize = 20;

/// The deletion vectors of one commit, in one file.
pub(crate) struct VectorFile {
    id: Uuid,
    bytes: Vec<u8>,
}

impl VectorFile {
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::new_v4(),
            bytes: vec![VERSION],
        }
    }

    /// Whether it holds no vector.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() <= 1
    }

    /// Appends a vector, and answers how a log names it.
    pub(crate) fn push(&mut self, deleted: &RoaringTreemap) -> Result<DeletionVectorDescriptor> {
        let too_large = |error: std::num::TryFromIntError| {
            Error::new(ErrorKind::Storage, "a deletion vector is too large").because(error)
        };
        let offset = i32::try_from(self.bytes.len()).map_err(too_large)?;
        let size = i32::try_from(MAGIC.len() + deleted.serialized_size()).map_err(too_large)?;
        self.bytes.extend_from_slice(&size.to_be_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&MAGIC);
        deleted.serialize_into(&mut self.bytes).map_err(|error| {
            Error::new(ErrorKind::Internal, "a deletion vector cannot be written").because(error)
        })?;
        let checksum = crc32fast::hash(&self.bytes[start..]);
        self.bytes.extend_from_slice(&checksum.to_be_bytes());
        Ok(DeletionVectorDescriptor {
            storage_type: StorageType::UuidRelativePath,
            path_or_inline_dv: z85::encode(self.id.as_bytes()),
            offset: Some(offset),
            size_in_bytes: size,
            cardinality: i64::try_from(deleted.len()).map_err(too_large)?,
        })
    }

    /// Writes the file into `table`.
    pub(crate) async fn write(self, table: &Location) -> Result<()> {
        table.child(&file_name(self.id)).write(self.bytes).await
    }
}

fn file_name(id: Uuid) -> String {
    format!("deletion_vector_{id}.bin")
}

/// The name below the table of the file that holds a vector; none where it stands in the log
/// itself, or outside of the table.
pub(crate) fn name_of(vector: &DeletionVectorDescriptor) -> Option<String> {
    if vector.storage_type != StorageType::UuidRelativePath {
        return None;
    }
    let text = &vector.path_or_inline_dv;
    let (prefix, id) = text.split_at_checked(text.len().checked_sub(UUID_CHARACTERS)?)?;
    let name = file_name(Uuid::from_slice(&z85::decode(id).ok()?).ok()?);
    Some(if prefix.is_empty() {
        name
    } else {
        format!("{prefix}/{name}")
    })
}

/// Reads a vector of `table`.
pub(crate) async fn read(
    table: &Location,
    vector: &DeletionVectorDescriptor,
) -> Result<RoaringTreemap> {
    let damaged = |what: &str| {
        Error::new(ErrorKind::InvalidData, "a deletion vector cannot be read")
            .on("table", table)
            .on("vector", &vector.path_or_inline_dv)
            .because(what.to_owned())
    };
    let size = usize::try_from(vector.size_in_bytes).map_err(|_| damaged("negative size"))?;
    let bitmap = if vector.storage_type == StorageType::Inline {
        let bytes = z85::decode(&vector.path_or_inline_dv).map_err(|e| damaged(&e.to_string()))?;
        bytes
            .get(..size)
            .ok_or_else(|| damaged("it is too short"))?
            .to_vec()
    } else {
        let name = name_of(vector).ok_or_else(|| damaged("it is not stored in the table"))?;
        let path = name
            .split('/')
            .fold(table.path().clone(), |path, part| path.join(part));
        let start =
            u64::try_from(vector.offset.unwrap_or(1)).map_err(|_| damaged("negative offset"))?;
        let end = start + size as u64 + 8;
        let bytes = match table.root().get_range(&path, start..end).await {
            Ok(bytes) => bytes,
            Err(error) => {
                // Not a failure of the store, which would be tried again.
                let is_short = table.root().head(&path).await.is_ok_and(|f| f.size < end);
                return Err(if is_short {
                    damaged("it is too short")
                } else {
                    table.failed("cannot read a deletion vector", error)
                });
            }
        };
        checked(&bytes, size).map_err(damaged)?.to_vec()
    };
    let bitmap = bitmap
        .strip_prefix(&MAGIC)
        .ok_or_else(|| damaged("it is of an unknown format"))?;
    let deleted = RoaringTreemap::deserialize_from(bitmap).map_err(|e| damaged(&e.to_string()))?;
    if deleted.len() == vector.cardinality.unsigned_abs() {
        Ok(deleted)
    } else {
        Err(damaged("it has another number of rows than the log says"))
    }
}

/// The vector inside its frame of size and checksum.
fn checked(bytes: &[u8], size: usize) -> Result<&[u8], &'static str> {
    let frame = || {
        let (head, rest) = bytes.split_at_checked(4)?;
        let (data, checksum) = rest.split_at_checked(size)?;
        let told = u32::from_be_bytes(head.try_into().ok()?);
        let checksum = u32::from_be_bytes(checksum.get(..4)?.try_into().ok()?);
        Some((told, data, checksum))
    };
    let (told, data, checksum) = frame().ok_or("it is too short")?;
    if told as usize != size {
        return Err("it has another size than the log says");
    }
    if crc32fast::hash(data) != checksum {
        return Err("its checksum does not match");
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(
        storage_type: StorageType,
        text: &str,
        size: i32,
        rows: i64,
    ) -> DeletionVectorDescriptor {
        DeletionVectorDescriptor {
            storage_type,
            path_or_inline_dv: text.to_owned(),
            offset: None,
            size_in_bytes: size,
            cardinality: rows,
        }
    }

    fn place(directory: &tempfile::TempDir) -> Location {
        Location::parse(&directory.path().to_string_lossy()).unwrap()
    }

    #[tokio::test]
    async fn a_vector_in_the_log_itself_is_read() {
        let directory = tempfile::TempDir::new().unwrap();
        let inline = vector(
            StorageType::Inline,
            "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
            44,
            6,
        );
        let rows = read(&place(&directory), &inline).await.unwrap();
        assert_eq!(rows.into_iter().collect::<Vec<_>>(), [3, 4, 7, 11, 18, 29]);
    }

    #[test]
    fn names_of_files_come_from_the_descriptor() {
        let relative = vector(
            StorageType::UuidRelativePath,
            "ab^-aqEH.-t@S}K{vb[*k^",
            1,
            0,
        );
        let name = name_of(&relative).unwrap();
        assert_eq!(
            name,
            "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"
        );
    }

    #[tokio::test]
    async fn vectors_of_one_file_are_read_back_each() {
        let directory = tempfile::TempDir::new().unwrap();
        let table = place(&directory);
        let sets: [RoaringTreemap; 3] = [
            (0..5).collect(),
            (0..3_000_000).filter(|n| n % 7 == 0).collect(),
            [1, u64::from(u32::MAX) + 17].into_iter().collect(),
        ];
        let mut file = VectorFile::new();
        assert!(file.is_empty());
        let vectors = sets.each_ref().map(|set| file.push(set).unwrap());
        file.write(&table).await.unwrap();
        for (set, vector) in sets.iter().zip(&vectors) {
            assert_eq!(read(&table, vector).await.unwrap(), *set);
        }
    }

    #[tokio::test]
    async fn damage_is_told() {
        let directory = tempfile::TempDir::new().unwrap();
        let table = place(&directory);
        let mut file = VectorFile::new();
        let vector = file.push(&(0..100).collect()).unwrap();
        let path = directory.path().join(file_name(file.id));
        let bytes = file.bytes.clone();
        file.write(&table).await.unwrap();
        for at in 1..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            assert!(read(&table, &vector).await.is_err(), "byte {at}");
        }
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        assert!(read(&table, &vector).await.is_err());
        std::fs::remove_file(&path).unwrap();
        let error = read(&table, &vector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
