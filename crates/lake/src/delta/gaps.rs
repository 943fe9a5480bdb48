//! What a table says of the stretches of history that it has not seen: its property
//! `tributary.gaps`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use tributary_model::{ClusterTime, Gap, GapRemedy};

use crate::delta::definition::Definition;

const PROPERTY: &str = "tributary.gaps";

/// A gap as it is written down: moments also in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    from: Moment,
    to: Moment,
    how: GapRemedy,
    recorded_at: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moment {
    time: String,
    cluster_time: Timestamp,
}

/// As MongoDB writes a timestamp in Extended JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Timestamp {
    t: u32,
    i: u32,
}

impl Moment {
    fn new(time: ClusterTime) -> Self {
        Self {
            time: in_words(time),
            cluster_time: Timestamp {
                t: time.seconds(),
                i: time.ordinal(),
            },
        }
    }

    fn cluster_time(&self) -> ClusterTime {
        ClusterTime::new(self.cluster_time.t, self.cluster_time.i)
    }
}

/// A moment's second as ISO 8601 has it.
pub(crate) fn in_words(time: ClusterTime) -> String {
    // All of the 32 bits are within what dates can be.
    DateTime::from_timestamp(time.seconds().into(), 0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn read(definition: &Definition) -> Vec<Written> {
    let text = definition.property(PROPERTY);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The gaps of a table, oldest first.
pub(crate) fn gaps(definition: &Definition) -> Vec<Gap> {
    let written = read(definition).into_iter();
    let gaps = written.map(|gap| Gap {
        from: gap.from.cluster_time(),
        to: gap.to.cluster_time(),
        remedy: gap.how,
    });
    gaps.collect()
}

/// Puts a gap into a definition. One that begins where another of its kind ends makes that longer;
/// so does one that begins where another does, whose commit has failed.
pub(crate) fn record(definition: &mut Definition, gap: Gap) {
    let mut written = read(definition);
    let mut from = Moment::new(gap.from);
    if let Some(last) = written.last()
        && last.how == gap.remedy
        && (last.to == from || last.from == from)
    {
        from = last.from.clone();
        written.pop();
    }
    written.push(Written {
        from,
        to: Moment::new(gap.to),
        how: gap.remedy,
        recorded_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
    });
    // Plain structs with text keys always are JSON.
    let text = serde_json::to_string(&written).unwrap_or_default();
    definition.set_property(PROPERTY, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from: u32, to: u32, remedy: GapRemedy) -> Gap {
        Gap {
            from: ClusterTime::new(from, 1),
            to: ClusterTime::new(to, 2),
            remedy,
        }
    }

    #[test]
    fn gaps_are_read_as_they_were_written() {
        let mut definition = Definition::new();
        assert_eq!(gaps(&definition), []);
        let all = [
            gap(1, 2, GapRemedy::Accepted),
            gap(5, u32::MAX, GapRemedy::Reloaded),
        ];
        for gap in all {
            record(&mut definition, gap);
        }
        assert_eq!(gaps(&definition), all);
        let text = definition.property(PROPERTY).unwrap();
        assert!(
            text.starts_with(
                r#"[{"from":{"time":"1970-01-01T00:00:01Z","clusterTime":{"t":1,"i":1}},"to":"#
            ),
            "{text}"
        );
    }

    #[test]
    fn gaps_that_meet_are_one() {
        let mut definition = Definition::new();
        let accepted = GapRemedy::Accepted;
        record(&mut definition, gap(1, 2, accepted));
        let next = Gap {
            from: ClusterTime::new(2, 2),
            ..gap(0, 3, accepted)
        };
        record(&mut definition, next);
        assert_eq!(gaps(&definition), [gap(1, 3, accepted)]);
        record(&mut definition, gap(1, 4, accepted));
        assert_eq!(gaps(&definition), [gap(1, 4, accepted)]);
        record(&mut definition, gap(1, 5, GapRemedy::Reloaded));
        assert_eq!(gaps(&definition).len(), 2);
    }
}
