//! Deletion vectors: which rows of a data file are gone.
//!
//! The formats are those of Delta's protocol. A vector is a bitmap of row positions, counted from 0
//! through all row groups of the file. Vectors are read wherever the protocol lets them be and
//! written to files of the table, one for all that a commit writes.

use std::io;

use deltalake::kernel::{DeletionVectorDescriptor, StorageType};
use object_store::ObjectStoreExt;
use roaring::{RoaringBitmap, RoaringTreemap};
use tributary_model::{Error, ErrorKind, Result};
use url::Url;
use uuid::Uuid;

use crate::location::Location;

/// The first byte of a file of deletion vectors.
const VERSION: u8 = 1;
/// What a bitmap begins with: its form, a 64-bit Roaring bitmap in the portable format.
const MAGIC: [u8; 4] = 1_681_511_377_u32.to_le_bytes();
/// As before, of the older form that the protocol's examples have and nobody writes to files: how
/// many 32-bit bitmaps there are and the size before each, all most significant byte first.
const NATIVE_MAGIC: [u8; 4] = 1_681_511_376_u32.to_be_bytes();
/// A UUID in the 85 digits of Z85.
const ID_DIGITS: usize = 20;

/// A file of deletion vectors being put together.
pub(crate) struct VectorFile {
    id: Uuid,
    bytes: Vec<u8>,
}

impl VectorFile {
    /// A file without vectors, of a name of its own.
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::new_v4(),
            bytes: vec![VERSION],
        }
    }

    /// Appends a vector of the rows `deleted`; the descriptor is what the log says of it.
    pub(crate) fn push(&mut self, deleted: &RoaringTreemap) -> Result<DeletionVectorDescriptor> {
        let mut deleted = deleted.clone();
        deleted.optimize();
        let too_large = || {
            Error::new(
                ErrorKind::Internal,
                "deletion vectors of more than 2 GiB in one file",
            )
        };
        let offset = i32::try_from(self.bytes.len()).map_err(|_| too_large())?;
        let size = MAGIC.len() + deleted.serialized_size();
        let size_in_bytes = i32::try_from(size).map_err(|_| too_large())?;
        self.bytes.reserve(size + 8);
        self.bytes.extend_from_slice(&size_in_bytes.to_be_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&MAGIC);
        deleted
            .serialize_into(&mut self.bytes)
            .map_err(|e| too_large().because(e))?;
        let checksum = crc32fast::hash(&self.bytes[start..]);
        self.bytes.extend_from_slice(&checksum.to_be_bytes());
        Ok(DeletionVectorDescriptor {
            storage_type: StorageType::UuidRelativePath,
            path_or_inline_dv: z85::encode(self.id.as_bytes()),
            offset: Some(offset),
            size_in_bytes,
            cardinality: i64::try_from(deleted.len()).map_err(|_| too_large())?,
        })
    }

    /// Its name below the table.
    pub(crate) fn name(&self) -> String {
        file_name(self.id)
    }

    /// Whether no vector has been appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    /// The file's content.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn file_name(id: Uuid) -> String {
    format!("deletion_vector_{id}.bin")
}

/// Reads the vector that `descriptor` in the log of `table` stands for.
pub(crate) async fn read(
    table: &Location,
    descriptor: &DeletionVectorDescriptor,
) -> Result<RoaringTreemap> {
    let malformed = |what: &str| damaged(what).on("table", table);
    let size = u32::try_from(descriptor.size_in_bytes)
        .map_err(|_| malformed("its size in the log is negative"))?;
    let Some(file) = file(table, descriptor)? else {
        let mut data = z85::decode(&descriptor.path_or_inline_dv)
            .map_err(|e| malformed("its text in the log is not Z85").because(e))?;
        if data.len() < size as usize {
            return Err(malformed("its text in the log is too short"));
        }
        data.truncate(size as usize);
        return parse(&data, descriptor).map_err(|error| error.on("table", table));
    };
    // Where it is left out there is one vector, behind the byte of the version.
    let offset = u32::try_from(descriptor.offset.unwrap_or(1))
        .map_err(|_| malformed("its offset in the log is negative"))?;
    let start = u64::from(offset);
    let range = start..start + u64::from(size) + 8;
    let bytes = match file.read_range(range.clone()).await {
        Ok(bytes) => bytes,
        Err(error) => {
            // Not a failure of the store, which would be tried again.
            let stored = table.root().head(file.path()).await;
            let is_short = stored.is_ok_and(|stored| stored.size < range.end);
            let error = if is_short {
                damaged("its file is too short").on("file", &file)
            } else if error.kind() == ErrorKind::NotFound {
                missing().on("file", &file)
            } else {
                error
            };
            return Err(error.on("table", table));
        }
    };
    framed(&bytes, size)
        .and_then(|data| parse(data, descriptor))
        .map_err(|error| error.on("file", &file).on("offset", offset))
}

/// The file that holds the vector; none where the log itself does.
pub(crate) fn file(
    table: &Location,
    descriptor: &DeletionVectorDescriptor,
) -> Result<Option<Location>> {
    let text = descriptor.path_or_inline_dv.as_str();
    match descriptor.storage_type {
        StorageType::Inline => Ok(None),
        StorageType::UuidRelativePath => relative(table, text)
            .map(Some)
            .ok_or_else(|| damaged("its name in the log is not one").on("table", table)),
        StorageType::AbsolutePath => absolute(table, text).map(Some).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidData,
                "the table has a deletion vector in a file outside of it, which is not supported",
            )
            .on("file", text)
            .on("table", table)
            .remedy("copy the rows into a new table with the engine that wrote it")
        }),
    }
}

fn relative(table: &Location, text: &str) -> Option<Location> {
    let (prefix, id) = text.split_at_checked(text.len().checked_sub(ID_DIGITS)?)?;
    let id = Uuid::from_slice(&z85::decode(id).ok()?).ok()?;
    let directory = if prefix.is_empty() {
        table.clone()
    } else {
        table.child(prefix)
    };
    Some(directory.child(&file_name(id)))
}

/// The place below `table` that the URL names.
fn absolute(table: &Location, text: &str) -> Option<Location> {
    let url = Url::parse(text).ok()?;
    let own = table.url();
    let scheme = |url: &Url| match url.scheme() {
        "s3a" | "s3n" => "s3".to_owned(),
        other => other.to_owned(),
    };
    let place = |url: &Url| (scheme(url), url.host_str().unwrap_or_default().to_owned());
    if place(&url) != place(&own) || url.username() != own.username() {
        return None;
    }
    let mut steps = url.path_segments()?;
    for step in own.path_segments()? {
        if steps.next()? != step {
            return None;
        }
    }
    let mut found = table.clone();
    let mut deeper = false;
    for step in steps {
        let step = percent_decoded(step)?;
        if step.is_empty() || step == "." || step == ".." {
            return None;
        }
        found = found.child(&step);
        deeper = true;
    }
    deeper.then_some(found)
}

fn percent_decoded(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .ok()
        .map(|text| text.into_owned())
}

/// The bitmap between its size and its checksum.
fn framed(bytes: &[u8], size: u32) -> Result<&[u8]> {
    let short = || damaged("its file is too short");
    let (stored_size, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    if u32::from_be_bytes(*stored_size) != size {
        return Err(damaged("its size is not that in the log"));
    }
    let (data, rest) = rest.split_at_checked(size as usize).ok_or_else(short)?;
    let checksum = rest.first_chunk::<4>().ok_or_else(short)?;
    if u32::from_be_bytes(*checksum) != crc32fast::hash(data) {
        return Err(damaged("its checksum does not match"));
    }
    Ok(data)
}

fn parse(data: &[u8], descriptor: &DeletionVectorDescriptor) -> Result<RoaringTreemap> {
    let parsed = if let Some(bitmap) = data.strip_prefix(&MAGIC) {
        RoaringTreemap::deserialize_from(bitmap)
    } else if let Some(bitmaps) = data.strip_prefix(&NATIVE_MAGIC) {
        parse_native(bitmaps)
    } else {
        return Err(damaged("it is of an unknown form"));
    };
    let deleted = parsed.map_err(|e| damaged("it is not a Roaring bitmap").because(e))?;
    if i64::try_from(deleted.len()) != Ok(descriptor.cardinality) {
        return Err(damaged("it has another number of rows than the log says"));
    }
    Ok(deleted)
}

fn parse_native(mut bytes: &[u8]) -> io::Result<RoaringTreemap> {
    fn number(bytes: &mut &[u8]) -> io::Result<u32> {
        let (number, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        *bytes = rest;
        Ok(u32::from_be_bytes(*number))
    }
    let mut parts = Vec::new();
    for key in 0..number(&mut bytes)? {
        let size = number(&mut bytes)? as usize;
        let (bitmap, rest) = bytes
            .split_at_checked(size)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        parts.push((key, RoaringBitmap::deserialize_from(bitmap)?));
        bytes = rest;
    }
    Ok(RoaringTreemap::from_bitmaps(parts))
}

fn missing() -> Error {
    Error::new(
        ErrorKind::NotFound,
        "a deletion vector cannot be read: its file is missing",
    )
    .remedy("restore the file, or load the collection anew with --overwrite")
}

fn damaged(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("a deletion vector cannot be read: {what}"),
    )
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::sql::{Lake, QueryOutput};

    /// The example of Delta's protocol, and the same in the form of files.
    const EXAMPLE: &str = "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L";
    const PORTABLE: &str = "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L";

    fn inline(text: &str, size_in_bytes: i32, cardinality: i64) -> DeletionVectorDescriptor {
        DeletionVectorDescriptor {
            storage_type: StorageType::Inline,
            path_or_inline_dv: text.to_owned(),
            offset: None,
            size_in_bytes,
            cardinality,
        }
    }

    fn place(directory: &tempfile::TempDir) -> Location {
        Location::parse(&directory.path().display().to_string()).unwrap()
    }

    async fn write(table: &Location, vectors: &[RoaringTreemap]) -> Vec<DeletionVectorDescriptor> {
        let mut file = VectorFile::new();
        let descriptors = vectors.iter().map(|v| file.push(v).unwrap()).collect();
        table
            .child(&file.name())
            .write(file.into_bytes())
            .await
            .unwrap();
        descriptors
    }

    #[tokio::test]
    async fn the_protocol_s_example_is_read() {
        let table = Location::parse("/nowhere").unwrap();
        let deleted = read(&table, &inline(EXAMPLE, 40, 6)).await.unwrap();
        assert_eq!(deleted.iter().collect::<Vec<_>>(), [3, 4, 7, 11, 18, 29]);
        assert_eq!(
            read(&table, &inline(PORTABLE, 44, 6)).await.unwrap(),
            deleted
        );
        let wrong = [
            inline(PORTABLE, 44, 7),
            inline(PORTABLE, 40, 6),
            inline(EXAMPLE, 40, 7),
            inline(EXAMPLE, 41, 6),
            inline(EXAMPLE, 12, 6),
            inline(EXAMPLE, -1, 6),
            inline(&EXAMPLE[5..], 36, 6),
            inline("not z85 \u{fc}", 4, 6),
            inline("", 0, 0),
        ];
        for descriptor in wrong {
            let error = read(&table, &descriptor).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{descriptor:?}");
            assert!(error.to_string().contains("table /nowhere"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_text_in_the_log_may_be_filled_up_with_zeros() {
        let rows: RoaringTreemap = [1, 5, 70_000].into_iter().collect();
        let mut data = MAGIC.to_vec();
        rows.serialize_into(&mut data).unwrap();
        let size = data.len();
        data.resize(size.next_multiple_of(4), 0);
        let descriptor = inline(&z85::encode(&data), size as i32, 3);
        let table = Location::parse("/nowhere").unwrap();
        assert_eq!(read(&table, &descriptor).await.unwrap(), rows);
    }

    #[test]
    fn files_are_named_as_the_protocol_says() {
        let table = Location::parse("/lake/db/table").unwrap();
        let at = |storage_type, text: &str| {
            let descriptor = DeletionVectorDescriptor {
                storage_type,
                path_or_inline_dv: text.to_owned(),
                offset: Some(4),
                size_in_bytes: 40,
                cardinality: 6,
            };
            file(&table, &descriptor).map(|found| found.map(|f| f.path().to_string()))
        };
        let id = "^-aqEH.-t@S}K{vb[*k^";
        let name = "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";
        assert_eq!(
            at(StorageType::UuidRelativePath, id).unwrap().unwrap(),
            format!("lake/db/table/{name}")
        );
        assert_eq!(
            at(StorageType::UuidRelativePath, &format!("ab{id}"))
                .unwrap()
                .unwrap(),
            format!("lake/db/table/ab/{name}")
        );
        assert!(at(StorageType::UuidRelativePath, "short").is_err());
        assert!(at(StorageType::UuidRelativePath, &"\u{fc}".repeat(15)).is_err());
        let inside = format!("file:///lake/db/table/x/{name}");
        assert_eq!(
            at(StorageType::AbsolutePath, &inside).unwrap().unwrap(),
            format!("lake/db/table/x/{name}")
        );
        for outside in [
            "file:///lake/db/other/v.bin",
            "file:///lake/db/table2/v.bin",
            "file:///lake/db/table/../other/v.bin",
            "file:///lake/db/table/%2e%2e/other/v.bin",
            "file:///lake/db/table",
            "s3://lake/db/table/v.bin",
            "/lake/db/table/v.bin",
        ] {
            let error = at(StorageType::AbsolutePath, outside).unwrap_err();
            assert!(error.to_string().contains(outside), "{error}");
        }
        let table = Location::parse("/lake/db/with space").unwrap();
        let found = absolute(&table, "file:///lake/db/with%20space/a%20b.bin").unwrap();
        assert_eq!(found.path(), table.child("a b.bin").path());
    }

    #[test]
    fn a_file_holds_its_vectors_one_behind_the_other() {
        let mut file = VectorFile::new();
        assert!(file.is_empty());
        let first = file.push(&[1, 2].into_iter().collect()).unwrap();
        let second = file.push(&(0..1_000_000).collect()).unwrap();
        assert!(!file.is_empty());
        assert_eq!((first.offset, first.cardinality), (Some(1), 2));
        assert_eq!(second.offset, Some(1 + 4 + first.size_in_bytes + 4));
        assert_eq!(second.cardinality, 1_000_000);
        // Runs are written as such.
        assert!(second.size_in_bytes < 1_000, "{second:?}");
        let bytes = file.into_bytes();
        let end = second.offset.unwrap() + 4 + second.size_in_bytes + 4;
        assert_eq!((bytes[0], bytes.len()), (1, end as usize));
        assert_eq!(bytes[1..5], first.size_in_bytes.to_be_bytes());
        assert_eq!(bytes[5..9], [0xd1, 0xd3, 0x39, 0x64]);
    }

    #[tokio::test]
    async fn damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let table = place(&directory);
        let rows: RoaringTreemap = [3, 70_000, 1 << 33].into_iter().collect();
        let descriptors = write(&table, &[RoaringTreemap::new(), rows.clone()]).await;
        let descriptor = &descriptors[1];
        let file = file(&table, descriptor).unwrap().unwrap();
        let bytes = file.read().await.unwrap().unwrap();
        let start = descriptor.offset.unwrap() as usize;
        for at in start..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            file.write(bytes).await.unwrap();
            let error = read(&table, descriptor).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains(&file.to_string()), "{error}");
        }
        for length in [0, 1, start, start + 3, bytes.len() - 1] {
            file.write(bytes[..length].to_vec()).await.unwrap();
            let error = read(&table, descriptor).await.unwrap_err();
            assert!(error.to_string().contains(&file.to_string()), "{error}");
        }
        file.write(bytes).await.unwrap();
        assert_eq!(read(&table, descriptor).await.unwrap(), rows);
        let mut other = descriptor.clone();
        other.cardinality = 4;
        let error = read(&table, &other).await.unwrap_err();
        assert!(error.to_string().contains("number of rows"), "{error}");
        file.remove(file.path()).await.unwrap();
        let error = read(&table, descriptor).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&file.to_string()), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read_back(
            vectors in prop::collection::vec(
                (btree_set(prop_oneof![0..200_000_u64, 0..1_u64 << 40], 0..200), 0..50_000_u64), 1..5)
        ) {
            let directory = tempfile::tempdir().unwrap();
            let table = place(&directory);
            let vectors: Vec<RoaringTreemap> = vectors
                .into_iter()
                .map(|(rows, run)| rows.into_iter().chain(1_000..1_000 + run).collect())
                .collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let descriptors = write(&table, &vectors).await;
                for (descriptor, vector) in descriptors.iter().zip(&vectors) {
                    assert_eq!(&read(&table, descriptor).await.unwrap(), vector);
                }
            });
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let descriptor = inline("", bytes.len() as i32, 1);
            let _ = framed(&bytes, bytes.len() as u32);
            let _ = parse(&bytes, &descriptor);
            let mut bitmap = MAGIC.to_vec();
            bitmap.extend_from_slice(&bytes);
            let _ = parse(&bitmap, &descriptor);
        }
    }

    /// The query engine's reader takes the vectors as we write them, across row groups.
    #[tokio::test]
    async fn queries_leave_the_rows_out() {
        const ROWS: i64 = 1_000;
        let directory = tempfile::tempdir().unwrap();
        let table = place(&directory).child("db").child("counted");
        let ids: Arc<Int64Array> = Arc::new((0..ROWS).collect());
        let batch = RecordBatch::try_from_iter([("id", ids as _)]).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(100))
            .build();
        let mut actions = vec![
            json!({"protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["deletionVectors", "appendOnly", "invariants"],
            }}),
            json!({"metaData": {
                "id": Uuid::new_v4().to_string(),
                "format": { "provider": "parquet", "options": {} },
                "schemaString": json!({"type": "struct", "fields": [
                    {"name": "id", "type": "long", "nullable": true, "metadata": {}},
                ]}).to_string(),
                "partitionColumns": [],
                "createdTime": 0,
                "configuration": { "delta.enableDeletionVectors": "true" },
            }}),
        ];
        let vectors: [RoaringTreemap; 3] = [
            [0, 99, 100, 555, 999].into_iter().collect(),
            (100..950).collect(),
            RoaringTreemap::new(),
        ];
        let descriptors = write(&table, &vectors).await;
        let mut left = Vec::new();
        for (number, (vector, descriptor)) in vectors.iter().zip(descriptors).enumerate() {
            let mut bytes = Vec::new();
            let mut writer =
                ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.clone())).unwrap();
            writer.write(&batch).unwrap();
            assert_eq!(writer.close().unwrap().num_row_groups(), 10);
            let name = format!("part-{number}.parquet");
            let size = bytes.len();
            table.child(&name).write(bytes).await.unwrap();
            let mut add = json!({
                "path": name,
                "partitionValues": {},
                "size": size,
                "modificationTime": 0,
                "dataChange": true,
                "stats": json!({"numRecords": ROWS, "tightBounds": false}).to_string(),
            });
            if !vector.is_empty() {
                add["deletionVector"] = serde_json::to_value(&descriptor).unwrap();
            }
            actions.push(json!({ "add": add }));
            left.extend((0..ROWS).filter(|row| !vector.contains(*row as u64)));
        }
        let log: Vec<String> = actions.iter().map(ToString::to_string).collect();
        let first = table.child("_delta_log").child("00000000000000000000.json");
        first.write(log.join("\n").into_bytes()).await.unwrap();

        let lake = Lake::open(place(&directory)).await.unwrap();
        let mut out = Vec::new();
        lake.query(
            "SELECT id FROM db.counted ORDER BY id",
            QueryOutput::Csv,
            &mut out,
        )
        .await
        .unwrap();
        left.sort_unstable();
        let expected: String = left.iter().map(|id| format!("{id}\n")).collect();
        assert_eq!(String::from_utf8(out).unwrap(), format!("id\n{expected}"));

        // And as the log has them.
        let opened = crate::delta::table::open(&table).await.unwrap().unwrap();
        let log = opened.log_store();
        let views = opened.snapshot().unwrap().snapshot().file_views(&log, None);
        let files: Vec<_> = futures::TryStreamExt::try_collect(views).await.unwrap();
        let mut found = 0;
        for file in &files {
            if let Some(descriptor) = file.deletion_vector_descriptor() {
                let vector = read(&table, &descriptor).await.unwrap();
                assert!(vectors.contains(&vector));
                found += 1;
            }
        }
        assert_eq!((files.len(), found), (3, 2));
    }
}
