//! What is read of the XML that S3 and SNS answer: flat records without attributes.

/// The text of the first element of a name.
pub(super) fn text(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).next().map(unescape)
}

/// What is inside of each element of a name, none of which holds another.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("<{name}>");
    let end = format!("</{name}>");
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, from) = rest.split_once(start.as_str())?;
        let (inside, behind) = from.split_once(end.as_str())?;
        rest = behind;
        Some(inside)
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('&') {
        out.push_str(before);
        let named = from.split_once(';').and_then(|(entity, behind)| {
            let c = match entity {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                entity => {
                    let number = entity.strip_prefix('#')?;
                    let code = match number.strip_prefix('x') {
                        Some(hex) => u32::from_str_radix(hex, 16),
                        None => number.parse(),
                    };
                    char::from_u32(code.ok()?)?
                }
            };
            Some((c, behind))
        });
        match named {
            Some((c, behind)) => {
                out.push(c);
                rest = behind;
            }
            None => {
                out.push('&');
                rest = from;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_and_their_text_is_read() {
        let xml = "<R><C><Key>a&amp;b&#x41;&#66;&bad;&</Key></C><C><Key/></C><C><Key></Key></C><C>open</R>";
        let found: Vec<&str> = elements(xml, "C").collect();
        assert_eq!(found.len(), 3);
        assert_eq!(text(xml, "Key").as_deref(), Some("a&bAB&bad;&"));
        assert_eq!(text(found[1], "Key"), None);
        assert_eq!(text(found[2], "Key").as_deref(), Some(""));
        assert_eq!(text(xml, "Code"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(xml in "[<>/&;#xaK0-9é]{0,40}") {
            let wrapped = format!("<K>{}</K>", xml.replace("</K>", ""));
            proptest::prop_assert!(text(&wrapped, "K").is_some());
            elements(&xml, "K").for_each(drop);
        }
    }
}
