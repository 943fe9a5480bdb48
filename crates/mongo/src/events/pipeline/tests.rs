use bytes::Bytes;
use mongodb::bson::{Document, doc};
use tributary_flow::Watch;

use super::{ASIDE, Stream, WITHOUT_ID, is_inclusive};
use crate::changes::Server;
use crate::changes::reading::Detail;

fn raw(stage: &Document) -> Bytes {
    stage.to_vec().expect("a document").into()
}

fn pipeline(watch: &Watch, detail: Detail) -> Vec<Document> {
    let stream = Stream::new(watch, &Server::default()).expect("a stream");
    stream.pipeline(Document::new(), detail)
}

#[test]
fn projections_are_inclusive_where_the_server_says_so() {
    for inclusive in [
        doc! { "a": 1 },
        doc! { "a": true, "_id": 0 },
        doc! { "a": "$b" },
        doc! { "a": { "$concat": ["$b", "c"] } },
        doc! { "a": { "b": 1 } },
        doc! { "a": { "b": { "$size": "$c" } } },
        doc! { "_id": 1 },
        doc! { "a": 2.5 },
        doc! { "a": 1_i64 },
    ] {
        assert!(is_inclusive(&inclusive), "{inclusive}");
    }
    for exclusive in [
        doc! { "a": 0 },
        doc! { "a": false, "_id": 1 },
        doc! { "a": { "b": 0 } },
        doc! { "a": 0.0, "b": 0_i64 },
        doc! { "_id": 0 },
        doc! {},
    ] {
        assert!(!is_inclusive(&exclusive), "{exclusive}");
    }
}

#[test]
fn only_inclusive_projections_name_what_is_kept_aside() {
    let watch = |projection: Document| Watch {
        stages: vec![raw(&doc! { "$project": projection })],
        is_projected: true,
        ..Watch::default()
    };
    let of = |watch: &Watch| pipeline(watch, Detail::All).pop().expect("a stage");
    let inclusive = of(&watch(doc! { "fullDocument": 1 }));
    assert_eq!(
        inclusive,
        doc! { "$project": { "fullDocument": 1, ASIDE: 1 } }
    );
    let exclusive = of(&watch(doc! { "fullDocument": 0 }));
    assert_eq!(exclusive, doc! { "$project": { "fullDocument": 0 } });
}

#[test]
fn a_projection_leaves_the_token_to_the_event() {
    let of = |projection: Document| {
        let watch = Watch {
            stages: vec![raw(&doc! { "$project": projection })],
            is_projected: true,
            ..Watch::default()
        };
        pipeline(&watch, Detail::KeyOnly).split_off(1)
    };
    let aside = |more: Document| {
        let mut aside = doc! {
            "operationType": "$operationType", "ns": "$ns",
            "clusterTime": "$clusterTime", "wallTime": "$wallTime",
        };
        aside.extend(more);
        doc! { "$addFields": { ASIDE: aside } }
    };
    let without = aside(doc! { WITHOUT_ID: true });
    let unset = doc! { "$unset": Detail::KeyOnly.left_out() };
    for (given, left) in [
        (
            doc! { "_id": 0, "fullDocument": 0 },
            doc! { "fullDocument": 0 },
        ),
        (doc! { "_id": false, "ns": 1 }, doc! { "ns": 1, ASIDE: 1 }),
    ] {
        let expected = [without.clone(), unset.clone(), doc! { "$project": left }];
        assert_eq!(of(given), expected);
    }
    // The server takes no empty projection.
    assert_eq!(of(doc! { "_id": 0 }), [without, unset.clone()]);
    let kept = doc! { "$project": { "_id": 1, "ns": 1, ASIDE: 1 } };
    assert_eq!(
        of(doc! { "_id": 1, "ns": 1 }),
        [aside(doc! {}), unset, kept]
    );
}

#[test]
fn what_is_too_large_is_taken_away_behind_what_selects_and_before_a_projection() {
    let mut watch = Watch {
        stages: vec![
            raw(&doc! { "$match": { "updateDescription.updatedFields.a": 1 } }),
            raw(&doc! { "$project": { "x": "$fullDocument" } }),
        ],
        is_projected: true,
        ..Watch::default()
    };
    let names = |watch: &Watch| -> Vec<String> {
        let stages = pipeline(watch, Detail::KeyOnly);
        let first = |stage: Document| stage.keys().next().cloned();
        stages.into_iter().filter_map(first).collect()
    };
    let projected = [
        "$changeStream",
        "$addFields",
        "$match",
        "$unset",
        "$project",
    ];
    assert_eq!(names(&watch), projected);
    watch.stages.pop();
    watch.is_projected = false;
    assert_eq!(names(&watch), ["$changeStream", "$match", "$unset"]);
    watch.stages.clear();
    assert_eq!(names(&watch), ["$changeStream", "$unset"]);
}

#[test]
fn a_stream_is_known_by_what_it_selects() {
    let id = |watch: &Watch| {
        Stream::new(watch, &Server::default())
            .expect("a stream")
            .id()
    };
    let whole = Watch::default();
    let database = Watch {
        database: Some("shop".to_owned()),
        ..Watch::default()
    };
    let collection = Watch {
        collection: Some("orders".to_owned()),
        ..database.clone()
    };
    let selecting = Watch {
        stages: vec![raw(&doc! { "$match": { "operationType": "insert" } })],
        ..collection.clone()
    };
    let looking_up = Watch {
        full_document: true,
        ..collection.clone()
    };
    let all = [&whole, &database, &collection, &selecting, &looking_up].map(id);
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{all:?}");
    }
    assert_eq!(id(&collection), id(&collection.clone()));
}

#[test]
fn a_collection_without_a_database_and_stages_that_are_not_bson_are_refused() {
    let nowhere = Watch {
        collection: Some("orders".to_owned()),
        ..Watch::default()
    };
    assert!(Stream::new(&nowhere, &Server::default()).is_err());
    let malformed = Watch {
        stages: vec![Bytes::from_static(b"{}")],
        ..Watch::default()
    };
    assert!(Stream::new(&malformed, &Server::default()).is_err());
}
