//! Reading numbers in Prometheus's text format, version 0.0.4.

use std::collections::HashMap;

/// What the samples of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// Samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// A number and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// What comes behind the family's name, such as `_sum`.
    pub(super) suffix: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

/// All families, in the order in which they come. Lines that mean nothing are passed over, and a number whose type is
/// not told is a gauge.
pub(super) fn parse(text: &str) -> Vec<Family> {
    let mut families = Families::default();
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            families.describe(comment);
        } else if let Some((name, labels, value)) = sample(line) {
            families.add(name, labels, value);
        }
    }
    let mut found = families.found;
    found.retain(|family| !family.samples.is_empty());
    found
}

#[derive(Default)]
struct Families {
    found: Vec<Family>,
    places: HashMap<String, usize>,
}

impl Families {
    fn of(&mut self, name: &str) -> Option<&mut Family> {
        let next = self.found.len();
        let place = *self.places.entry(name.to_owned()).or_insert(next);
        if place == next {
            self.found.push(Family {
                name: name.to_owned(),
                kind: Kind::Gauge,
                help: String::new(),
                samples: Vec::new(),
            });
        }
        self.found.get_mut(place)
    }

    fn describe(&mut self, comment: &str) {
        let mut words = comment.trim_start().splitn(3, ' ');
        let (Some(what), Some(name), text) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let text = text.unwrap_or_default().trim();
        let kind = match (what, text) {
            ("HELP", _) => None,
            ("TYPE", "counter") => Some(Kind::Counter),
            ("TYPE", "histogram") => Some(Kind::Histogram),
            ("TYPE", "summary") => Some(Kind::Summary),
            ("TYPE", _) => Some(Kind::Gauge),
            _ => return,
        };
        if let Some(family) = self.of(name) {
            match kind {
                Some(kind) => family.kind = kind,
                None => family.help = text.replace("\\n", "\n").replace("\\\\", "\\"),
            }
        }
    }

    fn add(&mut self, name: &str, labels: Vec<(String, String)>, value: f64) {
        let part = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| {
                let family = name.strip_suffix(suffix)?;
                let known = self.found.get(*self.places.get(family)?)?;
                matches!(known.kind, Kind::Histogram | Kind::Summary).then_some((family, suffix))
            });
        let (family, suffix) = part.unwrap_or((name, ""));
        if let Some(family) = self.of(family) {
            family.samples.push(Sample {
                suffix: suffix.to_owned(),
                labels,
                value,
            });
        }
    }
}

type Labels = Vec<(String, String)>;

/// The name, the labels and the value of a line.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at_checked(end)?;
    if !is_name(name) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A time may come behind the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

fn is_name(name: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty()
        && name.chars().all(is_of_name)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Labels up to the closing brace, and what is behind it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((found, behind));
        }
        let (name, behind) = rest.split_once('=')?;
        if !is_name(name.trim()) {
            return None;
        }
        let (value, behind) = quoted(behind.trim_start().strip_prefix('"')?)?;
        found.push((name.trim().to_owned(), value));
        rest = behind;
    }
}

/// The text up to the closing quote, and what is behind it.
fn quoted(rest: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut left = rest.chars();
    loop {
        match left.next()? {
            '"' => return Some((text, left.as_str())),
            '\\' => match left.next()? {
                'n' => text.push('\n'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_have_their_kind_help_labels_and_values() {
        let families = parse(
            "# HELP runs_total How\\nmany.\n# TYPE runs_total counter\n\
             runs_total{job=\"a \\\"b\\\" \\\\ {x}\\n\",state=\"ok\"} 3\n\
             # TYPE time_seconds histogram\ntime_seconds_bucket{le=\"0.5\"} 1\n\
             time_seconds_bucket{le=\"+Inf\"} 2\ntime_seconds_sum 1.5\ntime_seconds_count 2 1700000000\n\
             # TYPE none gauge\nlag NaN\nmine_count 4\n",
        );
        let names: Vec<_> = families.iter().map(|f| (&*f.name, f.kind)).collect();
        assert_eq!(
            names,
            [
                ("runs_total", Kind::Counter),
                ("time_seconds", Kind::Histogram),
                ("lag", Kind::Gauge),
                ("mine_count", Kind::Gauge),
            ]
        );
        assert_eq!(families[0].help, "How\nmany.");
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            families[0].samples[0].labels,
            [label("job", "a \"b\" \\ {x}\n"), label("state", "ok")]
        );
        assert_eq!(families[0].samples[0].value, 3.0);
        let parts: Vec<_> = families[1]
            .samples
            .iter()
            .map(|sample| (&*sample.suffix, sample.value))
            .collect();
        let expected = [
            ("_bucket", 1.0),
            ("_bucket", 2.0),
            ("_sum", 1.5),
            ("_count", 2.0),
        ];
        assert_eq!(parts, expected);
        assert!(families[2].samples[0].value.is_nan());
    }

    #[test]
    fn a_family_that_comes_in_two_places_is_one() {
        let families =
            parse("# TYPE a counter\na{x=\"1\"} 1\nb 2\n# TYPE a counter\na{x=\"2\"} 3\n");
        assert_eq!(families.len(), 2);
        assert_eq!(families[0].samples.len(), 2);
    }

    #[test]
    fn lines_that_mean_nothing_are_passed_over() {
        for line in [
            "",
            "a",
            "a{",
            "a{b",
            "a{b=}",
            "a{b=\"",
            "a{b=\"c\\",
            "a{b=\"c\"",
            "a{b=\"c\"}",
            "a b",
            "{} 1",
            "1a 1",
            "#",
            "# TYPE",
            "# TYPE a",
            "é{ü=\"ö\"} 1",
            "a{1=\"x\"} 1",
        ] {
            assert_eq!(parse(line), [], "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a\\\\\"{}=,# _\nTYPEé1.+-]{0,60}|\\PC{0,60}") {
            parse(&text);
        }
    }
}
