//! Patterns of hosts: names, all names below one, addresses and networks.

use std::net::IpAddr;

use url::Host;

/// Hosts that are meant, by one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// A host by its name (`api.example.com`), or all hosts below one (`*.example.com`).
    Name {
        /// As URLs have it: in lower case, and names beyond ASCII in their ASCII form.
        name: String,
        /// Whether it is of the hosts below the name, not of the name itself.
        is_below: bool,
        /// The port that is meant, where it is not every one.
        port: Option<u16>,
    },
    /// An address (`192.0.2.7`) or a network (`10.0.0.0/8`).
    Network {
        /// Its addresses.
        network: Network,
        /// The port that is meant, where it is not every one. Networks that are written as such have none.
        port: Option<u16>,
    },
}

/// Addresses that begin in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl HostPattern {
    /// Reads a pattern: a host (`api.example.com`), all hosts below one (`*.example.com`), an address or a network
    /// (`10.0.0.0/8`), each but networks with a port if need be (`api.example.com:8443`, `[::1]:80`).
    ///
    /// # Errors
    /// Why it is none of these.
    pub fn parse(pattern: &str) -> Result<Self, &'static str> {
        if let Some(network) = Network::parse(pattern)? {
            let port = None;
            return Ok(Self::Network { network, port });
        }
        let (host, port) = match pattern.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (
                    host,
                    Some(port.ok_or("its port is no number from 1 to 65535")?),
                )
            }
            None => (pattern, None),
        };
        if let Some(network) = Network::parse(host)? {
            if host.contains('/') {
                return Err("a network has no port");
            }
            return Ok(Self::Network { network, port });
        }
        let (name, is_below) = match host.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (host, false),
        };
        match Host::parse(name) {
            Ok(Host::Domain(name)) if !name.contains('*') => Ok(Self::Name {
                name: name.trim_end_matches('.').to_owned(),
                is_below,
                port,
            }),
            _ => Err("it is no host, address or network"),
        }
    }
}

impl Network {
    /// Reads an address or a network; none where it is no address.
    ///
    /// # Errors
    /// It is an address with bits that it cannot have.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let unwrapped = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let Ok(address) = unwrapped.unwrap_or(address).parse::<IpAddr>() else {
            return match bits {
                Some(_) => Err("it is no network, such as 10.0.0.0/8"),
                None => Ok(None),
            };
        };
        let address = if bits.is_none() {
            address.to_canonical()
        } else {
            address
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most),
            None => Some(most),
        };
        let bits = bits.ok_or("its network is larger than addresses are")?;
        Ok(Some(Self { address, bits }))
    }

    /// Whether an address is in it. An IPv4 address written as an IPv6 one is that address.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.bits))
                    .unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }

    /// Whether all of its addresses are in another one.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        self.bits >= other.bits && other.contains(self.address)
    }
}
