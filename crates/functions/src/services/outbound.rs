//! Where the requests of functions may go.
//!
//! The rules are about what a function names, so about `http` and `context.http`. The addresses of AWS, Twilio and
//! push notifications come from the configuration; they are the operator's, and not restricted.

mod resolve;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tributary_model::host::{HostPattern, Network};
use tributary_model::{Error, ErrorKind, Result};
use url::{Host, Url};

pub(super) use resolve::{GuardedResolver, SystemResolver};

/// The hosts that functions may ask.
///
/// Without a list, every host but those that are refused by default: this machine itself, link-local, unspecified
/// and multicast addresses, and those at which clouds tell a machine its credentials. Such an address is reached
/// only where a pattern names it or a network of nothing else. What a name resolves to is held to the same rules.
#[derive(Debug, Clone, Default)]
pub struct OutboundRules {
    /// Whether there is a list, be it empty.
    is_listed: bool,
    names: Vec<NamePattern>,
    networks: Vec<NetworkPattern>,
}

#[derive(Debug, Clone)]
struct NamePattern {
    name: String,
    /// Whether it is of the hosts below the name, not of the name itself.
    is_below: bool,
    port: Option<u16>,
}

#[derive(Debug, Clone)]
struct NetworkPattern {
    network: Network,
    /// Only where a URL names the address itself, as what names resolve to has no port.
    port: Option<u16>,
}

/// Why a request may not go where it was to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) host: String,
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    NotListed,
    ByDefault(&'static str),
    NoHost,
    Scheme,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match self.reason {
            Reason::NotListed => write!(
                f,
                "requests to {host} are not allowed; add it to the hosts that functions may ask"
            ),
            Reason::ByDefault(what) => write!(
                f,
                "requests to {host} are not allowed: it is {what}; where this is meant, add its address to the hosts that functions may ask"
            ),
            Reason::NoHost => write!(f, "the URL names no host"),
            Reason::Scheme => write!(f, "the scheme {host} is not allowed; use http or https"),
        }
    }
}

impl std::error::Error for Refused {}

/// What is refused unless it is named.
const REFUSED: [(&str, &str); 13] = [
    ("127.0.0.0/8", "this machine itself"),
    ("::1/128", "this machine itself"),
    ("0.0.0.0/8", "an unspecified address"),
    ("::/128", "an unspecified address"),
    ("169.254.0.0/16", "a link-local address"),
    ("fe80::/10", "a link-local address"),
    ("224.0.0.0/4", "a multicast address"),
    ("ff00::/8", "a multicast address"),
    ("255.255.255.255/32", "a broadcast address"),
    ("fd00:ec2::/32", "a cloud's metadata service"),
    ("fd20:ce::254/128", "a cloud's metadata service"),
    ("100.100.100.200/32", "a cloud's metadata service"),
    ("168.63.129.16/32", "a cloud's metadata service"),
];

/// The names of metadata services, which are refused whatever they resolve to.
const REFUSED_NAMES: [&str; 2] = ["metadata.google.internal", "metadata.goog"];

impl OutboundRules {
    /// The hosts of these patterns and no others, so none where there are no patterns.
    ///
    /// # Errors
    /// `Usage`: a pattern is none that [`HostPattern::parse`] reads.
    pub fn parse(patterns: &[String]) -> Result<Self> {
        let mut rules = Self {
            is_listed: true,
            ..Self::default()
        };
        for pattern in patterns {
            let parsed = HostPattern::parse(pattern.trim());
            match parsed.map_err(|reason| malformed(pattern, reason))? {
                HostPattern::Name {
                    name,
                    is_below,
                    port,
                } => rules.names.push(NamePattern {
                    name,
                    is_below,
                    port,
                }),
                HostPattern::Network { network, port } => {
                    rules.networks.push(NetworkPattern { network, port });
                }
            }
        }
        Ok(rules)
    }

    /// Whether a URL may be asked. For a name that is only half of it: [`permits`](Self::permits) is asked of each
    /// address that it resolves to.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        let refused = |host: String, reason| Err(Refused { host, reason });
        if !matches!(url.scheme(), "http" | "https") {
            return refused(url.scheme().to_owned(), Reason::Scheme);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let address = match url.host() {
            None => return refused(String::new(), Reason::NoHost),
            Some(Host::Domain(name)) => return self.check_name(name, port),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        let of_port = |pattern: &&NetworkPattern| pattern.port.is_none_or(|p| p == port);
        let networks: Vec<Network> = self
            .networks
            .iter()
            .filter(of_port)
            .map(|pattern| pattern.network)
            .collect();
        if let Some(what) = refused_by_default(address, &networks) {
            return refused(address.to_string(), Reason::ByDefault(what));
        }
        let is_listed = networks.iter().any(|network| network.contains(address));
        if is_listed || self.is_open() {
            return Ok(());
        }
        refused(format!("{address} at port {port}"), Reason::NotListed)
    }

    fn check_name(&self, name: &str, port: u16) -> Result<(), Refused> {
        let name = plain(name);
        let refused = |reason| {
            Err(Refused {
                host: match reason {
                    Reason::NotListed => format!("{name} at port {port}"),
                    _ => name.clone(),
                },
                reason,
            })
        };
        let is_named = |pattern: &NamePattern| !pattern.is_below && pattern.name == name;
        if REFUSED_NAMES.contains(&name.as_str()) && !self.names.iter().any(is_named) {
            return refused(Reason::ByDefault("a cloud's metadata service"));
        }
        let mut matching = self.names.iter().filter(|p| p.matches(&name)).peekable();
        let is_listed = if matching.peek().is_some() {
            matching.any(|pattern| pattern.port.is_none_or(|p| p == port))
        } else {
            self.is_open() || self.networks.iter().any(|pattern| pattern.port.is_none())
        };
        if is_listed {
            return Ok(());
        }
        refused(Reason::NotListed)
    }

    /// Whether a name may be asked at an address that it resolves to.
    fn permits(&self, name: &str, address: IpAddr) -> Result<(), Refused> {
        let name = plain(name);
        let refused = |reason| {
            Err(Refused {
                host: name.clone(),
                reason,
            })
        };
        let networks: Vec<Network> = self
            .networks
            .iter()
            .filter(|pattern| pattern.port.is_none())
            .map(|pattern| pattern.network)
            .collect();
        let is_named = self.names.iter().any(|pattern| pattern.matches(&name));
        if let Some(what) = refused_by_default(address, &networks) {
            // This one name means nothing else anywhere.
            let is_this_machine =
                name == "localhost" && is_named && address.to_canonical().is_loopback();
            if !is_this_machine {
                return refused(Reason::ByDefault(what));
            }
        }
        if is_named || self.is_open() || networks.iter().any(|n| n.contains(address)) {
            return Ok(());
        }
        refused(Reason::NotListed)
    }

    fn is_open(&self) -> bool {
        !self.is_listed
    }
}

impl NamePattern {
    fn matches(&self, name: &str) -> bool {
        if !self.is_below {
            return name == self.name;
        }
        name.strip_suffix(&self.name)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

/// What is refused of an address, or of one that it carries, unless a network of nothing else has it.
fn refused_by_default(address: IpAddr, networks: &[Network]) -> Option<&'static str> {
    let carried = carried(address).map(IpAddr::V4);
    [Some(address), carried]
        .into_iter()
        .flatten()
        .find_map(|address| {
            REFUSED.iter().find_map(|(range, what)| {
                let range = Network::parse(range).ok()??;
                let is_meant = |n: &&Network| n.contains(address) && n.is_within(range);
                let is_refused = range.contains(address) && !networks.iter().any(|n| is_meant(&n));
                is_refused.then_some(*what)
            })
        })
}

/// The IPv4 address that an IPv6 one leads to, by NAT64, 6to4 or the long gone compatible form.
fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let words = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match words {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if address != Ipv6Addr::LOCALHOST => Some(of(high, low)),
        _ => None,
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn malformed(pattern: &str, reason: &str) -> Error {
    Error::new(
        ErrorKind::Usage,
        format!("this is no host that functions may ask: {reason}"),
    )
    .on("host", pattern)
    .remedy("write it as api.example.com, *.example.com, 192.0.2.7 or 10.0.0.0/8, with `:port` if need be")
}

#[cfg(test)]
mod tests;
