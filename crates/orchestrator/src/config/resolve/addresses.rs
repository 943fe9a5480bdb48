//! Addresses of deployments and of object stores: whether they are such, as far as their text says.

use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;
use url::Url;

/// Checks the path or address of a directory of a lake, or of files.
pub(super) fn check_directory(address: &str) -> Result<(), String> {
    let Some((scheme, _)) = address.split_once("://") else {
        return Ok(());
    };
    if !matches!(
        scheme,
        "file" | "s3" | "s3a" | "az" | "azure" | "abfs" | "abfss" | "adl"
    ) {
        return Err(format!(
            "has the unknown scheme `{scheme}`: it is a directory, s3://bucket/prefix, az://container/prefix or abfss://container@account.dfs.core.windows.net/prefix"
        ));
    }
    let url = Url::parse(address).map_err(|error| format!("is no address: {error}"))?;
    match scheme {
        "file" if url.to_file_path().is_err() => Err("is no directory of this machine".to_owned()),
        "file" => Ok(()),
        _ if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(()),
        _ => Err("names no bucket or container".to_owned()),
    }
}

/// Checks an address of MongoDB. What is wrong is told without any of it: there is a password in it.
pub(super) fn check_mongodb(uri: &str) -> Result<(), &'static str> {
    let (has_name, rest) = match (
        uri.strip_prefix("mongodb://"),
        uri.strip_prefix("mongodb+srv://"),
    ) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("is not mongodb://… or mongodb+srv://…"),
    };
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        if !is_encoded(user) || !is_encoded(password) {
            return Err(
                "has characters in its user or password that are to be percent-encoded: `@` as %40, `:` as %3A, `/` as %2F, `%` as %25",
            );
        }
    }
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts: Vec<&str> = hosts.split(',').collect();
    for host in &hosts {
        check_host(host, has_name)?;
    }
    if has_name && hosts.len() > 1 {
        return Err("has several hosts, and mongodb+srv:// has one name");
    }
    match percent_decode_str(database).decode_utf8() {
        Ok(name) if !name.contains(['/', '\\', ' ', '"', '$']) => Ok(()),
        _ => Err(
            "names no database behind its hosts; a `/` or `?` in a password is to be percent-encoded",
        ),
    }
}

/// Whether a user or a password is written as it has to be.
fn is_encoded(text: &str) -> bool {
    let mut escapes = text.split('%').skip(1);
    let is_escape = |part: &str| {
        let digits = part.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    !text.contains([':', '/', '?', '#', '[', ']', '@'])
        && escapes.all(is_escape)
        && percent_decode_str(text).decode_utf8().is_ok()
}

fn check_host(host: &str, has_name: bool) -> Result<(), &'static str> {
    if host.ends_with(".sock") && !has_name {
        return Ok(());
    }
    let (name, port) = match host.strip_prefix('[') {
        Some(literal) => {
            let end = literal.split_once(']');
            let Some((address, port)) = end.filter(|end| end.0.parse::<Ipv6Addr>().is_ok()) else {
                return Err("has no address of IPv6 between `[` and `]`");
            };
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').unwrap_or("")),
            };
            (address, port)
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    match port {
        _ if name.is_empty() => Err("has an empty host"),
        Some(_) if has_name => Err("has a port, and the name of mongodb+srv:// says which"),
        Some(port) if !port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Err("has a port that is no number from 1 to 65535")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_deployments_are_told_from_others() {
        for uri in [
            "mongodb://h",
            "mongodb://h/",
            "mongodb://h/shop",
            "mongodb://h:27017/shop?replicaSet=rs0&appName=a@b/c",
            "mongodb://a:27017,b:27018,[::1]:27019/shop",
            "mongodb://192.0.2.7,[::1]",
            "mongodb://user@h",
            "mongodb://us%40er:p%2Fw%25d!$&=*@h,i/admin",
            "mongodb+srv://user:pw@cluster0.example.net/shop?retryWrites=true",
            "mongodb://%2Ftmp%2Fmongodb-27017.sock/shop",
        ] {
            assert_eq!(check_mongodb(uri), Ok(()), "{uri}");
        }
        for (uri, part) in [
            ("h:27017", "is not mongodb://"),
            ("mongodb://", "an empty host"),
            ("mongodb:///shop", "an empty host"),
            ("mongodb://h,/shop", "an empty host"),
            ("mongodb://user:p@ss@h/", "percent-encoded"),
            ("mongodb://user:p:w@h/", "percent-encoded"),
            ("mongodb://user:p/w@h/", "percent-encoded"),
            ("mongodb://user:100%@h/", "percent-encoded"),
            ("mongodb://user:%ff@h/", "percent-encoded"),
            ("mongodb://h:99999/", "no number from 1 to 65535"),
            ("mongodb://a,b:0/", "no number from 1 to 65535"),
            ("mongodb://h:/", "no number from 1 to 65535"),
            ("mongodb://[::1]x/", "no number from 1 to 65535"),
            ("mongodb://[::1/", "no address of IPv6"),
            ("mongodb+srv://h:27017/", "has a port"),
            ("mongodb+srv://a,b/", "several hosts"),
            ("mongodb://h/a/b", "no database"),
            ("mongodb://h/a$b", "no database"),
        ] {
            let why = check_mongodb(uri).unwrap_err();
            assert!(why.contains(part), "{uri}: {why}");
        }
    }

    #[test]
    fn directories_are_told_from_addresses_of_nothing() {
        for address in [
            "lake",
            "/var/lake",
            "a:b",
            "file:///var/lake",
            "s3://bucket",
            "s3a://bucket/prefix",
            "az://container/prefix",
            "abfss://container@account.dfs.core.windows.net/prefix",
        ] {
            assert_eq!(check_directory(address), Ok(()), "{address}");
        }
        for (address, part) in [
            ("s4://x/y", "the unknown scheme `s4`"),
            ("S3://x/y", "the unknown scheme `S3`"),
            ("http://x/y", "the unknown scheme `http`"),
            ("s3:///prefix", "names no bucket"),
            ("s3://", "names no bucket"),
            ("file://host/x", "is no directory of this machine"),
        ] {
            let why = check_directory(address).unwrap_err();
            assert!(why.contains(part), "{address}: {why}");
        }
    }
}
