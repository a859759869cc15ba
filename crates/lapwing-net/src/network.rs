use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses with the same beginning: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The first of them.
    first: IpAddr,
    /// Bits that all of them begin with.
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor one with a length.
    #[error("'{0}' is neither an address nor a network; write 10.1.2.3, 10.0.0.0/8 or fd00::/8")]
    Text(String),
    /// Something is set behind the length.
    #[error("'{0}' has bits set behind its length; did you mean {1}?")]
    Bits(String, Network),
}

impl Network {
    /// Whether an address is one of them. An IPv4 address is one also where it is written as IPv6.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && Self::around(address, self.prefix) == self
    }

    /// The household of an address, as far as that can be told from outside: the address itself, and with IPv6 the network of 64
    /// bits, in which everybody has as many addresses as they like.
    pub fn household(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::from(IpAddr::V4(address)),
            IpAddr::V6(address) => Self::around(address.into(), 64),
        }
    }

    /// The addresses that have so many bits in common with this one.
    fn around(address: IpAddr, prefix: u8) -> Self {
        let first = match address {
            IpAddr::V4(address) => {
                let rest = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & !rest).into()
            }
            IpAddr::V6(address) => {
                let rest = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & !rest).into()
            }
        };
        Self { first, prefix }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let first = address.to_canonical();
        Self { first, prefix: longest(first) }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError::Text(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let Some(prefix) = prefix else { return Ok(address.into()) };
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|&prefix| is_number && prefix <= longest(address));
        let network = Self::around(address, prefix.ok_or_else(wrong)?);
        if network.first == address { Ok(network) } else { Err(NetworkError::Bits(text.to_owned(), network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, prefix } = self;
        if *prefix == longest(*first) { write!(f, "{first}") } else { write!(f, "{first}/{prefix}") }
    }
}

fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", &["10.255.0.1", "::ffff:10.1.2.3"][..], &["11.0.0.0", "::a00:1", "a00::"][..]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6"]),
            ("::ffff:192.0.2.7", &["192.0.2.7"], &["192.0.2.6"]),
            ("0.0.0.0/0", &["255.255.255.255"], &["::1"]),
            ("2001:db8::/33", &["2001:db8:7fff::1"], &["2001:db8:8000::1"]),
            ("fd00::/8", &["fd12::1"], &["fe00::", "253.0.0.0"]),
            ("::/0", &["2001::"], &["1.2.3.4", "::ffff:1.2.3.4"]),
            ("::1", &["::1"], &["::2"]),
        ] {
            let own: Network = network.parse().unwrap();
            let contains = |text: &&&str| own.contains(text.parse().unwrap());
            assert_eq!(inside.iter().find(|text| !contains(text)), None, "{network} lacks");
            assert_eq!(outside.iter().find(contains), None, "{network} has");
        }
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for text in ["10.1.2.3", "10.1.0.0/16", "0.0.0.0/0", "::1", "fd00::/16", "::/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3/32".parse::<Network>().unwrap().to_string(), "10.1.2.3");
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_reason() {
        for text in [
            "",
            "10",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "host",
            "::1/129",
        ] {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Text(_))), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Network>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean 10.0.0.0/8?"), "{error}");
        assert!("fd12::1/8".parse::<Network>().unwrap_err().to_string().contains("fd00::/8"));
    }

    #[test]
    fn a_household_is_an_address_or_a_network_of_64_bits() {
        let household = |text: &str| Network::household(text.parse().unwrap()).to_string();
        assert_eq!(household("10.1.2.3"), "10.1.2.3");
        assert_eq!(household("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(household("2001:db8::1:2:3:4"), "2001:db8::/64");
    }
}
