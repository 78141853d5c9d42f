//! Which addresses of the network somebody else's code, or somebody else's URL, may lead to.
//!
//! The rule stands here once, for everything that connects on behalf of others: addresses that are reachable from
//! the whole Internet are, and nothing else is, unless a person has named it ([`HostRule`]). It judges addresses,
//! never names: a name says nothing about where it leads, and leads somewhere else the next time.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Special ranges of IPv4 (RFC 6890 and its registry) that do not lead to the public Internet.
const PRIVATE_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network; 0.0.0.0 is this machine
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared: carriers, and clouds' own services
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local: clouds' metadata
    (Ipv4Addr::new(168, 63, 129, 16), 32), // public by number, yet the services of an Azure host
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments: clouds' metadata among them
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, and broadcast
];

/// What is not public of 2000::/3; outside of that nothing is.
const PRIVATE_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, ORCHID, benchmarks
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: carries any IPv4 address
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// The well-known prefix of NAT64; an IPv4 address follows.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address belongs to the public Internet.
///
/// Addresses that carry an IPv4 address count as what they carry (mapped, NAT64), or not at all (6to4, Teredo,
/// IPv4-compatible).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !PRIVATE_V4.iter().any(|range| within_v4(address, *range)),
        IpAddr::V6(address) if within_v6(address, NAT64) => {
            let [.., a, b, c, d] = address.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => {
            within_v6(address, GLOBAL_UNICAST) && !PRIVATE_V6.iter().any(|range| within_v6(address, *range))
        }
    }
}

fn within_v4(address: Ipv4Addr, (network, bits): (Ipv4Addr, u8)) -> bool {
    let differing = address.to_bits() ^ network.to_bits();
    differing.leading_zeros() >= bits.into()
}

fn within_v6(address: Ipv6Addr, (network, bits): (Ipv6Addr, u8)) -> bool {
    let differing = address.to_bits() ^ network.to_bits();
    differing.leading_zeros() >= bits.into()
}

/// What may be reached although it is not public: `media.internal`, `10.0.0.5:9000`, `10.1.0.0/16`, `[fd00::5]:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    host: Host,
    /// Any when absent.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// A name, in small letters; wherever it leads.
    Name(String),
    Network(IpAddr, u8),
}

/// A text that is no [`HostRule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoHostRule(String);

impl fmt::Display for NoHostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is neither a host, an address nor a network: write media.internal, 10.0.0.5:9000, [fd00::5]:9000 or 10.1.0.0/16",
            self.0
        )
    }
}

impl std::error::Error for NoHostRule {}

impl FromStr for HostRule {
    type Err = NoHostRule;

    fn from_str(text: &str) -> Result<Self, NoHostRule> {
        let refused = || NoHostRule(text.to_owned());
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| refused())?;
            let bits = bits.parse().map_err(|_| refused())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most)
                .then_some(Self { host: Host::Network(address, bits), port: None })
                .ok_or_else(refused);
        }
        let single = |address: IpAddr| Host::Network(address, if address.is_ipv4() { 32 } else { 128 });
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: single(address), port: None });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: single(address.ip()), port: Some(address.port()) });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| refused())?)),
            None => (text, None),
        };
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        // Numbers alone would be an address in one of its odd spellings, and never match as a name.
        let is_name = name.bytes().all(letters) && name.bytes().any(|byte| byte.is_ascii_alphabetic());
        is_name.then(|| Self { host: Host::Name(plain(name)), port }).ok_or_else(refused)
    }
}

impl HostRule {
    /// Whether it allows `address`, to which `name` has led, at `port`.
    #[must_use]
    pub fn allows(&self, name: &str, address: IpAddr, port: u16) -> bool {
        let host = match (&self.host, address.to_canonical()) {
            (Host::Name(allowed), _) => *allowed == plain(name),
            (Host::Network(IpAddr::V4(network), bits), IpAddr::V4(address)) => {
                within_v4(address, (*network, *bits))
            }
            (Host::Network(IpAddr::V6(network), bits), IpAddr::V6(address)) => {
                within_v6(address, (*network, *bits))
            }
            (Host::Network(..), _) => false,
        };
        host && self.port.is_none_or(|allowed| allowed == port)
    }
}

/// A name as it is compared: in small letters, without the dot that may end it.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(address: &str) -> bool {
        is_public(address.parse().unwrap())
    }

    #[test]
    fn both_ends_of_every_special_range_are_private_and_their_neighbours_are_public() {
        for (first, last, before, after) in [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
            ("168.63.129.16", "168.63.129.16", Some("168.63.129.15"), Some("168.63.129.17")),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0", "255.255.255.255", Some("223.255.255.255"), None),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Some("2000:ffff::"), Some("2001:200::")),
            ("2001:db8::", "2001:db8:ffff::1", Some("2001:db7:ffff::"), Some("2001:db9::")),
            ("2002::", "2002:ffff::1", Some("2001:ffff::"), Some("2003::")),
            ("3fff::", "3fff:fff:ffff::1", Some("3ffe:ffff::"), Some("3fff:1000::")),
        ] {
            for address in [first, last] {
                assert!(!public(address), "{address}");
                if let Ok(v4) = address.parse::<Ipv4Addr>() {
                    let [a, b, c, d] = v4.octets();
                    assert!(!public(&format!("::ffff:{v4}")), "mapped {address}");
                    assert!(!public(&format!("64:ff9b::{v4}")), "NAT64 {address}");
                    assert!(!public(&format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1")), "6to4 {address}");
                }
            }
            for address in before.into_iter().chain(after) {
                assert!(public(address), "{address}");
            }
        }
    }

    #[test]
    fn of_ipv6_only_global_unicast_is_public() {
        for address in [
            "::",
            "::1",
            "::7f00:1",            // IPv4-compatible
            "64:ff9b:1::808:808",  // NAT64 of a network of its own
            "64:ff9b::1:808:808",  // not the well-known prefix
            "100::1",              // discarded
            "2001:0:4136:e378::1", // Teredo
            "2001:2::1",           // benchmarks
            "2001:10::1",          // ORCHID
            "2001:20::1",          // ORCHIDv2
            "4000::1",
            "5f00::1", // segment routing
            "fc00::1",
            "fd00:ec2::254", // a cloud's metadata
            "fe80::1",
            "fec0::1", // site-local, long gone
            "ff02::1",
        ] {
            assert!(!public(address), "{address}");
        }
        for address in ["2606:4700:4700::1111", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"] {
            assert!(public(address), "{address}");
        }
    }

    fn allows(rule: &str, name: &str, address: &str, port: u16) -> bool {
        rule.parse::<HostRule>().unwrap().allows(name, address.parse().unwrap(), port)
    }

    #[test]
    fn a_rule_allows_a_name_an_address_or_a_network_at_one_port_or_any() {
        assert!(allows("media.internal", "Media.Internal.", "10.0.0.5", 80));
        assert!(!allows("media.internal", "evil.media.internal", "10.0.0.5", 80));
        assert!(allows("media.internal:80", "media.internal", "10.0.0.5", 80));
        assert!(!allows("media.internal:80", "media.internal", "10.0.0.5", 81));
        assert!(allows("10.0.0.5:9000", "anything.example", "10.0.0.5", 9000));
        assert!(!allows("10.0.0.5:9000", "10.0.0.5", "10.0.0.5", 9001));
        assert!(allows("10.0.0.5", "10.0.0.5", "::ffff:10.0.0.5", 1));
        assert!(allows("10.1.0.0/16", "x", "10.1.255.255", 1) && !allows("10.1.0.0/16", "x", "10.2.0.0", 1));
        assert!(allows("0.0.0.0/0", "x", "127.0.0.1", 1) && !allows("0.0.0.0/0", "x", "::1", 1));
        assert!(allows("[fd00::5]:9000", "x", "fd00::5", 9000) && !allows("fd00::/8", "x", "fe00::", 1));
    }

    #[test]
    fn what_is_no_rule_is_refused_and_says_what_one_looks_like() {
        for text in
            ["", "http://a", "a b", "10.0.0.0/33", "fd00::/129", "a:port", "10.0.0.5:", "2130706433", "*"]
        {
            let refused = text.parse::<HostRule>().unwrap_err().to_string();
            assert!(refused.contains("10.0.0.5:9000"), "{text}: {refused}");
        }
    }
}
