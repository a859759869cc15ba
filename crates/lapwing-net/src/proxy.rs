//! The PROXY protocol: what a proxy says first about the client that it connects for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// With which the second version begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// With which the first version begins.
const PREFIX: &[u8; 6] = b"PROXY ";
/// Bytes of a line of the first version, as its specification says.
const LINE_MAXIMUM: usize = 107;
/// Bytes behind the fixed part of the second version: addresses, and what else a proxy may say, which is skipped.
const V2_MAXIMUM: usize = 4096;
/// The fixed part.
const V2_FIXED: usize = 16;

/// Reads the header, however it is split.
#[derive(Debug, Default)]
pub(crate) struct ProxyReader {
    head: Vec<u8>,
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its bytes.
    length: usize,
    /// The client; `None` where the proxy speaks for itself, or does not know.
    client: Option<SocketAddr>,
}

/// What a connection of a proxy begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyFault {
    #[error("PROXY protocol: this listener takes connections from the proxies in proxy_protocol only")]
    NotListed,
    #[error(
        "PROXY protocol: the connection does not begin with its header; is the proxy configured to send it?"
    )]
    NoHeader,
    #[error("PROXY protocol: a malformed header")]
    Malformed,
    #[error("PROXY protocol: a header that is too long")]
    TooLong,
}

impl ProxyReader {
    /// Takes bytes in until the header is whole: then how many of these bytes belonged to it, and the client.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Option<(usize, Option<SocketAddr>)>, ProxyFault> {
        let have = self.head.len();
        let taken = bytes.len().min(V2_FIXED + V2_MAXIMUM - have);
        self.head.extend_from_slice(&bytes[..taken]);
        let header = parse(&self.head)?;
        Ok(header.map(|header| (header.length - have, header.client)))
    }
}

/// The header at the front of `bytes`, if it is whole.
fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyFault> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
    if begins(SIGNATURE) {
        version_2(bytes)
    } else if begins(PREFIX) {
        version_1(bytes)
    } else {
        Err(ProxyFault::NoHeader)
    }
}

fn version_1(bytes: &[u8]) -> Result<Option<Header>, ProxyFault> {
    let line = &bytes[..bytes.len().min(LINE_MAXIMUM)];
    let Some(end) = line.windows(2).position(|window| window == b"\r\n") else {
        return if bytes.len() < LINE_MAXIMUM { Ok(None) } else { Err(ProxyFault::TooLong) };
    };
    let text = std::str::from_utf8(&line[PREFIX.len()..end]).map_err(|_| ProxyFault::Malformed)?;
    let length = end + 2;
    let parts: Vec<_> = text.split(' ').collect();
    let client = match parts[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4", from, to, from_port, to_port] => Some(ends::<Ipv4Addr>(from, to, from_port, to_port)?),
        ["TCP6", from, to, from_port, to_port] => Some(ends::<Ipv6Addr>(from, to, from_port, to_port)?),
        _ => return Err(ProxyFault::Malformed),
    };
    Ok(Some(Header { length, client }))
}

fn ends<T: FromStr + Into<IpAddr>>(
    from: &str,
    to: &str,
    from_port: &str,
    to_port: &str,
) -> Result<SocketAddr, ProxyFault> {
    let address = |text: &str| text.parse::<T>().map_err(|_| ProxyFault::Malformed);
    // Neither a sign nor zeros in front.
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    address(to)?;
    port(to_port).ok_or(ProxyFault::Malformed)?;
    let ip = address(from)?.into().to_canonical();
    Ok(SocketAddr::new(ip, port(from_port).ok_or(ProxyFault::Malformed)?))
}

fn version_2(bytes: &[u8]) -> Result<Option<Header>, ProxyFault> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else { return Ok(None) };
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyFault::Malformed),
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_MAXIMUM {
        return Err(ProxyFault::TooLong);
    }
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let client = match fixed[13] {
        // For LOCAL, whatever else is said means nothing.
        _ if is_local => None,
        // Unspecified; Unix sockets, as streams and as datagrams, have no address that would mean anything here.
        0x00 | 0x31 | 0x32 => None,
        0x11 => {
            let (from, rest) = rest.split_first_chunk::<4>().ok_or(ProxyFault::Malformed)?;
            Some((IpAddr::from(*from), rest, 4))
        }
        0x21 => {
            let (from, rest) = rest.split_first_chunk::<16>().ok_or(ProxyFault::Malformed)?;
            Some((IpAddr::from(*from), rest, 16))
        }
        _ => return Err(ProxyFault::Malformed),
    };
    let client = match client {
        Some((ip, rest, size)) => {
            // Behind the address of the client are that of the proxy and the two ports.
            let ports = rest.get(size..size + 4).ok_or(ProxyFault::Malformed)?;
            Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes([ports[0], ports[1]])))
        }
        None => None,
    };
    Ok(Some(Header { length: V2_FIXED + length, client }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    /// What comes of bytes in pieces of this size: how many of them belong to the header, and the client.
    fn read(bytes: &[u8], size: usize) -> Result<Option<(usize, Option<SocketAddr>)>, ProxyFault> {
        let mut reader = ProxyReader::default();
        let mut before = 0;
        for piece in bytes.chunks(size) {
            if let Some((used, client)) = reader.read(piece)? {
                return Ok(Some((before + used, client)));
            }
            before += piece.len();
        }
        Ok(None)
    }

    fn headers() -> Vec<(Vec<u8>, Option<SocketAddr>)> {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..].copy_from_slice(&[0x12, 0x34, 0x07, 0x5b]);
        let with_more = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        vec![
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 1883\r\n".to_vec(), "203.0.113.7:4660".parse().ok()),
            (b"PROXY TCP6 2001:db8::7 ::1 4660 1883\r\n".to_vec(), "[2001:db8::7]:4660".parse().ok()),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN what ever is here\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), "203.0.113.7:4660".parse().ok()),
            (v2(0x21, 0x21, &v6), "[2001:db8::7]:4660".parse().ok()),
            (v2(0x21, 0x11, &with_more), "203.0.113.7:4660".parse().ok()),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x20, 0x00, b""), None),
            (v2(0x21, 0x00, b"more"), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn a_header_is_read_in_any_pieces_and_no_byte_of_what_follows() {
        for (header, client) in headers() {
            let bytes = [&header[..], b"\x10\x0cPROXY \r\n\r\n"].concat();
            for size in [1, 2, 7, 15, 16, 17, 1000] {
                assert_eq!(read(&bytes, size), Ok(Some((header.len(), client))), "{header:02x?} by {size}");
            }
            assert_eq!(read(&header[..header.len() - 1], 1), Ok(None));
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        let mut too_long = v2(0x21, 0x11, b"");
        too_long[14..].copy_from_slice(&4097_u16.to_be_bytes());
        for (bytes, fault) in [
            (&b"\x10\x0c\0\x04MQTT"[..], ProxyFault::NoHeader),
            (b"PROXIES", ProxyFault::NoHeader),
            (b"\r\n\r\n\0\r\nQUIX", ProxyFault::NoHeader),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660\r\n", ProxyFault::Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 1883 \r\n", ProxyFault::Malformed),
            (b"PROXY TCP4 203.0.113.7  4660 1883\r\n", ProxyFault::Malformed),
            (b"PROXY TCP4 ::1 ::1 4660 1883\r\n", ProxyFault::Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 04660 1883\r\n", ProxyFault::Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 +1 1883\r\n", ProxyFault::Malformed),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 1883\r\n", ProxyFault::Malformed),
            (b"PROXY UDP4 203.0.113.7 10.0.0.1 1 1883\r\n", ProxyFault::Malformed),
            (b"PROXY \xff\r\n", ProxyFault::Malformed),
            (long.as_bytes(), ProxyFault::TooLong),
            (&v2(0x22, 0x11, &[0; 12]), ProxyFault::Malformed),
            (&v2(0x11, 0x11, &[0; 12]), ProxyFault::Malformed),
            (&v2(0x21, 0x12, &[0; 12]), ProxyFault::Malformed),
            (&v2(0x21, 0x11, &[0; 11]), ProxyFault::Malformed),
            (&v2(0x21, 0x21, &[0; 35]), ProxyFault::Malformed),
            (&too_long, ProxyFault::TooLong),
        ] {
            assert_eq!(read(bytes, 1), Err(fault), "{bytes:02x?}");
            assert_eq!(read(bytes, 1000), Err(fault), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_the_same_in_any_pieces(
            which in 0_usize..11,
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            size in 1_usize..50,
        ) {
            let mut bytes = headers().swap_remove(which).0;
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.extend_from_slice(b"behind it");
            prop_assert_eq!(read(&bytes, size), read(&bytes, usize::MAX));
        }
    }
}
