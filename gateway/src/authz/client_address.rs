//! The address of the end user behind proxies.
//!
//! Each proxy appends the address of its own peer to `X-Forwarded-For`. Only the elements that trusted
//! proxies have appended are true; everything to the left of them may have been written by the end
//! user. So the list is read from the right, and only as far as trusted proxies wrote it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use policies::{
    address::{Grouping, Network, canonical},
    attributes::ClientAddress,
};

/// The name of the header with the list of addresses.
pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";

/// The network of one address.
const ALONE: Grouping = Grouping { ipv4_bits: 32, ipv6_bits: 128 };

/// Networks of which each address is one of a kind of peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Returns these networks.
    #[must_use]
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Returns whether there is no network.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether one of the networks contains the address, in whichever form it is written.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = ALONE.group(address);
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Returns the address of the end user of a request that `peer` sent with these lines of
/// `X-Forwarded-For`, which are one list in their order. `trusted` are the proxies.
///
/// An address is unknown if the peer is no trusted proxy, or sent no list. A list in which the peer
/// alone stands is also none: some proxies send their own address where they do not send that of the end
/// user. The loopback address is the exception, because proxy and end user can share it.
pub(crate) fn client_address<'l>(
    trusted: &Networks,
    peer: Option<IpAddr>,
    lines: impl DoubleEndedIterator<Item = &'l [u8]>,
) -> ClientAddress {
    let Some(peer) = peer.map(canonical).filter(|peer| trusted.contain(*peer)) else {
        return ClientAddress::Unknown;
    };
    let elements = lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let elements = elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    let mut last = None;
    for element in elements {
        let Some(address) = parse(element) else { return ClientAddress::Malformed };
        if !trusted.contain(address) {
            return ClientAddress::Known(address);
        }
        last = Some(address);
    }
    match last {
        Some(address) if address != peer || peer.is_loopback() => ClientAddress::Known(address),
        _ => ClientAddress::Unknown,
    }
}

/// Returns the address in an element of the list, which may have a port, and brackets around an IPv6
/// address.
fn parse(element: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(element).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => text.parse().ok().or_else(|| without_port(text))?,
    };
    Some(canonical(address))
}

/// Returns the address in `ADDRESS:PORT` or `[ADDRESS]:PORT`.
fn without_port(text: &str) -> Option<IpAddr> {
    if text.starts_with('[') {
        return text.parse::<SocketAddr>().ok().map(|address| address.ip());
    }
    let (address, port) = text.split_once(':')?;
    port.parse::<u16>().ok().filter(|_| !port.starts_with('+'))?;
    address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use policies::{address::Network, attributes::ClientAddress};
    use proptest::prelude::*;

    use super::{Networks, client_address};

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(texts.iter().map(|text| Network::parse(text).unwrap()).collect())
    }

    fn find(trusted: &[&str], peer: &str, lines: &[&str]) -> ClientAddress {
        let lines = lines.iter().map(|line| line.as_bytes());
        client_address(&networks(trusted), Some(peer.parse().unwrap()), lines)
    }

    fn known(address: &str) -> ClientAddress {
        ClientAddress::Known(address.parse().unwrap())
    }

    const PROXIES: [&str; 3] = ["10.0.0.0/8", "2001:db8:aa::/48", "127.0.0.1"];

    #[test]
    fn the_list_is_read_from_the_right_as_far_as_proxies_wrote_it() {
        for (peer, lines, expected) in [
            // One proxy, which appended or replaced the list.
            ("10.0.0.1", &["203.0.113.7"][..], known("203.0.113.7")),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.7"], known("203.0.113.7")),
            ("10.0.0.1", &["6.6.6.6,10.0.0.9 , 203.0.113.7"], known("203.0.113.7")),
            // A chain, with one line or several.
            ("10.0.0.1", &["6.6.6.6, 203.0.113.7, 10.0.0.2"], known("203.0.113.7")),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.7", "10.0.0.2"], known("203.0.113.7")),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.7", "10.0.0.2, 10.0.0.3"], known("203.0.113.7")),
            // Every address is a proxy: the left-most one.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], known("10.0.0.3")),
            ("127.0.0.1", &["127.0.0.1"], known("127.0.0.1")),
            // No list, or that of a proxy which sends its own address only.
            ("10.0.0.1", &[], ClientAddress::Unknown),
            ("10.0.0.1", &[""], ClientAddress::Unknown),
            ("10.0.0.1", &[" ,", ","], ClientAddress::Unknown),
            ("10.0.0.1", &["10.0.0.1"], ClientAddress::Unknown),
            // A peer that is no proxy.
            ("192.0.2.1", &["203.0.113.7"], ClientAddress::Unknown),
            // An element that is no address decides only where the search stops.
            ("10.0.0.1", &["unknown, 203.0.113.7"], known("203.0.113.7")),
            ("10.0.0.1", &["203.0.113.7, unknown, 10.0.0.2"], ClientAddress::Malformed),
            ("10.0.0.1", &["203.0.113.7, 10.0.0"], ClientAddress::Malformed),
        ] {
            assert_eq!(find(&PROXIES, peer, lines), expected, "{peer} {lines:?}");
        }
        let lines = ["203.0.113.7"].map(str::as_bytes);
        let unknown = client_address(&networks(&PROXIES), None, lines.into_iter());
        assert_eq!(unknown, ClientAddress::Unknown);
    }

    #[test]
    fn an_address_has_many_forms() {
        for (element, expected) in [
            ("203.0.113.7:5678", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:1", "203.0.113.7"),
            ("64:ff9b::203.0.113.7", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
        ] {
            assert_eq!(find(&PROXIES, "::ffff:10.0.0.1", &[element]), known(expected), "{element}");
            let chain = format!("{element}, 10.0.0.2:80, [2001:db8:aa::5]:443, ::ffff:10.0.0.3");
            assert_eq!(find(&PROXIES, "2001:db8:aa::1", &[&chain]), known(expected), "{element}");
        }
        for element in [
            "unknown",
            "_hidden",
            "203.0.113.7:",
            "203.0.113.7:+1",
            "203.0.113.7:65536",
            "203.0.113.7:x",
            "[203.0.113.7]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "2001:db8::g",
            "\"203.0.113.7\"",
            "203.0.113.7 203.0.113.8",
            "203.0.113.07",
            "\u{e9}",
        ] {
            assert_eq!(
                find(&PROXIES, "10.0.0.1", &[element]),
                ClientAddress::Malformed,
                "{element}"
            );
        }
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        // Few addresses, so that many are those of proxies.
        let v4 = (0u8..4, 0u8..4).prop_map(|(a, b)| IpAddr::V4(Ipv4Addr::new(10 + a, 0, 0, b)));
        let mapped = (0u8..4, 0u8..4)
            .prop_map(|(a, b)| IpAddr::V6(Ipv4Addr::new(10 + a, 0, 0, b).to_ipv6_mapped()));
        let v6 = (0u16..4).prop_map(|a| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, a, 0, 0, 0, 0, 1)));
        prop_oneof![v4, mapped, v6]
    }

    proptest! {
        /// However the list is cut into lines and whatever the end user has written to the left, the
        /// address is the last one that no proxy has.
        #[test]
        fn nothing_to_the_left_of_the_first_other_address_decides(
            forged in "[ -~]{0,40}",
            end_user in address(),
            chain in proptest::collection::vec((address(), any::<bool>(), any::<bool>()), 0..5),
        ) {
            let trusted = networks(&["10.0.0.0/8", "11.0.0.0/8", "2001:db8::/47"]);
            prop_assume!(!trusted.contain(end_user));
            let mut lines = vec![forged];
            let mut append = |address: IpAddr, has_port: bool, new_line: bool| {
                let text = match (address, has_port) {
                    (address, false) => address.to_string(),
                    (IpAddr::V4(v4), true) => format!("{v4}:80"),
                    (IpAddr::V6(v6), true) => format!("[{v6}]:80"),
                };
                match lines.last_mut() {
                    Some(line) if !new_line => *line = format!("{line}, {text}"),
                    _ => lines.push(text),
                }
            };
            append(end_user, false, false);
            for (proxy, has_port, new_line) in chain {
                if trusted.contain(proxy) {
                    append(proxy, has_port, new_line);
                }
            }
            let peer = "10.0.0.1".parse().unwrap();
            let found = client_address(&trusted, Some(peer), lines.iter().map(String::as_bytes));
            prop_assert_eq!(found, ClientAddress::Known(policies::address::canonical(end_user)));
        }

        #[test]
        fn no_bytes_panic(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let trusted = networks(&["0.0.0.0/0", "::/0"]);
            let peer = Some("10.0.0.1".parse().unwrap());
            client_address(&trusted, peer, lines.iter().map(Vec::as_slice));
        }
    }
}
