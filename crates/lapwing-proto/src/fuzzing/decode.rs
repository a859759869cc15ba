use crate::packet::{Frame, MAXIMUM_PACKET_SIZE, Packet, ProtocolVersion};

/// Decodes any bytes: the first picks the version, the rest is a stream of packets. Whatever is a packet must
/// have bytes of its own, as many as it says, that decode to the same packet.
pub fn decode(data: &[u8]) {
    let Some((&first, mut input)) = data.split_first() else { return };
    let version = match first % 3 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    while let Ok(Some(frame)) = Frame::split(&mut input, MAXIMUM_PACKET_SIZE) {
        if let Ok(packet) = Packet::decode(frame, version) {
            check_encoding(&packet, version);
        }
    }
}

fn check_encoding(packet: &Packet<'_>, version: ProtocolVersion) {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("what was decoded can be encoded");
    assert_eq!(packet.size(version), Ok(bytes.len()), "the size of {packet:?}");
    assert_eq!(Frame::declared_size(&bytes), Some(bytes.len()), "the declared size of {packet:?}");
    let mut rest = &bytes[..];
    let frame = Frame::split(&mut rest, MAXIMUM_PACKET_SIZE);
    let frame = frame.expect("what was encoded has a fixed header").expect("what was encoded is whole");
    assert!(rest.is_empty(), "{packet:?} leaves bytes behind");
    let again = Packet::decode(frame, version).expect("what was encoded can be decoded");
    assert_eq!(&again, packet, "another packet came back");
}
