//! Decoding allocates nothing: neither for what is there nor for what a peer merely declares.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(unsafe_code, reason = "a global allocator that counts can be written in no other way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use lapwing_proto::packet::{
    Frame, MAXIMUM_PACKET_SIZE, Packet, ProtocolVersion, Publish, QoS, UserProperty,
};
use lapwing_proto::packet::{PacketId, ReasonCode, SubAck, Subscribe, Subscription, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilter, TopicName};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the arguments it came with. Counting touches a
// constant-initialised cell of the thread without a destructor, so that it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps to what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc`, so from the system, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `action` allocates on this thread. `realloc` and `alloc_zeroed` come down to `alloc`.
fn count<T>(action: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let result = black_box(action());
    (ALLOCATIONS.get() - before, result)
}

fn encode(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).unwrap();
    bytes
}

fn decode(mut bytes: &[u8], version: ProtocolVersion) -> Packet<'_> {
    let frame = Frame::split(&mut bytes, MAXIMUM_PACKET_SIZE).unwrap().expect("a whole packet");
    Packet::decode(frame, version).unwrap()
}

#[test]
fn the_allocator_counts() {
    assert_eq!(count(|| Box::new(7)).0, 1);
    assert_eq!(count(|| 7).0, 0);
}

#[test]
fn decoding_a_publish_allocates_nothing() {
    let topic = TopicName::new("gate/door_1/event").unwrap();
    let mut publish = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, &[b'x'; 41]) };
    publish.packet_id = Some(PacketId::FIRST);
    let bytes = encode(&Packet::Publish(publish), ProtocolVersion::V311);
    assert_eq!(bytes.len(), 64);
    let (allocations, packet) = count(|| decode(&bytes, ProtocolVersion::V311));
    assert_eq!(packet, Packet::Publish(publish));
    assert_eq!(allocations, 0);

    let user = ["a", "b", "c"].map(|name| UserProperty { name, value: "of some length" });
    publish.properties.user_properties = (&user[..]).into();
    let bytes = encode(&Packet::Publish(publish), ProtocolVersion::V5);
    let (allocations, (packet, properties)) = count(|| {
        let packet = decode(&bytes, ProtocolVersion::V5);
        let Packet::Publish(publish) = &packet else { panic!("{packet:?} is no PUBLISH") };
        (packet, publish.properties.user_properties.iter().count())
    });
    assert_eq!((packet, properties), (Packet::Publish(publish), 3));
    assert_eq!(allocations, 0);
}

#[test]
fn decoding_lists_allocates_nothing() {
    let filters = ["a/#", "+/b", "$share/g/c"].map(|filter| TopicFilter::new(filter).unwrap());
    let subscriptions =
        filters.map(|filter| Subscription { filter, options: SubscriptionOptions::new(QoS::ExactlyOnce) });
    let subscribe = Packet::Subscribe(Subscribe::new(PacketId::FIRST, &subscriptions));
    let suback =
        Packet::SubAck(SubAck::new(PacketId::FIRST, &[ReasonCode::Success, ReasonCode::NotAuthorized]));
    for packet in [subscribe, suback] {
        let bytes = encode(&packet, ProtocolVersion::V5);
        assert_eq!(count(|| decode(&bytes, ProtocolVersion::V5)), (0, packet));
    }
}

#[test]
fn encoding_allocates_the_packet_at_once() {
    let user = ["a", "b", "c"].map(|name| UserProperty { name, value: "of some length" });
    let mut publish = Publish::new(TopicName::new("a/b").unwrap(), &[0; 1000]);
    publish.properties.user_properties = (&user[..]).into();
    let packet = Packet::Publish(publish);
    assert_eq!(count(|| encode(&packet, ProtocolVersion::V5)).0, 1);
    let mut bytes = Vec::with_capacity(2000);
    assert_eq!(count(|| packet.encode(ProtocolVersion::V5, &mut bytes)), (0, Ok(())));
}

// [attack: announced-length]
#[test]
fn a_declared_length_reserves_nothing() {
    for header in [&b"\x30\xff\xff\xff\x7f"[..], b"\x30\xff\xff\xff\x7f\0\x01t"] {
        let (allocations, frame) = count(|| Frame::split(&mut &header[..], MAXIMUM_PACKET_SIZE));
        assert_eq!((allocations, frame), (0, Ok(None)));
    }
    // Properties, strings and binary data that are far shorter than they say.
    for bytes in [
        &b"\x30\x07\0\x01t\xff\xff\xff\x7f"[..],
        b"\x30\x03\xff\xfft",
        b"\x30\x08\0\x01t\x04\x09\xff\xff\x01",
    ] {
        let (allocations, error) = count(|| {
            let frame = Frame::split(&mut &bytes[..], MAXIMUM_PACKET_SIZE).unwrap().expect("a whole packet");
            Packet::decode(frame, ProtocolVersion::V5).map_err(|error| error.reason_code())
        });
        assert_eq!((allocations, error), (0, Err(ReasonCode::MalformedPacket)));
    }
}
