//! Addresses of clients and networks: one form each, however an address was written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The number of bits of an IPv4 address.
const IPV4_BITS: u8 = 32;
/// The number of bits of an IPv6 address.
const IPV6_BITS: u8 = 128;
/// NAT64 (RFC 6052): the last 32 bits are the IPv4 address.
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000_0000_0000;

/// Returns the IPv4 address of a client that an IPv4-mapped or NAT64 address stands for, and any
/// other address as it is.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let bits = v6.to_bits();
    if bits & !u128::from(u32::MAX) == NAT64 {
        return IpAddr::V4(Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32));
    }
    address
}

/// A network: the addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The first address of the network.
    first: IpAddr,
    /// The number of bits that all addresses share.
    bits: u8,
}

/// The faults of a network as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// The text is neither an address nor a network.
    Malformed,
    /// The address has bits behind the network's own.
    HostBits(Network),
}

impl Network {
    /// Returns the network of `address` with the given number of bits, at most all.
    #[must_use]
    pub fn of(address: IpAddr, bits: u8) -> Self {
        match canonical(address) {
            IpAddr::V4(v4) => {
                let bits = bits.min(IPV4_BITS);
                let mask = u32::MAX.checked_shl(u32::from(IPV4_BITS - bits)).unwrap_or(0);
                Self { first: IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)), bits }
            }
            IpAddr::V6(v6) => {
                let bits = bits.min(IPV6_BITS);
                let mask = u128::MAX.checked_shl(u32::from(IPV6_BITS - bits)).unwrap_or(0);
                Self { first: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)), bits }
            }
        }
    }

    /// Returns the network that `text` describes: an address, or an address and its bits.
    ///
    /// # Errors
    ///
    /// A [`NetworkError`] where the text is not a network.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
        let canonical = canonical(address);
        let most = if address.is_ipv4() { IPV4_BITS } else { IPV6_BITS };
        let bits = match bits {
            None => most,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or(NetworkError::Malformed)?
            }
            Some(_) => return Err(NetworkError::Malformed),
        };
        let bits = if address.is_ipv6() && canonical.is_ipv4() {
            // 96 bits mean that the address is mapped; a wider network is not a network of IPv4.
            bits.checked_sub(IPV6_BITS - IPV4_BITS).ok_or(NetworkError::Malformed)?
        } else {
            bits
        };
        let network = Self::of(canonical, bits);
        if network.first == canonical { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }

    /// Returns whether every address of `other` is in this network.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && self.bits <= other.bits
            && Self::of(other.first, self.bits).first == self.first
    }

    /// Returns the number of bits that all addresses share.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Returns the first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// Returns whether the network is one of IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Returns the bits as text, after a letter for the version: a network contains another exactly
    /// if its text is a prefix of the other's.
    pub(crate) fn bit_text(&self) -> Vec<u8> {
        let (version, bits) = match self.first {
            IpAddr::V4(v4) => (b'4', u128::from(v4.to_bits()) << (IPV6_BITS - IPV4_BITS)),
            IpAddr::V6(v6) => (b'6', v6.to_bits()),
        };
        let mut text = Vec::with_capacity(usize::from(self.bits) + 1);
        text.push(version);
        text.extend(
            (0..self.bits).map(|bit| b'0' + u8::from(bits >> (IPV6_BITS - 1 - bit) & 1 == 1)),
        );
        text
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.is_ipv4() { IPV4_BITS } else { IPV6_BITS };
        if self.bits == most {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.bits)
        }
    }
}

/// The numbers of bits by which addresses are grouped to one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grouping {
    /// The bits of an IPv4 address.
    pub ipv4_bits: u8,
    /// The bits of an IPv6 address.
    pub ipv6_bits: u8,
}

impl Default for Grouping {
    /// One IPv4 address, and the /64 that one IPv6 client can use.
    fn default() -> Self {
        Self { ipv4_bits: IPV4_BITS, ipv6_bits: 64 }
    }
}

impl Grouping {
    /// Returns the grouping that `V4/V6` describes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ipv4, ipv6) = text.split_once('/')?;
        let bits = |text: &str, most: u8| {
            let digits = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u8>().ok().filter(|bits| digits && (1..=most).contains(bits))
        };
        Some(Self { ipv4_bits: bits(ipv4, IPV4_BITS)?, ipv6_bits: bits(ipv6, IPV6_BITS)? })
    }

    /// Returns the group of an address.
    #[must_use]
    pub fn group(self, address: IpAddr) -> Network {
        let address = canonical(address);
        let bits = if address.is_ipv4() { self.ipv4_bits } else { self.ipv6_bits };
        Network::of(address, bits)
    }

    /// Returns the bits of the groups among which `network` is, or in which it lies.
    #[must_use]
    pub const fn bits_for(self, network: &Network) -> u8 {
        if network.is_ipv4() { self.ipv4_bits } else { self.ipv6_bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(address: &str, grouping: Grouping) -> String {
        grouping.group(address.parse().unwrap()).to_string()
    }

    #[test]
    fn an_ipv4_client_is_one_identity_however_its_address_arrives() {
        for address in ["203.0.113.7", "::ffff:203.0.113.7", "64:ff9b::203.0.113.7"] {
            assert_eq!(group(address, Grouping::default()), "203.0.113.7");
        }
        let grouping = Grouping::parse("24/56").unwrap();
        assert_eq!(group("::ffff:203.0.113.7", grouping), "203.0.113.0/24");
    }

    #[test]
    fn an_ipv6_client_is_one_identity_with_all_its_addresses() {
        assert_eq!(group("2001:db8:1:2::5", Grouping::default()), "2001:db8:1:2::/64");
        let grouping = Grouping::parse("24/56").unwrap();
        assert_eq!(group("2001:db8:1:2ff::5", grouping), "2001:db8:1:200::/56");
        assert_eq!(group("2001:db8::5", Grouping::parse("32/128").unwrap()), "2001:db8::5");
    }

    #[test]
    fn a_grouping_is_two_numbers_of_bits() {
        for text in ["24", "24,56", "0/56", "33/56", "24/129", "24/", "+4/56", "24/056x"] {
            assert_eq!(Grouping::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_network_is_written_without_bits_behind_its_own() {
        for (text, form) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), form);
        }
        for text in
            ["10.0.0/8", "10.0.0.0/33", "10.0.0.0/", "::ffff:0.0.0.0/95", "a", "10.0.0.0/+8"]
        {
            assert_eq!(Network::parse(text), Err(NetworkError::Malformed), "{text}");
        }
        let network = Network::parse("10.0.0.0/8").unwrap();
        assert_eq!(Network::parse("10.0.0.1/8"), Err(NetworkError::HostBits(network)));
    }

    proptest::proptest! {
        #[test]
        fn a_network_contains_another_exactly_if_its_bit_text_is_a_prefix(
            a: u32, b: u32, shared in 0u8..=32, bits_a in 0u8..=32, bits_b in 0u8..=32, v6: bool,
        ) {
            let mask = u32::MAX.checked_shl(u32::from(32 - shared)).unwrap_or(0);
            let b = (a & mask) | (b & !mask);
            let address = |bits: u32| -> IpAddr {
                if v6 { Ipv6Addr::from_bits(u128::from(bits) << 96).into() }
                else { Ipv4Addr::from_bits(bits).into() }
            };
            let (a, b) = (Network::of(address(a), bits_a), Network::of(address(b), bits_b));
            proptest::prop_assert_eq!(a.contains(&b), b.bit_text().starts_with(&a.bit_text()));
        }
    }
}
