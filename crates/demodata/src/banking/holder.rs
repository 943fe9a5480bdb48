//! People who hold accounts. All of them are invented.

use bson::RawDocumentBuf;
use bson::raw::cstr;
use rand::Rng;

use super::places::Place;
use crate::text;

/// First names, and how they are written in mail addresses.
const FIRST: [(&str, &str); 24] = [
    ("Amélie", "amelie"),
    ("Anna", "anna"),
    ("Björn", "bjorn"),
    ("Carlos", "carlos"),
    ("Charlotte", "charlotte"),
    ("Daniel", "daniel"),
    ("Elena", "elena"),
    ("Emma", "emma"),
    ("Felix", "felix"),
    ("Grace", "grace"),
    ("Hugo", "hugo"),
    ("Ingrid", "ingrid"),
    ("Jakob", "jakob"),
    ("José", "jose"),
    ("Julia", "julia"),
    ("Lucía", "lucia"),
    ("Marie", "marie"),
    ("Mateo", "mateo"),
    ("Noah", "noah"),
    ("Oliver", "oliver"),
    ("Priya", "priya"),
    ("Sofia", "sofia"),
    ("Thomas", "thomas"),
    ("Zoë", "zoe"),
];

/// Last names, and how they are written in mail addresses.
const LAST: [(&str, &str); 24] = [
    ("Andersson", "andersson"),
    ("Bauer", "bauer"),
    ("Bennett", "bennett"),
    ("Carter", "carter"),
    ("Dubois", "dubois"),
    ("Fischer", "fischer"),
    ("García", "garcia"),
    ("Gruber", "gruber"),
    ("Hoffmann", "hoffmann"),
    ("Hughes", "hughes"),
    ("Keller", "keller"),
    ("Lefèvre", "lefevre"),
    ("Lindqvist", "lindqvist"),
    ("Martínez", "martinez"),
    ("Meier", "meier"),
    ("Moreau", "moreau"),
    ("Müller", "mueller"),
    ("Navarro", "navarro"),
    ("O'Connor", "oconnor"),
    ("Parker", "parker"),
    ("Patel", "patel"),
    ("Rossi", "rossi"),
    ("Sjöberg", "sjoberg"),
    ("Wagner", "wagner"),
];

const STREETS: [&str; 16] = [
    "Am Mühlbach",
    "Bahnhofstraße",
    "Calle Mayor",
    "Canal Street",
    "Church Lane",
    "Gartenweg",
    "High Street",
    "Kungsgatan",
    "Lindenallee",
    "Maple Avenue",
    "Place du Marché",
    "Quai Neuf",
    "Rue des Lilas",
    "Station Road",
    "Storgatan",
    "Via Verde",
];

const DOMAINS: [&str; 4] = ["example.com", "example.net", "example.org", "mail.example"];

/// The holder of an account.
pub(super) struct Holder {
    name: String,
    email: String,
    phone: String,
    line1: String,
    line2: Option<String>,
    city: &'static str,
    postal_code: String,
    country: &'static str,
}

impl Holder {
    pub(super) fn new(rng: &mut impl Rng, place: &Place) -> Self {
        let (first, last) = (text::pick(rng, &FIRST), text::pick(rng, &LAST));
        let suffix = rng.random_range(1..1000);
        let [area, line] = [
            rng.random_range(20..100),
            rng.random_range(1_000_000..10_000_000),
        ];
        Self {
            name: format!("{} {}", first.0, last.0),
            email: format!(
                "{}.{}{suffix}@{}",
                first.1,
                last.1,
                text::pick(rng, &DOMAINS)
            ),
            phone: format!("{} {area} {line}", place.dial),
            line1: format!("{} {}", text::pick(rng, &STREETS), rng.random_range(1..180)),
            line2: rng
                .random_bool(0.35)
                .then(|| format!("Apt {}", rng.random_range(1..60))),
            city: place.city,
            postal_code: place.postal_code(rng),
            country: place.country,
        }
    }

    /// The `accountHolder` of statements; `address.line2` is missing for most.
    pub(super) fn document(&self) -> RawDocumentBuf {
        let mut address = RawDocumentBuf::new();
        address.append(cstr!("line1"), self.line1.as_str());
        if let Some(line2) = &self.line2 {
            address.append(cstr!("line2"), line2.as_str());
        }
        address.append(cstr!("city"), self.city);
        address.append(cstr!("postalCode"), self.postal_code.as_str());
        address.append(cstr!("country"), self.country);
        let mut holder = RawDocumentBuf::new();
        holder.append(cstr!("name"), self.name.as_str());
        holder.append(cstr!("email"), self.email.as_str());
        holder.append(cstr!("phone"), self.phone.as_str());
        holder.append(cstr!("address"), address);
        holder
    }
}
