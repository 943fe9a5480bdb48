//! Manifests that are behind their tables.

use super::*;

fn manifest_of(world: &World) -> std::path::PathBuf {
    let directory = world.path("lake/db/c/_symlink_format_manifest");
    Path::new(&directory).join("manifest")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_manifest_names_are_not_vacuumed() {
    let mut world = World::with_rows(Rows::Copied, eager(), Duration::ZERO).await;
    world.apply(&[(1, int(1)), (2, int(2))]).await;
    let old = world.named_in_manifest();
    let text = std::fs::read(manifest_of(&world)).unwrap();
    world.apply(&[(1, int(3))]).await;
    assert!(old.is_disjoint(&world.named_in_manifest()));
    // Another writer of an earlier version was slow to write its own.
    std::fs::write(manifest_of(&world), &text).unwrap();
    for _ in 0..5 {
        tokio::time::sleep(eager().vacuum_every).await;
        world.table().finish().await;
        assert!(old.is_subset(&world.objects()));
        assert_eq!(world.named_in_manifest(), old);
    }
    // The next commit makes it right, and then they go.
    world.apply(&[(2, int(4))]).await;
    world.check().await;
    for _ in 0..5 {
        tokio::time::sleep(eager().vacuum_every).await;
        world.table().finish().await;
    }
    assert!(old.is_disjoint(&world.objects()));
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_done_only_when_the_manifest_is_written() {
    let retention = Duration::from_secs(3600);
    let mut world = World::with_rows(Rows::Copied, UpkeepOptions::default(), retention).await;
    world.apply(&[(1, int(1)), (2, int(2))]).await;
    let directory = manifest_of(&world).parent().unwrap().to_owned();
    let aside = directory.with_file_name("_aside");
    std::fs::rename(&directory, &aside).unwrap();
    // Nothing can be written below a file.
    std::fs::write(&directory, "").unwrap();
    let batch = world.batch(&[(1, None), (3, int(3))]);
    for _ in 0..2 {
        let failed = world.table().apply(&batch).await.unwrap_err();
        assert!(
            failed.to_string().contains("_symlink_format_manifest"),
            "{failed}"
        );
    }
    let version = world.table().live.version;
    std::fs::remove_file(&directory).unwrap();
    std::fs::rename(&aside, &directory).unwrap();
    let applied = world.table().apply(&batch).await.unwrap();
    assert_eq!((applied.upserted, applied.deleted), (1, 1));
    assert_eq!(world.table().live.version, version);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_at_a_table_leaves_its_manifest() {
    let retention = Duration::from_secs(3600);
    let mut world = World::with_rows(Rows::Copied, UpkeepOptions::default(), retention).await;
    world.apply(&[(1, int(1))]).await;
    let stale = "file:/an/earlier/version\n";
    std::fs::write(manifest_of(&world), stale).unwrap();
    let place = world.place();
    let mut other = LiveTable::open(&place).await.unwrap().unwrap();
    let parameters = json!({});
    other
        .commit(Edit::default(), None, "SET TBLPROPERTIES", parameters)
        .await
        .unwrap();
    let text = std::fs::read_to_string(manifest_of(&world)).unwrap();
    assert_eq!(text, stale);
    world.apply(&[(2, int(2))]).await;
    world.check().await;
}
