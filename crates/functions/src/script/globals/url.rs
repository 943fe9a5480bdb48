//! Addresses, as the URL standard reads them.

use ::url::{Url, form_urlencoded, quirks};
use rquickjs::function::{Func, Opt};
use rquickjs::{Ctx, Exception, Object, Result};

pub(super) fn define(native: &Object<'_>) -> Result<()> {
    native.set("urlParse", Func::from(parse))?;
    native.set("urlSet", Func::from(set))?;
    native.set("formParse", Func::from(parse_form))?;
    native.set("formSerialize", Func::from(serialize_form))?;
    native.set(
        "domainToAscii",
        Func::from(|domain: String| quirks::domain_to_ascii(&domain)),
    )?;
    native.set(
        "domainToUnicode",
        Func::from(|domain: String| quirks::domain_to_unicode(&domain)),
    )
}

/// The parts of an address: `href`, `origin`, `protocol`, `username`, `password`, `host`, `hostname`,
/// `port`, `pathname`, `search`, `hash`.
fn parts(url: &Url) -> Vec<String> {
    vec![
        quirks::href(url).to_owned(),
        quirks::origin(url),
        quirks::protocol(url).to_owned(),
        quirks::username(url).to_owned(),
        quirks::password(url).to_owned(),
        quirks::host(url).to_owned(),
        quirks::hostname(url).to_owned(),
        quirks::port(url).to_owned(),
        quirks::pathname(url).to_owned(),
        quirks::search(url).to_owned(),
        quirks::hash(url).to_owned(),
    ]
}

/// The parts of the address that `input` names, seen from `base` where there is one; none where it is no
/// address.
fn parse(input: String, base: Opt<String>) -> Option<Vec<String>> {
    let url = match base.0 {
        Some(base) => Url::parse(&base).ok()?.join(&input),
        None => Url::parse(&input),
    };
    url.ok().map(|url| parts(&url))
}

/// The parts of the address with one of them set anew. A part that cannot be what is asked stays as it
/// is, as the standard has it.
fn set(ctx: Ctx<'_>, href: String, part: String, value: String) -> Result<Vec<String>> {
    let invalid = || Exception::throw_type(&ctx, "the value is no address");
    let mut url = Url::parse(&href).map_err(|_| invalid())?;
    match part.as_str() {
        "protocol" => quirks::set_protocol(&mut url, &value).unwrap_or_default(),
        "username" => quirks::set_username(&mut url, &value).unwrap_or_default(),
        "password" => quirks::set_password(&mut url, &value).unwrap_or_default(),
        "host" => quirks::set_host(&mut url, &value).unwrap_or_default(),
        "hostname" => quirks::set_hostname(&mut url, &value).unwrap_or_default(),
        "port" => quirks::set_port(&mut url, &value).unwrap_or_default(),
        "pathname" => quirks::set_pathname(&mut url, &value),
        "search" => quirks::set_search(&mut url, &value),
        "hash" => quirks::set_hash(&mut url, &value),
        _ => quirks::set_href(&mut url, &value).map_err(|_| invalid())?,
    }
    Ok(parts(&url))
}

/// Names and values by turns.
fn parse_form(text: String) -> Vec<String> {
    form_urlencoded::parse(text.as_bytes())
        .flat_map(|(name, value)| [name.into_owned(), value.into_owned()])
        .collect()
}

fn serialize_form(pairs: Vec<String>) -> String {
    let (pairs, _) = pairs.as_chunks::<2>();
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs.iter().map(|[name, value]| (name, value)))
        .finish()
}
