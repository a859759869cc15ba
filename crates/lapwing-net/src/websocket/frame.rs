//! Frames: their headers, their masks, and which may follow which.

/// Bytes of a header: two, a length of up to eight, and a mask.
const HEADER_MAXIMUM: usize = 14;
/// Bytes of a control frame's payload.
const CONTROL_MAXIMUM: u64 = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Which end of a connection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Frames come from a client, and are masked.
    Server,
    /// Frames come from a server, and are not.
    Client,
}

/// Takes frames apart, however the bytes are split.
#[derive(Debug)]
pub(super) struct FrameReader {
    role: Role,
    opcode: u8,
    /// Whether a message is under way of which more frames come.
    is_fragmented: bool,
    header_length: u8,
    header: [u8; HEADER_MAXIMUM],
    /// The mask, turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
    /// Bytes of the payload that are still to come.
    remaining: u64,
    /// Of a control frame whose payload has not all arrived.
    control: Vec<u8>,
    has_closed: bool,
    /// Why nothing more is taken.
    fault: Option<FrameFault>,
}

/// What was in some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Intake {
    /// Bytes of messages, which are at the front now.
    pub(super) count: usize,
    /// Of the last ping: what the pong is to repeat.
    pub(super) ping: Option<Vec<u8>>,
    /// The peer has closed, with this code if it gave one. Nothing that comes later means anything.
    pub(super) close: Option<Option<u16>>,
}

/// Why frames are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameFault {
    #[error("a text frame, and MQTT comes in binary frames")]
    Text,
    #[error("a reserved bit is set")]
    Reserved,
    #[error("an opcode that there is not")]
    Opcode,
    #[error("a frame of a client without a mask, or of a server with one")]
    Mask,
    #[error("a control frame that is fragmented or longer than 125 bytes")]
    Control,
    #[error("a frame that continues nothing, or a new message within another one")]
    Continuation,
    #[error("a length that is not written in the shortest way, or too large")]
    Length,
    #[error("a close frame with half a code, or with a code that must not be sent")]
    Close,
}

impl FrameFault {
    /// The code of the close frame that tells the peer.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Text => 1003, // [MQTT-6.0.0-1]
            _ => 1002,
        }
    }
}

impl FrameReader {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            opcode: CONTINUATION,
            is_fragmented: false,
            header_length: 0,
            header: [0; HEADER_MAXIMUM],
            mask: [0; 4],
            remaining: 0,
            control: Vec::new(),
            has_closed: false,
            fault: None,
        }
    }

    /// Whether the next call gives an error.
    pub(super) fn is_failing(&self) -> bool {
        self.fault.is_some()
    }

    /// Takes frames, or parts of them, and moves what they carry to the front of `bytes`. What came before a fault is
    /// given first, so that it does not matter whether they came together.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<Intake, FrameFault> {
        let mut intake = Intake::default();
        let mut at = 0;
        while at < bytes.len() && !self.has_closed && self.fault.is_none() {
            if self.is_between() {
                take_plain(bytes, &mut at, &mut intake.count);
                if at == bytes.len() {
                    break;
                }
            }
            if let Err(fault) = self.take(bytes, &mut at, &mut intake) {
                self.fault = Some(fault);
            }
        }
        match self.fault {
            Some(fault) if intake == Intake::default() => Err(fault),
            _ => Ok(intake),
        }
    }

    /// Whether a client's message of its own may come next.
    fn is_between(&self) -> bool {
        self.remaining == 0 && self.header_length == 0 && !self.is_fragmented && self.role == Role::Server
    }

    /// Takes a byte of a header, or as much of a payload as there is.
    fn take(&mut self, bytes: &mut [u8], at: &mut usize, intake: &mut Intake) -> Result<(), FrameFault> {
        if self.remaining == 0 {
            self.header[usize::from(self.header_length)] = bytes[*at];
            self.header_length += 1;
            *at += 1;
            if !self.begin()? {
                return Ok(());
            }
        } else {
            let rest = &mut bytes[*at..];
            let count = usize::try_from(self.remaining).map_or(rest.len(), |it| it.min(rest.len()));
            if self.role == Role::Server {
                self.mask = unmask(&mut rest[..count], self.mask);
            }
            if self.opcode >= CLOSE {
                self.control.extend_from_slice(&rest[..count]);
            } else {
                bytes.copy_within(*at..*at + count, intake.count);
                intake.count += count;
            }
            *at += count;
            self.remaining -= count as u64;
        }
        if self.remaining == 0 { self.end(intake) } else { Ok(()) }
    }

    /// Whether the header is whole; then its payload is what comes next.
    fn begin(&mut self) -> Result<bool, FrameFault> {
        let [first, second] = [self.header[0], self.header[1]];
        let have = usize::from(self.header_length);
        if have == 1 {
            self.check_first(first)?;
            return Ok(false);
        }
        let has_mask = second & 0x80 != 0;
        let short = second & 0x7f;
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if have == 2 {
            if has_mask != (self.role == Role::Server) {
                return Err(FrameFault::Mask);
            }
            if first & 0x0f >= CLOSE && u64::from(short) > CONTROL_MAXIMUM {
                return Err(FrameFault::Control);
            }
        }
        if have < 2 + extended + if has_mask { 4 } else { 0 } {
            return Ok(false);
        }
        let length = match extended {
            0 => u64::from(short),
            _ => self.header[2..2 + extended].iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
        };
        let is_shortest = match extended {
            2 => length > CONTROL_MAXIMUM,
            8 => length > u64::from(u16::MAX) && length >> 63 == 0,
            _ => true,
        };
        if !is_shortest {
            return Err(FrameFault::Length);
        }
        if has_mask {
            self.mask.copy_from_slice(&self.header[2 + extended..6 + extended]);
        }
        self.opcode = first & 0x0f;
        if self.opcode < CLOSE {
            self.is_fragmented = first & 0x80 == 0;
        }
        self.remaining = length;
        self.header_length = 0;
        Ok(true)
    }

    fn check_first(&self, first: u8) -> Result<(), FrameFault> {
        let is_final = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(FrameFault::Reserved);
        }
        match first & 0x0f {
            CONTINUATION if self.is_fragmented => Ok(()),
            BINARY if !self.is_fragmented => Ok(()),
            CONTINUATION | BINARY => Err(FrameFault::Continuation),
            TEXT => Err(FrameFault::Text),
            CLOSE | PING | PONG if is_final => Ok(()),
            CLOSE | PING | PONG => Err(FrameFault::Control),
            _ => Err(FrameFault::Opcode),
        }
    }

    /// All of a frame has come.
    fn end(&mut self, intake: &mut Intake) -> Result<(), FrameFault> {
        match self.opcode {
            CLOSE => {
                let code = match *std::mem::take(&mut self.control) {
                    [] => None,
                    [high, low, ..] => Some(u16::from_be_bytes([high, low])),
                    _ => return Err(FrameFault::Close),
                };
                let may_be_sent = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                if !code.is_none_or(may_be_sent) {
                    return Err(FrameFault::Close);
                }
                self.has_closed = true;
                intake.close = Some(code);
            }
            PING => intake.ping = Some(std::mem::take(&mut self.control)),
            PONG => self.control = Vec::new(),
            _ => {}
        }
        Ok(())
    }
}

/// Takes whole short messages of a frame each, as most clients send their packets, and stops before anything else.
fn take_plain(bytes: &mut [u8], at: &mut usize, count: &mut usize) {
    const FINAL: u8 = 0x80 | BINARY;
    while let Some(&[FINAL, second @ 0x80..=0xfd, a, b, c, d]) = bytes[*at..].first_chunk() {
        let (from, length) = (*at + 6, usize::from(second & 0x7f));
        if bytes.len() - from < length {
            return;
        }
        move_unmasked(bytes, from, *count, length, [a, b, c, d]);
        *at = from + length;
        *count += length;
    }
}

/// Takes the mask off bytes, and puts them further to the front, where they may overlap with what they were.
#[inline]
fn move_unmasked(bytes: &mut [u8], from: usize, to: usize, length: usize, mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let bytes = &mut bytes[to..from + length];
    let from = from - to;
    let whole = length / 8 * 8;
    let mut at = 0;
    while at < whole {
        // What is written lies before what is still to be read.
        if let Some(&next) = bytes[from + at..].first_chunk() {
            bytes[at..at + 8].copy_from_slice(&(u64::from_ne_bytes(next) ^ word).to_ne_bytes());
        }
        at += 8;
    }
    for at in whole..length {
        bytes[at] = bytes[from + at] ^ mask[at % 4];
    }
}

/// The header of a frame with so many bytes, and its length: of a binary one that is a whole message, or of a control
/// frame.
fn header_of(opcode: u8, length: usize, mask: Option<[u8; 4]>) -> ([u8; HEADER_MAXIMUM], usize) {
    let mut header = [0; HEADER_MAXIMUM];
    header[0] = 0x80 | opcode;
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut end = match length {
        0..=125 => {
            header[1] = masked | length as u8;
            2
        }
        126..=0xffff => {
            header[1] = masked | 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = masked | 127;
            header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    if let Some(mask) = mask {
        header[end..end + 4].copy_from_slice(&mask);
        end += 4;
    }
    (header, end)
}

/// The header of a binary frame.
pub(super) fn header(length: usize, mask: Option<[u8; 4]>) -> ([u8; HEADER_MAXIMUM], usize) {
    header_of(BINARY, length, mask)
}

/// A whole pong.
pub(super) fn pong(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    control(PONG, payload, mask)
}

/// A whole close frame.
pub(super) fn close(code: Option<u16>, mask: Option<[u8; 4]>) -> Vec<u8> {
    control(CLOSE, code.map(u16::to_be_bytes).as_ref().map_or(&[], |code| &code[..]), mask)
}

fn control(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let (header, length) = header_of(opcode, payload.len(), mask);
    let mut frame = [&header[..length], payload].concat();
    if let Some(mask) = mask {
        unmask(&mut frame[length..], mask);
    }
    frame
}

/// Takes a mask off, or puts it on; the mask turned for what comes next.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let length = bytes.len();
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    let mut turned = mask;
    turned.rotate_left(length % 4);
    turned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// The message, the pings that were answered, and the code of a close frame.
    type Read = (Vec<u8>, Vec<Vec<u8>>, Option<Option<u16>>);

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let (mut header, length) = header_of(0, payload.len(), Some(MASK));
        header[0] = first;
        let mut frame = [&header[..length], payload].concat();
        unmask(&mut frame[length..], MASK);
        frame
    }

    /// All that comes of bytes in pieces of the given sizes.
    fn read(bytes: &[u8], pieces: &[usize]) -> Result<Read, FrameFault> {
        let mut reader = FrameReader::new(Role::Server);
        let (mut message, mut pings, mut close) = (Vec::new(), Vec::new(), None);
        let (mut rest, mut sizes) = (bytes, pieces.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().map_or(rest.len(), |&size| size.min(rest.len())));
            let mut piece = piece.to_vec();
            let intake = reader.read(&mut piece)?;
            if reader.is_failing() {
                return Err(reader.read(&mut []).unwrap_err());
            }
            message.extend_from_slice(&piece[..intake.count]);
            pings.extend(intake.ping);
            close = close.or(intake.close);
            rest = after;
        }
        Ok((message, pings, close))
    }

    // [MQTT-6.0.0-2]
    // 3.1.1 [MQTT-6.0.0-2]
    #[test]
    fn a_message_may_be_in_pieces_with_control_frames_between_them() {
        let bytes = [
            frame(0x02, b"one "),
            frame(0x89, b"are you there"),
            frame(0x00, b""),
            frame(0x8a, b"unasked"),
            frame(0x80, b"two"),
            frame(0x82, &[b'x'; 70_000]),
            frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
            frame(0x82, b"nothing comes after close"),
        ];
        let (message, pings, close) = read(&bytes.concat(), &[1]).unwrap();
        assert_eq!(message, [&b"one two"[..], &[b'x'; 70_000]].concat());
        assert_eq!(pings, [b"are you there"]);
        assert_eq!(close, Some(Some(1000)));
    }

    // [MQTT-6.0.0-1]
    // 3.1.1 [MQTT-6.0.0-1]
    // [attack: websocket-frame]
    #[test]
    fn what_is_no_binary_frame_of_a_client_is_refused() {
        let unmasked = vec![0x82, 1, b'x'];
        let long_way = vec![0x82, 0xfe, 0, 5];
        let longest_way = vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        let too_long = vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let with_mask = |mut bytes: Vec<u8>| {
            bytes.extend(MASK);
            bytes
        };
        for (bytes, fault, code) in [
            (frame(0x81, b"text"), FrameFault::Text, 1003),
            (frame(0x01, b"text"), FrameFault::Text, 1003),
            (frame(0xc2, b""), FrameFault::Reserved, 1002),
            (frame(0xa2, b""), FrameFault::Reserved, 1002),
            (frame(0x92, b""), FrameFault::Reserved, 1002),
            (frame(0x83, b""), FrameFault::Opcode, 1002),
            (frame(0x8b, b""), FrameFault::Opcode, 1002),
            (unmasked, FrameFault::Mask, 1002),
            (frame(0x09, b""), FrameFault::Control, 1002),
            (frame(0x89, &[0; 126]), FrameFault::Control, 1002),
            (frame(0x80, b""), FrameFault::Continuation, 1002),
            ([frame(0x02, b""), frame(0x82, b"")].concat(), FrameFault::Continuation, 1002),
            (with_mask(long_way), FrameFault::Length, 1002),
            (with_mask(longest_way), FrameFault::Length, 1002),
            (with_mask(too_long), FrameFault::Length, 1002),
            (frame(0x88, &[3]), FrameFault::Close, 1002),
            (frame(0x88, &[3, 0xed]), FrameFault::Close, 1002), // 1005 stands for no code
        ] {
            assert_eq!(read(&bytes, &[1]), Err(fault), "{bytes:02x?}");
            assert_eq!(read(&bytes, &[1000]), Err(fault), "{bytes:02x?}");
            assert_eq!(fault.code(), code);
        }
    }

    #[test]
    fn a_server_does_not_mask() {
        let mut reader = FrameReader::new(Role::Client);
        let mut bytes = vec![0x82, 2, b'o', b'k'];
        assert_eq!(reader.read(&mut bytes), Ok(Intake { count: 2, ..Intake::default() }));
        assert_eq!(&bytes[..2], b"ok");
        assert_eq!(reader.read(&mut frame(0x82, b"x")), Err(FrameFault::Mask));
    }

    proptest! {
        // [MQTT-6.0.0-2]
        // 3.1.1 [MQTT-6.0.0-2]
        // [attack: websocket-short-frame]
        #[test]
        fn the_stream_is_the_same_however_it_is_framed_and_split(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            pings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..126), 20),
            pieces in prop::collection::vec(1_usize..200, 1..10),
        ) {
            let mut bytes = Vec::new();
            let last = payloads.len() - 1;
            for (index, payload) in payloads.iter().enumerate() {
                let opcode = if index == 0 { BINARY } else { CONTINUATION };
                bytes.extend(frame(opcode | if index == last { 0x80 } else { 0 }, payload));
                bytes.extend(frame(0x80 | PING, &pings[index]));
            }
            let (message, answered, close) = read(&bytes, &pieces).unwrap();
            prop_assert_eq!(message, payloads.concat());
            // Of pings that come together the last one is answered.
            prop_assert!(answered.iter().all(|ping| pings.contains(ping)));
            prop_assert_eq!(answered.last(), pings[..=last].last());
            prop_assert_eq!(close, None);
        }

        #[test]
        fn messages_with_frames_of_their_own_are_one_stream(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..160), 1..40),
            ping_behind in 0_usize..40,
            pieces in prop::collection::vec(1_usize..2000, 1..10),
        ) {
            let mut bytes = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                bytes.extend(frame(0x80 | BINARY, payload));
                if index == ping_behind {
                    bytes.extend(frame(0x80 | PING, b"between"));
                }
            }
            let (message, answered, _) = read(&bytes, &pieces).unwrap();
            prop_assert_eq!(message, payloads.concat());
            prop_assert_eq!(answered.len(), usize::from(ping_behind < payloads.len()));
        }

        #[test]
        fn headers_say_the_length_and_the_mask(length in 0_usize..200_000, mask in any::<Option<[u8; 4]>>()) {
            let (header, size) = header(length, mask);
            let mut reader = FrameReader::new(if mask.is_some() { Role::Server } else { Role::Client });
            reader.read(&mut header[..size].to_vec()).unwrap();
            prop_assert_eq!(reader.remaining, length as u64);
            prop_assert_eq!(reader.mask, mask.unwrap_or_default());
        }

        #[test]
        fn a_mask_is_taken_off_as_byte_by_byte(bytes in prop::collection::vec(any::<u8>(), 0..100), cut in 0_usize..100) {
            let expected: Vec<_> = bytes.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            let mut unmasked = bytes.clone();
            let (first, second) = unmasked.split_at_mut(cut.min(bytes.len()));
            let turned = unmask(first, MASK);
            unmask(second, turned);
            prop_assert_eq!(unmasked, expected);
        }
    }
}
