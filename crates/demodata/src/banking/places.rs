//! Cities with a branch.

use bson::RawDocumentBuf;
use bson::raw::cstr;
use rand::Rng;

/// A city and what follows from it.
pub(super) struct Place {
    pub(super) city: &'static str,
    pub(super) region: &'static str,
    pub(super) country: &'static str,
    pub(super) currency: &'static str,
    /// The prefix of telephone numbers.
    pub(super) dial: &'static str,
    /// Postal codes of the city: `#` stands for a digit.
    postal_code: &'static str,
    /// The branch's code without its number.
    code: &'static str,
}

const fn place(
    city: &'static str,
    region: &'static str,
    [country, currency, dial]: [&'static str; 3],
    postal_code: &'static str,
    code: &'static str,
) -> Place {
    Place {
        city,
        region,
        country,
        currency,
        dial,
        postal_code,
        code,
    }
}

const GERMANY: [&str; 3] = ["DE", "EUR", "+49"];
const AUSTRIA: [&str; 3] = ["AT", "EUR", "+43"];
const FRANCE: [&str; 3] = ["FR", "EUR", "+33"];
const SPAIN: [&str; 3] = ["ES", "EUR", "+34"];
const SWITZERLAND: [&str; 3] = ["CH", "CHF", "+41"];
const BRITAIN: [&str; 3] = ["GB", "GBP", "+44"];
const AMERICA: [&str; 3] = ["US", "USD", "+1"];
const SWEDEN: [&str; 3] = ["SE", "SEK", "+46"];

pub(super) const PLACES: [Place; 20] = [
    place("Berlin", "Central Europe", GERMANY, "10###", "BER"),
    place("Hamburg", "Central Europe", GERMANY, "20###", "HAM"),
    place("München", "Central Europe", GERMANY, "80###", "MUC"),
    place("Köln", "Central Europe", GERMANY, "50###", "CGN"),
    place("Wien", "Central Europe", AUSTRIA, "10#0", "VIE"),
    place("Graz", "Central Europe", AUSTRIA, "80#0", "GRZ"),
    place("Zürich", "Central Europe", SWITZERLAND, "80##", "ZRH"),
    place("Genève", "Central Europe", SWITZERLAND, "12##", "GVA"),
    place("Paris", "Western Europe", FRANCE, "750##", "PAR"),
    place("Lyon", "Western Europe", FRANCE, "6900#", "LYS"),
    place("Nantes", "Western Europe", FRANCE, "44#00", "NTE"),
    place("London", "Western Europe", BRITAIN, "E1 #AB", "LON"),
    place("Leeds", "Western Europe", BRITAIN, "LS# 4TN", "LBA"),
    place("Madrid", "Southern Europe", SPAIN, "280##", "MAD"),
    place("Sevilla", "Southern Europe", SPAIN, "410##", "SVQ"),
    place("Stockholm", "Northern Europe", SWEDEN, "11# ##", "STO"),
    place("Göteborg", "Northern Europe", SWEDEN, "41# ##", "GOT"),
    place("New York", "North America", AMERICA, "100##", "NYC"),
    place("Chicago", "North America", AMERICA, "606##", "CHI"),
    place("Portland", "North America", AMERICA, "972##", "PDX"),
];

impl Place {
    pub(super) fn postal_code(&self, rng: &mut impl Rng) -> String {
        let digit = |character| match character {
            '#' => char::from(b'0' + rng.random_range(0..10_u8)),
            other => other,
        };
        self.postal_code.chars().map(digit).collect()
    }

    /// The `branch` of statements: the city's branch with that number.
    pub(super) fn branch(&self, number: u32) -> RawDocumentBuf {
        let mut branch = RawDocumentBuf::new();
        branch.append(cstr!("code"), format!("{}-{number:02}", self.code));
        branch.append(cstr!("name"), format!("{} {number}", self.city));
        branch.append(cstr!("region"), self.region);
        branch
    }
}
