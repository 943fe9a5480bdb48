//! Indexes that are written, damaged, and left by processes that were killed.

use std::process::Command;
use std::time::Instant;

use super::*;

const TABLE: &str = "8f14e45f-table";
/// Keys that each version of [`write`] puts, and how many of the version before it changes.
const STEP: u64 = 40;
const MOVED: u64 = 10;
const GONE: u64 = 5;

fn key(i: u64) -> Key {
    let bytes = i.to_le_bytes();
    Key::of(tributary_convert::raw::kind::INT64, &bytes).unwrap()
}

/// Writes one version: new keys, others of the version before moved, and some removed.
fn write(index: &mut KeyIndex, version: u64) {
    let file = index.next_file_number();
    let start = version * STEP;
    let moved = start.saturating_sub(STEP)..start.saturating_sub(STEP) + MOVED;
    let put = (start..start + STEP).chain(moved.clone()).map(|i| {
        let row = (i % 1000) as u32;
        (key(i), Place { file, row })
    });
    let gone = (moved.end..moved.end + GONE).map(key);
    let files = [(file, format!("part-{version}.parquet"))];
    // In the first version nothing is there to be moved or removed.
    if version == 0 {
        let put = put.take(STEP as usize);
        index.apply(Some(version), &files, put, []).unwrap();
    } else {
        index.apply(Some(version), &files, put, gone).unwrap();
    }
}

/// Where the keys are at `version`, as the versions up to it were written.
fn expected(version: u64) -> Vec<Option<Place>> {
    (0..(version + 1) * STEP)
        .map(|i| {
            let (own, within) = (i / STEP, i % STEP);
            let changed = own < version;
            let file = match within {
                _ if !changed => own,
                ..MOVED => own + 1,
                MOVED.. if within < MOVED + GONE => return None,
                _ => own,
            };
            let (file, row) = (file as u32, (i % 1000) as u32);
            Some(Place { file, row })
        })
        .collect()
}

/// Checks that the index holds just what it should at its version, or nothing at all.
///
/// False where the damage was found only now.
fn is_right(index: &KeyIndex, last: u64) -> bool {
    let keys: Vec<Key> = (0..(last + 2) * STEP).map(key).collect();
    let Ok(places) = index.places(&keys) else {
        return false;
    };
    let mut right = index.version().map_or_else(Vec::new, expected);
    right.resize(keys.len(), None);
    assert_eq!(places, right, "at version {:?}", index.version());
    for version in 0..=index.version().unwrap_or(0) {
        let path = format!("part-{version}.parquet");
        let number = index.version().map(|_| version as u32);
        assert_eq!(index.file_number(&path), number);
        assert_eq!(
            index.file_path(version as u32),
            number.map(|_| path.as_str())
        );
    }
    true
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sort_into_files(index: &KeyIndex) {
    let store = index.store().unwrap();
    store.entries.rotate_memtable_and_wait().unwrap();
}

#[test]
fn an_index_comes_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let mut index = KeyIndex::open(&path, TABLE).unwrap();
    assert_eq!((index.version(), index.next_file_number()), (None, 0));
    assert_eq!(index.places(&[key(1)]).unwrap(), [None]);
    for version in 0..30 {
        write(&mut index, version);
        assert_eq!(index.version(), Some(version));
        assert!(is_right(&index, version));
        if version % 10 == 4 {
            sort_into_files(&index);
        }
        if version % 7 == 3 {
            index.persist().unwrap();
            drop(index);
            index = KeyIndex::open(&path, TABLE).unwrap();
            assert_eq!(index.version(), Some(version));
            assert_eq!(u64::from(index.next_file_number()), version + 1);
            assert!(is_right(&index, version));
        }
    }
}

#[test]
fn places_come_in_the_order_of_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    let place = |row| Place { file: 0, row };
    let put = (0..100).map(|i| (key(i), place(i as u32)));
    index
        .apply(Some(3), &[(0, "a".to_owned())], put, [])
        .unwrap();
    let keys = [key(7), key(1000), key(7), key(0), key(99)];
    let rows = [Some(7), None, Some(7), Some(0), Some(99)];
    assert_eq!(index.places(&keys).unwrap(), rows.map(|r| r.map(place)));
    assert_eq!(index.places(&[]).unwrap(), []);
}

#[test]
fn the_last_change_of_a_key_counts() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    let place = |row| Place {
        file: u32::MAX - 1,
        row,
    };
    let put = [
        (key(1), place(1)),
        (key(2), place(2)),
        (key(1), place(u32::MAX)),
    ];
    index.apply(Some(0), &[], put, [key(1), key(3)]).unwrap();
    for _ in 0..2 {
        let places = index.places(&[key(1), key(2), key(3)]).unwrap();
        assert_eq!(places, [Some(place(u32::MAX)), Some(place(2)), None]);
        drop(index);
        index = KeyIndex::open(directory.path(), TABLE).unwrap();
    }
}

#[test]
fn numbers_of_files_are_not_given_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    let files = [(0, "a".to_owned()), (1, "b".to_owned())];
    index.apply(Some(0), &files, [], []).unwrap();
    index.forget(&[1, 9]).unwrap();
    for _ in 0..2 {
        assert_eq!(index.version(), Some(0));
        assert_eq!(index.next_file_number(), 2);
        assert_eq!((index.file_path(0), index.file_path(1)), (Some("a"), None));
        assert_eq!(
            (index.file_number("a"), index.file_number("b")),
            (Some(0), None)
        );
        drop(index);
        index = KeyIndex::open(directory.path(), TABLE).unwrap();
    }
    index
        .apply(Some(1), &[(2, "b".to_owned())], [], [])
        .unwrap();
    assert_eq!(index.file_number("b"), Some(2));
    index.forget(&[1]).unwrap();
    assert_eq!(index.file_number("b"), Some(2));
}

#[test]
fn a_file_in_the_place_of_another_keeps_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    index
        .apply(Some(0), &[(0, "old".to_owned())], [], [])
        .unwrap();
    index
        .apply(Some(1), &[(0, "new".to_owned())], [], [])
        .unwrap();
    for _ in 0..2 {
        assert_eq!(index.file_number("new"), Some(0));
        assert_eq!(index.file_number("old"), None);
        assert_eq!(index.file_path(0), Some("new"));
        drop(index);
        index = KeyIndex::open(directory.path(), TABLE).unwrap();
    }
}

#[test]
fn an_index_of_another_table_or_form_is_emptied() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    write(&mut index, 0);
    drop(index);
    let mut index = KeyIndex::open(directory.path(), "another").unwrap();
    assert_eq!((index.version(), index.next_file_number()), (None, 0));
    assert!(is_right(&index, 1));
    write(&mut index, 0);
    let store = index.store().unwrap();
    let identity = [&2_u32.to_be_bytes()[..], b"another"].concat();
    store.entries.insert(meta_key(IDENTITY), identity).unwrap();
    drop(index);
    let index = KeyIndex::open(directory.path(), "another").unwrap();
    assert_eq!(index.version(), None);
    assert!(is_right(&index, 1));
}

#[test]
fn an_index_that_ended_the_process_is_not_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    write(&mut index, 0);
    std::fs::write(index.mark(), b"").unwrap();
    drop(index);
    for _ in 0..2 {
        let index = KeyIndex::open(directory.path(), TABLE).unwrap();
        assert_eq!(index.version(), None);
        assert!(!index.mark().exists());
    }
}

#[test]
fn an_index_is_opened_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    write(&mut index, 0);
    for table in [TABLE, "another"] {
        let error = KeyIndex::open(directory.path(), table).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert!(is_right(&index, 1));
    drop(index);
    let index = KeyIndex::open(directory.path(), TABLE).unwrap();
    assert_eq!(index.version(), Some(0));
}

#[test]
fn an_index_without_all_of_its_entries_has_no_version() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    write(&mut index, 0);
    let count = 1010_u64;
    let places = |range: std::ops::Range<u64>| {
        range.map(|i| {
            let row = i as u32;
            (key(i), Place { file: 0, row })
        })
    };
    index.clear().unwrap();
    index.apply(None, &[], places(0..1000), []).unwrap();
    assert_eq!(index.version(), None);
    drop(index);
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    assert_eq!(index.version(), None);

    index.clear().unwrap();
    let base = [(0, "base.parquet".to_owned())];
    index.apply(None, &base, places(0..1000), []).unwrap();
    index.apply(None, &[], places(1000..count), []).unwrap();
    let more = [(1, "more.parquet".to_owned())];
    let moved = [(key(5), Place { file: 1, row: 7 })];
    index.apply(Some(12), &more, moved, []).unwrap();
    for _ in 0..2 {
        assert_eq!(index.version(), Some(12));
        assert_eq!(index.file_number("base.parquet"), Some(0));
        assert_eq!(index.file_path(1), Some("more.parquet"));
        let keys = [key(0), key(5), key(count - 1), key(count)];
        let row = |row| Some(Place { file: 0, row });
        let moved = Some(Place { file: 1, row: 7 });
        let places = index.places(&keys).unwrap();
        assert_eq!(places, [row(0), moved, row(count as u32 - 1), None]);
        drop(index);
        index = KeyIndex::open(directory.path(), TABLE).unwrap();
    }
}

#[test]
fn more_changes_than_leave_traces_are_one_index() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = KeyIndex::open(directory.path(), TABLE).unwrap();
    for version in 0..TRACES + 3 {
        let place = Place { file: 0, row: 0 };
        index
            .apply(Some(version), &[], [(key(version), place)], [])
            .unwrap();
        if version % 1000 == TRACES % 1000 {
            drop(index);
            index = KeyIndex::open(directory.path(), TABLE).unwrap();
            assert_eq!(index.version(), Some(version));
        }
    }
    drop(index);
    let index = KeyIndex::open(directory.path(), TABLE).unwrap();
    assert_eq!(index.version(), Some(TRACES + 2));
    let store = index.store().unwrap();
    store.entries.remove(trace_key(TRACES - 1)).unwrap();
    drop(index);
    let index = KeyIndex::open(directory.path(), TABLE).unwrap();
    assert_eq!(index.version(), None);
}

#[test]
fn what_a_killed_process_applied_is_there() {
    const PLACE: &str = "TRIBUTARY_TEST_INDEX";
    const LAST: u64 = 1_000_000;
    if let Some(path) = std::env::var_os(PLACE) {
        let path = PathBuf::from(path);
        let mut index = KeyIndex::open(&path, TABLE).unwrap();
        for version in 0..LAST {
            write(&mut index, version);
            std::fs::write(path.join("applied"), version.to_string()).unwrap();
            if version % 50 == 49 {
                let store = index.store().unwrap();
                store.entries.rotate_memtable().unwrap();
            }
        }
        return;
    }
    for round in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "index::tests::what_a_killed_process_applied_is_there",
            ])
            .env(PLACE, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let applied = || -> Option<u64> {
            let text = std::fs::read_to_string(path.join("applied")).ok()?;
            text.parse().ok()
        };
        let begun = Instant::now();
        while applied().is_none_or(|version| version < 60 + round * 30) {
            assert!(begun.elapsed() < Duration::from_secs(60), "too slow");
            assert!(child.try_wait().unwrap().is_none(), "ended by itself");
            std::thread::sleep(Duration::from_millis(3));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // The file may have been caught empty, but then the one before it was whole.
        let applied = applied();
        let mut index = KeyIndex::open(&path, TABLE).unwrap();
        let version = index.version().unwrap();
        assert!(applied.is_none_or(|applied| version == applied || version == applied + 1));
        assert!(is_right(&index, version));
        write(&mut index, version + 1);
        assert!(is_right(&index, version + 1));
    }
}

/// Whatever happens to a file, the index opens with right entries or none.
#[test]
fn damaged_files_are_noticed() {
    const LAST: u64 = 12;
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    let image = directory.path().join("image");
    let mut index = KeyIndex::open(&whole, TABLE).unwrap();
    for version in 0..=LAST {
        write(&mut index, version);
        if version == 4 || version == 8 {
            sort_into_files(&index);
        }
    }
    // As a crash leaves it.
    copy(&whole, &image);
    drop(index);
    let paths = files(&image);
    assert!(paths.len() > 5, "{paths:?}");
    let mut random = 1_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
        (random >> 33) % below.max(1)
    };
    let (mut kept, mut emptied, mut late) = (0, 0, 0);
    for path in &paths {
        let name = path.strip_prefix(&image).unwrap();
        let bytes = std::fs::read(path).unwrap();
        for round in 0..8 {
            let damaged = directory.path().join("damaged");
            copy(&image, &damaged);
            let mut bytes = bytes.clone();
            let length = bytes.len() as u64;
            match round {
                0 => std::fs::remove_file(damaged.join(name)).unwrap(),
                1 => bytes.clear(),
                2..5 => bytes.truncate(next(length) as usize),
                5 => bytes.extend_from_slice(&[0xAB; 100]),
                _ => {
                    let start = next(length) as usize;
                    let end = (start + 1 + next(32) as usize).min(bytes.len());
                    for byte in &mut bytes[start..end] {
                        *byte ^= 1 + next(255) as u8;
                    }
                }
            }
            if round > 0 {
                std::fs::write(damaged.join(name), bytes).unwrap();
            }
            let mut index = KeyIndex::open(&damaged, TABLE).unwrap();
            if !is_right(&index, LAST) {
                late += 1;
                drop(index);
                index = KeyIndex::open(&damaged, TABLE).unwrap();
                assert_eq!(index.version(), None, "{name:?} in round {round}");
                assert!(is_right(&index, LAST));
            }
            match index.version() {
                Some(_) => kept += 1,
                None => emptied += 1,
            }
            let version = index.version().map_or(0, |version| version + 1);
            if version <= LAST + 1 {
                write(&mut index, version);
                assert!(is_right(&index, LAST + 1));
            }
            drop(index);
            std::fs::remove_dir_all(&damaged).unwrap();
        }
    }
    assert!(kept > 0 && emptied > 0, "{kept} {emptied} {late}");
}
