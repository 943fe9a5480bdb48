use std::collections::{BTreeMap, BTreeSet, HashSet};

use bson::Document;
use bson::spec::ElementType;

use crate::{Generator, Kind, everything};

#[test]
fn a_document_depends_on_kind_seed_and_index_alone() {
    for kind in Kind::ALL {
        let generator = Generator::new(kind, 1);
        let forwards: Vec<_> = (0..10).map(|index| generator.document(index)).collect();
        let backwards: Vec<_> = (0..10)
            .rev()
            .map(|index| Generator::new(kind, 1).document(index))
            .collect();
        for (index, document) in forwards.iter().enumerate() {
            assert_eq!(
                document.as_bytes(),
                backwards[9 - index].as_bytes(),
                "{kind} {index}"
            );
            assert_ne!(
                document.as_bytes(),
                Generator::new(kind, 2).document(index as u64).as_bytes()
            );
        }
    }
}

#[test]
fn sizes_are_about_what_they_are_said_to_be() {
    for (kind, documents) in [
        (Kind::Banking, 300),
        (Kind::Flat, 2_000),
        (Kind::Nested, 2_000),
        (Kind::Wide, 50),
        (Kind::Sized4K, 200),
        (Kind::Sized250K, 5),
        (Kind::Everything, everything::PERIOD),
    ] {
        let generator = Generator::new(kind, 1);
        let bytes: usize = (0..documents)
            .map(|index| generator.document(index).as_bytes().len())
            .sum();
        let average = bytes as f64 / documents as f64;
        let typical = kind.typical_bytes() as f64;
        assert!(
            (average / typical - 1.0).abs() < 0.15,
            "{kind}: {average} bytes instead of {typical}"
        );
    }
}

#[test]
fn identifiers_are_unique_and_those_of_ordinary_documents_rise() {
    for kind in Kind::ALL {
        let generator = Generator::new(kind, 3);
        let ids: Vec<String> = [0..10, 16_777_210..16_777_220, 4_294_967_290..4_294_967_296]
            .into_iter()
            .flatten()
            .map(|index| {
                let document = generator.document(index);
                let element = document.iter_elements().next().unwrap().unwrap();
                assert_eq!(element.key().as_str(), "_id");
                format!("{:?}", element.value().unwrap())
            })
            .collect();
        assert_eq!(
            ids.iter().collect::<HashSet<_>>().len(),
            ids.len(),
            "{kind}"
        );
        assert!(kind == Kind::Everything || ids.is_sorted(), "{kind}");
    }
}

#[test]
fn one_field_of_flat_documents_is_missing_in_three_tenths_of_them() {
    let generator = Generator::new(Kind::Flat, 1);
    let mut fields = BTreeMap::<String, u32>::new();
    for index in 0..2_000 {
        for element in generator.document(index).iter_elements() {
            *fields
                .entry(element.unwrap().key().to_string())
                .or_default() += 1;
        }
    }
    let partial: Vec<_> = fields
        .into_iter()
        .filter(|(_, count)| *count < 2_000)
        .collect();
    assert_eq!(partial.len(), 1);
    assert!((1_300..1_500).contains(&partial[0].1), "{partial:?}");
}

#[test]
fn wide_documents_have_500_fields() {
    assert_eq!(
        Generator::new(Kind::Wide, 1)
            .document(5)
            .iter_elements()
            .count(),
        500
    );
}

#[test]
fn every_type_occurs_and_is_mixed_into_one_field() {
    let generator = Generator::new(Kind::Everything, 1);
    let mut types = BTreeMap::<String, BTreeSet<u8>>::new();
    for index in 0..everything::PERIOD {
        for element in generator.document(index).iter_elements() {
            let element = element.unwrap();
            types
                .entry(element.key().to_string())
                .or_default()
                .insert(element.element_type() as u8);
        }
    }
    let every = (0x01..=0x13)
        .chain([0x7f, 0xff])
        .filter(|byte| ElementType::from(*byte).is_some());
    assert_eq!(types["mixed"], every.collect());
    assert_eq!(types["_id"].len(), 6);
    assert_eq!(types["twice"].len(), 2);
    for name in [
        "", "a.b", "$dollar", "name", "Name", "NAME", "broken", "deep", "whole", "number",
    ] {
        assert!(types.contains_key(name), "{name:?}");
    }
}

#[test]
fn every_document_can_be_decoded_but_those_with_broken_text() {
    for kind in Kind::ALL {
        let generator = Generator::new(kind, 1);
        for index in 0..everything::PERIOD.min(1_000_000 / kind.typical_bytes()) {
            let document = generator.document(index);
            let broken = kind == Kind::Everything && index % 17 == 9;
            assert_eq!(
                Document::try_from(document.as_ref()).is_err(),
                broken,
                "{kind} {index}"
            );
        }
    }
}

#[test]
fn kinds_are_known_by_their_names() {
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let message = "flatt".parse::<Kind>().unwrap_err().to_string();
    assert_eq!(
        message,
        r#"unknown kind of documents "flatt"; choose one of banking, flat, nested, wide, 4k, 250k, everything"#
    );
}
