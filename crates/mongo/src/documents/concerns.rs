//! Where operations read, and what they wait for.

use std::collections::HashMap;
use std::time::Duration;

use mongodb::bson::RawBsonRef;
use mongodb::options::{
    Acknowledgment, ReadConcern, ReadPreference, ReadPreferenceOptions, SelectionCriteria,
    WriteConcern,
};

use super::failure::Failure;
use super::fields::Fields;

impl Fields<'_> {
    pub(super) fn read_concern(&self) -> Result<Option<ReadConcern>, Failure> {
        let Some(concern) = self.raw_document("readConcern")? else {
            return Ok(None);
        };
        let concern = Fields::unchecked("field", "a read concern", concern).checked(&["level"])?;
        let level = concern.required("level", concern.text("level")?)?;
        Ok(Some(ReadConcern::custom(level)))
    }

    pub(super) fn write_concern(&self) -> Result<Option<WriteConcern>, Failure> {
        const KNOWN: &[&str] = &["w", "j", "journal", "wtimeout", "wtimeoutMS"];
        let Some(concern) = self.raw_document("writeConcern")? else {
            return Ok(None);
        };
        let concern = Fields::unchecked("field", "a write concern", concern).checked(KNOWN)?;
        let w = match concern.get("w")? {
            Some(RawBsonRef::String("majority")) => Some(Acknowledgment::Majority),
            Some(RawBsonRef::String(tag)) => Some(Acknowledgment::Custom(tag.to_owned())),
            _ => concern.whole("w")?.map(Acknowledgment::Nodes),
        };
        if w == Some(Acknowledgment::Nodes(0)) {
            return Err(Failure::of(
                "a write concern whose `w` is 0 waits for nothing, and is not supported",
            ));
        }
        let journal = match concern.boolean("j")? {
            None => concern.boolean("journal")?,
            given => given,
        };
        let timeout = match concern.milliseconds("wtimeoutMS")? {
            None => concern.milliseconds("wtimeout")?,
            given => given,
        };
        let concern = WriteConcern::builder()
            .w(w)
            .journal(journal)
            .w_timeout(timeout);
        Ok(Some(concern.build()))
    }

    /// The read preference, by its name or as a document with its `mode`.
    pub(super) fn read_preference(&self) -> Result<Option<SelectionCriteria>, Failure> {
        let (mode, options) = match self.get("readPreference")? {
            None => return Ok(None),
            Some(RawBsonRef::Document(preference)) => {
                let preference = Fields::unchecked("field", "a read preference", preference);
                let preference = preference.checked(&["mode", "tags", "maxStalenessSeconds"])?;
                let mode = preference.required("mode", preference.text("mode")?)?;
                let staleness = preference.whole("maxStalenessSeconds")?;
                let options = ReadPreferenceOptions::builder()
                    .tag_sets(preference.tag_sets()?)
                    .max_staleness(staleness.map(Duration::from_secs))
                    .build();
                (mode, options)
            }
            Some(_) => {
                let mode = self.text("readPreference")?.unwrap_or_default();
                (mode, ReadPreferenceOptions::default())
            }
        };
        if mode == "primary" && options != ReadPreferenceOptions::default() {
            return Err(Failure::of(
                "the read preference `primary` has neither tags nor a staleness",
            ));
        }
        let options = Some(options);
        Ok(Some(SelectionCriteria::ReadPreference(match mode {
            "primary" => ReadPreference::Primary,
            "primaryPreferred" => ReadPreference::PrimaryPreferred { options },
            "secondary" => ReadPreference::Secondary { options },
            "secondaryPreferred" => ReadPreference::SecondaryPreferred { options },
            "nearest" => ReadPreference::Nearest { options },
            other => {
                return Err(Failure::of(format!(
                    "there is no read preference `{other}`"
                )));
            }
        })))
    }

    fn tag_sets(&self) -> Result<Option<Vec<HashMap<String, String>>>, Failure> {
        let Some(documents) = self.raw_documents("tags")? else {
            return Ok(None);
        };
        let mut sets = Vec::with_capacity(documents.len());
        for document in documents {
            let tags = Fields::unchecked("tag", "a read preference", document);
            let mut set = HashMap::new();
            for tag in document {
                let name = tag?.0.as_str();
                set.insert(
                    name.to_owned(),
                    tags.required(name, tags.text(name)?)?.to_owned(),
                );
            }
            sets.push(set);
        }
        Ok(Some(sets))
    }
}
