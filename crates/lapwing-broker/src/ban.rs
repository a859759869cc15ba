//! Who is kept out, and for how long.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// Whom a ban keeps out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BanTarget {
    /// Whoever comes from one of these addresses. Their connections are closed unread.
    Address(AddressRange),
    /// Who uses this client identifier.
    ClientId(String),
    /// Who names this user, with whatever password.
    User(String),
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Whom it keeps out.
    pub target: BanTarget,
    /// Why, for people.
    pub reason: String,
    /// When it ends; `None` for never.
    pub until: Option<SystemTime>,
    /// Whether the broker has made it by itself.
    pub is_automatic: bool,
}

/// Addresses that begin alike, written `10.1.0.0/16` or `fd00::/8`; one address without the `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// A text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no address; write 10.1.2.3, 10.1.0.0/16, fd00::1 or fd00::/8")]
pub struct AddressRangeError(String);

impl AddressRange {
    /// Whether an address is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::masked(address.to_canonical(), self.bits).is_some_and(|masked| masked == self.first)
    }

    /// The first of those that have as many bits in common with `address`; `None` if it has not so many.
    fn masked(address: IpAddr, bits: u8) -> Option<IpAddr> {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits.into())?).unwrap_or(0);
                Some(Ipv4Addr::from_bits(address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits.into())?).unwrap_or(0);
                Some(Ipv6Addr::from_bits(address.to_bits() & mask).into())
            }
        }
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        let first = address.to_canonical();
        Self { first, bits: if first.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        let error = || AddressRangeError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let range = Self::from(address.parse::<IpAddr>().map_err(|_| error())?);
        let Some(bits) = bits else { return Ok(range) };
        let bits = bits.parse().ok().filter(|&bits| bits <= range.bits).ok_or_else(error)?;
        let first = Self::masked(range.first, bits).ok_or_else(error)?;
        Ok(Self { first, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, bits } = self;
        if *bits == Self::from(*first).bits { write!(f, "{first}") } else { write!(f, "{first}/{bits}") }
    }
}

impl Ban {
    /// One that an administrator makes, from now on.
    pub fn new(target: BanTarget, reason: impl Into<String>, lasts: Option<Duration>) -> Self {
        let until = lasts.and_then(|lasts| SystemTime::now().checked_add(lasts));
        Self { target, reason: reason.into(), until, is_automatic: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for (text, written) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::1", "::1"),
            ("fd00:1::2/16", "fd00::/16"),
            ("::/0", "::/0"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
        ] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), written, "{text}");
        }
        for text in
            ["", "10.1.2", "10.1.2.3/33", "10.1.2.3/", "10.1.2.3/-1", "::1/129", "host", "::ffff:1.2.3.4/40"]
        {
            let error = text.parse::<AddressRange>().unwrap_err().to_string();
            assert!(error.contains("10.1.0.0/16"), "{error}");
        }
    }

    #[test]
    fn a_range_has_the_addresses_that_begin_so() {
        let is_in = |range: &str, address: &str| {
            range.parse::<AddressRange>().unwrap().contains(address.parse().unwrap())
        };
        assert!(is_in("10.1.0.0/16", "10.1.255.255") && !is_in("10.1.0.0/16", "10.2.0.0"));
        assert!(is_in("10.1.0.0/16", "::ffff:10.1.0.1"), "an IPv4 address, written as IPv6");
        assert!(is_in("0.0.0.0/0", "255.0.0.1") && !is_in("0.0.0.0/0", "fd00::1"));
        assert!(is_in("fd00::/8", "fdff::1") && !is_in("fd00::/8", "fe00::1") && !is_in("::/0", "1.2.3.4"));
        assert!(is_in("10.1.2.3", "10.1.2.3") && !is_in("10.1.2.3", "10.1.2.4"));
    }
}
