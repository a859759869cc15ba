//! One end of a connection, and what outlives it at a client.

use lapwing_proto::packet::{Ack, Connect, Frame, Packet, PacketId, ProtocolVersion, ReasonCode};

use super::super::V5;
use super::super::broker::{WireId, World, clean, lasting};

/// A client with a session that stays.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) version: ProtocolVersion,
    pub(super) wire: Option<WireId>,
    pub(super) is_connected: bool,
    /// Whether a CONNACK has said that there is a session.
    pub(super) has_session: bool,
    /// Whether the CONNECT asked for a new session.
    is_clean: bool,
    /// Whether a CONNECT that has no answer asked for a new session: the old one may be gone.
    is_unsure: bool,
    last_id: u16,
}

impl Client {
    pub(super) fn new(name: String, version: ProtocolVersion) -> Self {
        Self {
            name,
            version,
            wire: None,
            is_connected: false,
            has_session: false,
            is_clean: false,
            is_unsure: false,
            last_id: 0,
        }
    }

    pub(super) fn send(&self, world: &mut World, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.send_bytes(world, &bytes);
    }

    pub(super) fn send_bytes(&self, world: &mut World, bytes: &[u8]) {
        if let Some(wire) = self.wire {
            world.feed(wire, bytes);
        }
    }

    pub(super) fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 60_000 + 1;
        self.last_id
    }

    /// Connects, over an earlier connection if there is one. Only 5.0 can begin a new session that stays.
    pub(super) fn connect(&mut self, world: &mut World, is_clean: bool) {
        self.forget_connection();
        self.is_clean = is_clean && self.version == V5;
        self.is_unsure |= self.is_clean;
        self.wire = Some(world.accept());
        let name = self.name.clone();
        let mut connect: Connect<'_> = lasting(self.version, &name);
        connect.clean_start = self.is_clean;
        if self.version == V5 {
            connect.properties.receive_maximum = std::num::NonZero::new(4);
        }
        self.send(world, &Packet::Connect(connect));
    }

    /// Connects with a session that ends with the connection.
    pub(super) fn connect_for_the_last_time(&mut self, world: &mut World) {
        self.forget_connection();
        (self.is_clean, self.is_unsure) = (true, true);
        self.wire = Some(world.accept());
        let name = self.name.clone();
        self.send(world, &Packet::Connect(clean(self.version, &name)));
    }

    /// The connection has ended, whatever ended it.
    pub(super) fn forget_connection(&mut self) {
        self.wire = None;
        self.is_connected = false;
    }

    /// A CONNACK has come. What was acknowledged of the session must be there.
    /// `None` if the client was refused, which a store that has failed does.
    pub(super) fn begin(&mut self, (session_present, reason_code): (bool, ReasonCode)) -> Option<bool> {
        if reason_code.is_error() {
            return None;
        }
        let is_sure = self.has_session && !self.is_unsure;
        assert!(session_present || !is_sure, "the session of {} is lost", self.name);
        assert!(!(session_present && self.is_clean), "{} asked for a new session", self.name);
        (self.is_connected, self.has_session, self.is_unsure) = (true, true, false);
        Some(session_present)
    }

    /// Whether it is not known which session there is.
    pub(super) fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    /// The packets that have come, one by one.
    pub(super) fn next_packet(&self, world: &mut World) -> Option<Vec<u8>> {
        world.wires.get_mut(&self.wire?)?.inbox.pop_front()
    }

    pub(super) fn is_closed(&self, world: &World) -> bool {
        self.wire.is_some_and(|wire| world.wires[&wire].is_closed)
    }
}

pub(super) fn decode(bytes: &[u8], version: ProtocolVersion) -> Packet<'_> {
    let frame = Frame::split(&mut &bytes[..], u32::MAX).unwrap().unwrap();
    Packet::decode(frame, version).unwrap()
}

pub(super) fn success(packet_id: u16) -> Ack<'static> {
    Ack::new(PacketId::new(packet_id).unwrap(), ReasonCode::Success)
}
