//! Which collections flows select, and whether two of them can select the same one.

use std::collections::BTreeMap;

use serde_saphyr::{Location, Spanned};

use super::Resolver;
use crate::config::plan::{End, Place, Route};
use crate::config::values::{Name, Text};

/// Longer patterns are compared by their texts alone: no collection has such a name.
const LONGEST_PATTERN: usize = 1000;

/// Flows by where they read and where they write tables.
pub(super) type Following = BTreeMap<(String, String), Vec<(String, Vec<Names>)>>;

impl Resolver<'_> {
    /// Checks the patterns of collections.
    pub(super) fn collections(&mut self, patterns: &[Spanned<Text>]) -> Vec<Text> {
        for pattern in patterns {
            let text = pattern.value.as_str();
            if let Err(error) = glob::Pattern::new(text) {
                let what = format!(
                    "`{text}` of `collections` is no pattern: {error}; `*` matches any characters and `?` one, and `[[]` is a `[`"
                );
                self.wrong(pattern.referenced, what);
            }
        }
        patterns
            .iter()
            .map(|pattern| pattern.value.clone())
            .collect()
    }

    /// Refuses a second flow of the same collections into the same tables.
    pub(super) fn follow_alone(&mut self, at: Location, route: &Route, flow: &Name) {
        let mut names: Vec<Names> = route
            .collections
            .iter()
            .map(|text| Names::of(text.as_str()))
            .collect();
        if names.is_empty() {
            names.push(Names::of("*"));
        }
        let ways = match &route.through {
            Some(through) => vec![(&route.from, through), (through, &route.to)],
            None => vec![(&route.from, &route.to)],
        };
        for (from, to) in ways.into_iter().filter(|(_, to)| !to.place.takes_changes()) {
            let others = self.following.entry((which(from), which(to))).or_default();
            let meets = |(_, theirs): &&(String, Vec<Names>)| {
                let mut pairs = names
                    .iter()
                    .flat_map(|a| theirs.iter().map(move |b| (a, b)));
                pairs.any(|(a, b)| a.meet(b))
            };
            let other = others.iter().find(meets).map(|(other, _)| other.clone());
            others.push((flow.to_string(), names.clone()));
            if let Some(other) = other {
                let (from, to) = (&from.name, &to.name);
                let what = format!(
                    "the flow `{other}` brings collections of `{from}` into `{to}` too, and some can be of both: give each flow `collections` of its own"
                );
                self.wrong(at, what);
            }
        }
    }
}

/// What tells one place from others, whatever it is called.
fn which(end: &End) -> String {
    match &end.place {
        Place::Source(source) => source.uri.as_str().to_owned(),
        Place::Lake(path) => path.trim_end_matches('/').to_owned(),
        Place::Warehouse(warehouse) => warehouse.uri.as_str().to_owned(),
        Place::Ingest(_) | Place::Stream(_) | Place::Files(_) => end.name.clone(),
    }
}

/// The names that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    text: String,
    /// Its parts; none where it is one name.
    parts: Option<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// One of these characters.
    One(Characters),
    /// Any number of any characters.
    Any,
}

/// Those in these ranges, or all but those.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Characters {
    ranges: Vec<(char, char)>,
    are_others: bool,
}

impl Names {
    fn of(text: &str) -> Self {
        let is_pattern = text.contains(['*', '?', '[']) && text.len() <= LONGEST_PATTERN;
        Self {
            text: text.to_owned(),
            parts: is_pattern.then(|| parts(text)),
        }
    }

    /// Whether there is a name that both match.
    fn meet(&self, other: &Self) -> bool {
        let (a, b) = match (&self.parts, &other.parts) {
            (None, None) => return self.text == other.text,
            (Some(a), Some(b)) => (a, b),
            (Some(a), None) if other.text.len() <= LONGEST_PATTERN => (a, &parts(&other.text)),
            (None, Some(b)) if self.text.len() <= LONGEST_PATTERN => (&parts(&self.text), b),
            _ => return false,
        };
        // From the end on: whether what is left of both has a name in common, for each place in `b`.
        let any_from = |parts: &[Part]| parts.iter().all(|part| *part == Part::Any);
        let mut behind: Vec<bool> = (0..=b.len()).map(|j| any_from(&b[j..])).collect();
        for (i, part) in a.iter().enumerate().rev() {
            let mut here = vec![false; b.len() + 1];
            here[b.len()] = any_from(&a[i..]);
            for (j, other) in b.iter().enumerate().rev() {
                here[j] = match (part, other) {
                    (Part::One(these), Part::One(those)) => these.meet(those) && behind[j + 1],
                    // Any takes one more, or ends.
                    _ => behind[j] || here[j + 1],
                };
            }
            behind = here;
        }
        behind[0]
    }
}

/// The parts of a pattern, as `glob` has them.
fn parts(pattern: &str) -> Vec<Part> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut parts = Vec::new();
    let mut rest = characters.as_slice();
    while let [first, behind @ ..] = rest {
        rest = behind;
        let (ranges, are_others) = match first {
            '*' => {
                if parts.last() != Some(&Part::Any) {
                    parts.push(Part::Any);
                }
                continue;
            }
            '?' => (Vec::new(), true),
            '[' => {
                let are_others = behind.first() == Some(&'!');
                let class = &behind[usize::from(are_others)..];
                // The first character of a class is one of its own, even where it is `]`.
                let end = class.iter().skip(1).position(|c| *c == ']');
                let Some(end) = end.map(|end| end + 1) else {
                    return parts;
                };
                rest = &class[end + 1..];
                (ranges(&class[..end]), are_others)
            }
            c => (vec![(*c, *c)], false),
        };
        parts.push(Part::One(Characters { ranges, are_others }));
    }
    parts
}

fn ranges(mut class: &[char]) -> Vec<(char, char)> {
    let mut ranges = Vec::new();
    loop {
        class = match class {
            [] => return ranges,
            [first, '-', last, rest @ ..] => {
                ranges.push((*first, *last));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
        };
    }
}

impl Characters {
    fn have(&self, c: char) -> bool {
        let is_in = self
            .ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&c));
        is_in != self.are_others
    }

    /// Whether there is a character that is of both: one is where a range begins, or beside one.
    fn meet(&self, other: &Self) -> bool {
        let ends = self.ranges.iter().chain(&other.ranges);
        let beside = ends.flat_map(|(first, last)| {
            let after = char::from_u32(u32::from(*last) + 1);
            [Some(*first), after].into_iter().flatten()
        });
        let mut candidates = beside.chain(['\0']);
        candidates.any(|c| self.have(c) && other.have(c))
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn patterns_meet_where_one_name_is_of_both() {
        for (a, b, expected) in [
            ("orders", "orders", true),
            ("orders", "order", false),
            ("*", "orders", true),
            ("*", "*", true),
            ("order?", "orders", true),
            ("order?", "order", false),
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("a*c", "ab*", true),
            ("a*c", "a*d", false),
            ("*a*", "b[c-d]b", false),
            ("*a*", "b?b?", true),
            ("[a-c]x", "[c-e]x", true),
            ("[a-c]x", "[d-e]x", false),
            ("[!a-c]x", "[a-d]x", true),
            ("[!a-c]x", "[a-c]x", false),
            ("[!a]", "[!b]", true),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[*]", "*", true),
            ("[*]", "a", false),
            ("[[]", "[a]", false),
            ("log.*", "log.*.old", true),
            ("log.?", "log.*.old", false),
            ("é*", "[à-ü]t", true),
        ] {
            let (these, those) = (Names::of(a), Names::of(b));
            assert_eq!(these.meet(&those), expected, "{a} and {b}");
            assert_eq!(those.meet(&these), expected, "{b} and {a}");
        }
    }
}
