//! Entry points for fuzzing: each takes arbitrary bytes and panics if something does not hold.
//!
//! The targets in `fuzz/` call them, and so do property tests.

use crate::proxy::ProxyReader;
use crate::websocket::{WebSocketFault, WebSocketSession, opening};

/// Reads bytes as what a client sends over a WebSocket that is open, in one piece and in small ones: both must come to the
/// same bytes of MQTT and the same end.
pub fn websocket_frames(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let bytes = [&opening()[..], data].concat();
    let whole = read(&bytes, bytes.len());
    assert_eq!(whole, read(&bytes, usize::from(size) + 1));
    assert!(whole.payload.len() <= data.len());
}

/// Reads bytes as the request that a WebSocket begins with, in one piece and in small ones: both must come to the same
/// answer, which has one status line.
pub fn websocket_request(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let whole = read(data, data.len());
    assert_eq!(whole, read(data, usize::from(size) + 1));
    if let Some(end) = whole.reply.windows(2).position(|window| window == b"\r\n") {
        assert!(whole.reply[..end].starts_with(b"HTTP/1.1 "));
        // What comes behind a request that is granted may be at fault as well.
        assert!(whole.reply.starts_with(b"HTTP/1.1 101 ") || whole.fault.is_some());
    }
}

/// Reads bytes as what a proxy sends first, in one piece and in small ones: both must come to the same.
pub fn proxy_header(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let read = |size: usize| {
        let (mut reader, mut before) = (ProxyReader::default(), 0);
        for piece in data.chunks(size) {
            match reader.read(piece) {
                Ok(None) => before += piece.len(),
                Ok(Some((used, client))) => return Ok(Some((before + used, client))),
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(usize::from(size) + 1));
    if let Ok(Some((length, _))) = whole {
        assert!(length <= data.len());
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    payload: Vec<u8>,
    /// Without pongs, of which there are as many as there are pieces with pings.
    reply: Vec<u8>,
    fault: Option<String>,
}

fn read(bytes: &[u8], size: usize) -> Outcome {
    let mut session = WebSocketSession::new("/mqtt".into(), std::sync::Arc::default());
    let mut outcome = Outcome { payload: Vec::new(), reply: Vec::new(), fault: None };
    // Behind the last piece an empty one: a fault comes after what was before it.
    for piece in bytes.chunks(size.max(1)).chain([&[][..]]) {
        let mut piece = piece.to_vec();
        let result: Result<usize, WebSocketFault> = session.process(&mut piece);
        if outcome.reply.is_empty() {
            outcome.reply = session.take_reply();
            // Behind an answer that lets the client in there may be pongs already, or the end.
            if let Some(end) = outcome.reply.windows(4).position(|window| window == b"\r\n\r\n") {
                let is_open = outcome.reply.starts_with(b"HTTP/1.1 101 ");
                outcome.reply.truncate(if is_open { end + 4 } else { outcome.reply.len() });
            }
        }
        match result {
            Ok(count) => outcome.payload.extend_from_slice(&piece[..count]),
            Err(fault) => {
                outcome.fault = Some(fault.to_string());
                break;
            }
        }
        if session.has_ended() {
            break;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames and headers with a fault somewhere, so that not all ends at the first byte.
    fn nearly(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
        let change = (any::<prop::sample::Index>(), any::<u8>());
        (any::<u8>(), prop::collection::vec(change, 0..3), prop::collection::vec(any::<u8>(), 0..50))
            .prop_map(move |(size, changes, more)| {
                let mut changed = bytes.clone();
                for (at, byte) in changes {
                    let at = at.index(changed.len());
                    changed[at] = byte;
                }
                [&[size][..], &changed, &more].concat()
            })
    }

    fn frames() -> Vec<u8> {
        let masked =
            |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
        [
            masked(2, b"one"),
            masked(0x89, b"ping"),
            masked(0x80, b"two"),
            masked(0x82, b"three"),
            masked(0x88, &[3, 232]),
        ]
        .concat()
    }

    proptest! {
        #[test]
        fn frames_hold(data in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly(frames())]) {
            websocket_frames(&data);
        }

        #[test]
        fn requests_hold(data in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly(opening())]) {
            websocket_request(&data);
        }

        // [attack: proxy-header]
        #[test]
        fn headers_hold(
            data in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                nearly(b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 1883\r\n".to_vec()),
                nearly(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x34\x07\x5b".to_vec()),
            ]
        ) {
            proxy_header(&data);
        }
    }
}
