use super::{Frame, ProtocolVersion, Publish};
use crate::topic::TopicName;

/// PUBLISHes, one behind the other, that say nothing but one topic name and a payload each: at QoS 0, not retained,
/// without properties. What holds for one of them holds for all, and all can be passed on in the bytes in which they
/// came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// The whole packets.
    pub bytes: &'a [u8],
    /// The version of which they are.
    pub version: ProtocolVersion,
    /// The topic of all.
    pub name: TopicName<'a>,
    /// How many there are.
    pub count: u32,
    /// Bytes of the largest.
    pub largest: u32,
}

/// How much a [`Run`] may have.
#[derive(Debug, Clone, Copy)]
pub struct RunLimit {
    /// Bytes of a packet. A larger one is not part of a run.
    pub packet_size: u32,
    /// Cost of all packets but the first: each costs its bytes, and `packet_cost`.
    pub cost: usize,
    /// What a packet costs beside its bytes.
    pub packet_cost: usize,
}

/// The first byte of a PUBLISH at QoS 0, neither repeated nor to be retained.
const FIRST: u8 = 0x30;

impl<'a> Run<'a> {
    /// Whether a run may begin here, at a glance.
    #[inline]
    pub fn may_begin(input: &[u8]) -> bool {
        input.first() == Some(&FIRST)
    }

    /// The topic name's bytes of the packet at the front of `input`, where a run may begin there.
    #[inline]
    pub fn topic(input: &[u8]) -> Option<&[u8]> {
        let body = match input {
            [FIRST, 0..=127, body @ ..] => body,
            [FIRST, _, 0..=127, body @ ..] => body,
            _ => return None,
        };
        let (length, rest) = body.split_first_chunk()?;
        rest.get(..usize::from(u16::from_be_bytes(*length)))
    }

    /// Takes as many packets off the front of `input` as make a run with this name. `None`, with `input` as it was,
    /// where not even the first one is whole and of that kind.
    #[inline]
    pub fn split<'b: 'a>(
        input: &mut &'b [u8],
        version: ProtocolVersion,
        name: TopicName<'a>,
        limit: RunLimit,
    ) -> Option<Self> {
        let whole = *input;
        let (mut rest, mut cost, mut count, mut largest) = (whole, 0, 0, 0);
        while Self::may_begin(rest) {
            let mut next = rest;
            let Ok(Some(frame)) = Frame::split(&mut next, limit.packet_size) else { break };
            if frame.is_padded() || payload(frame, version, name).is_none() {
                break;
            }
            let size = frame.bytes().len();
            cost += size + limit.packet_cost;
            if count > 0 && cost > limit.cost {
                break;
            }
            count += 1;
            largest = largest.max(size as u32);
            rest = next;
        }
        *input = rest;
        let bytes = &whole[..whole.len() - rest.len()];
        (count > 0).then_some(Self { bytes, version, name, count, largest })
    }

    /// Each of the messages, with the packet that it came in.
    pub fn messages(self) -> impl Iterator<Item = (Frame<'a>, Publish<'a>)> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let frame = Frame::split(&mut rest, u32::MAX).ok().flatten()?;
            Some((frame, Publish::new(self.name, payload(frame, self.version, self.name)?)))
        })
    }
}

/// The payload of a PUBLISH at QoS 0 with this name and without properties, if it is one.
#[inline]
fn payload<'a>(frame: Frame<'a>, version: ProtocolVersion, name: TopicName<'_>) -> Option<&'a [u8]> {
    let name = name.as_str().as_bytes();
    let (length, rest) = frame.body().split_first_chunk()?;
    if usize::from(u16::from_be_bytes(*length)) != name.len() {
        return None;
    }
    let rest = rest.strip_prefix(name)?;
    if version.has_properties() { rest.strip_prefix(&[0]) } else { Some(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{PayloadFormat, QoS};

    const ALL: RunLimit = RunLimit { packet_size: u32::MAX, cost: usize::MAX, packet_cost: 0 };

    fn name(text: &str) -> TopicName<'_> {
        TopicName::new(text).unwrap()
    }

    fn encoded(publishes: &[Publish<'_>], version: ProtocolVersion) -> Vec<u8> {
        let mut bytes = Vec::new();
        publishes.iter().for_each(|publish| publish.encode(version, &mut bytes).unwrap());
        bytes
    }

    #[test]
    fn messages_that_differ_in_nothing_but_their_payload_are_a_run() {
        let long = [7; 300];
        let payloads: [&[u8]; 4] = [b"one", b"", &long, b"three"];
        let publishes = payloads.map(|payload| Publish::new(name("a/b"), payload));
        for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
            let bytes = encoded(&publishes, version);
            let mut input = &bytes[..];
            let run = Run::split(&mut input, version, name("a/b"), ALL).unwrap();
            assert!(input.is_empty());
            let largest = publishes[2].size(version).unwrap() as u32;
            assert_eq!((run.bytes, run.count, run.largest), (&bytes[..], 4, largest));
            for (message, publish) in run.messages().zip(&publishes) {
                assert_eq!((message.1, message.0.bytes().len()), (*publish, publish.size(version).unwrap()));
            }
            // A packet that is not whole is left for later.
            let mut input = &bytes[..bytes.len() - 1];
            assert_eq!(Run::split(&mut input, version, name("a/b"), ALL).unwrap().count, 3);
            assert_eq!(input.len(), publishes[3].size(version).unwrap() - 1);
        }
    }

    #[test]
    fn a_run_ends_before_a_message_that_says_more() {
        let plain = Publish::new(name("a/b"), b"x");
        let mut expiring = plain;
        expiring.properties.message_expiry_interval = Some(1);
        let mut text = plain;
        text.properties.payload_format_indicator = Some(PayloadFormat::Utf8);
        let acknowledged =
            Publish { qos: QoS::AtLeastOnce, packet_id: Some(crate::packet::PacketId::FIRST), ..plain };
        let retained = Publish { retain: true, ..plain };
        let others = ["a/c", "a/bb", "a", "a/b/"].map(|other| Publish::new(name(other), b"x"));
        for other in [expiring, text, acknowledged, retained].iter().chain(&others) {
            let bytes = encoded(&[plain, plain, *other, plain], ProtocolVersion::V5);
            let mut input = &bytes[..];
            let run = Run::split(&mut input, ProtocolVersion::V5, name("a/b"), ALL).unwrap();
            assert_eq!(run.count, 2, "before {other:?}");
            assert_eq!(Run::split(&mut input, ProtocolVersion::V5, name("a/b"), ALL), None);
            assert_eq!(input.len(), bytes.len() - run.bytes.len());
        }
    }

    #[test]
    fn a_topic_is_seen_before_anything_is_decoded() {
        for payload in [10, 300, 20_000] {
            let bytes = encoded(&[Publish::new(name("a/b"), &vec![7; payload])], ProtocolVersion::V5);
            let is_short = payload < 20_000;
            assert_eq!(Run::topic(&bytes), Some(&b"a/b"[..]).filter(|_| is_short));
            assert_eq!(Run::topic(&bytes[..5]), None);
        }
        let retained = Publish { retain: true, ..Publish::new(name("a/b"), b"x") };
        assert_eq!(Run::topic(&encoded(&[retained], ProtocolVersion::V5)), None);
    }

    #[test]
    fn a_padded_length_is_not_passed_on() {
        // The remaining length, 6, in two bytes.
        let bytes = [FIRST, 0x86, 0x00, 0, 3, b'a', b'/', b'b', b'x'];
        assert_eq!(Run::split(&mut &bytes[..], ProtocolVersion::V311, name("a/b"), ALL), None);
    }

    #[test]
    fn a_run_has_no_more_than_it_may_and_at_least_one() {
        let bytes = encoded(&[Publish::new(name("a/b"), b"xxx"); 10], ProtocolVersion::V311);
        let size = bytes.len() as u32 / 10;
        for (limit, count) in [
            (RunLimit { cost: 0, ..ALL }, Some(1)),
            (RunLimit { cost: 3 * size as usize, ..ALL }, Some(3)),
            (RunLimit { cost: 3 * (size as usize + 5), packet_cost: 5, ..ALL }, Some(3)),
            (RunLimit { packet_size: size, ..ALL }, Some(10)),
            (RunLimit { packet_size: size - 1, ..ALL }, None),
        ] {
            let run = Run::split(&mut &bytes[..], ProtocolVersion::V311, name("a/b"), limit);
            assert_eq!(run.map(|run| run.count), count, "{limit:?}");
        }
    }
}
