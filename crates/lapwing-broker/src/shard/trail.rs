//! What has become of the last messages: metadata in a ring that is always written, so that somebody may ask later.
//!
//! A message has a [`Trace`] from the moment at which it is published. One record says who published it, where to and what
//! came of that; one for each receiver at QoS 1 and 2 says how far it is there, and is changed in its place as that goes on.
//! Names of topics are in a ring of bytes beside it, a topic that is remembered with its route only once in a while.
//!
//! Writing a record is a handful of stores: what it costs is measured for every message, see `docs/design/explain.md`.

use lapwing_proto::packet::{PacketId, QoS, ReasonCode};
use lapwing_proto::session::Instant;
use lapwing_proto::topic::TopicName;

use super::SessionId;
use super::route::Known;
use crate::explanation::{DeliveryState, Passage, Wait};
use crate::message::Delivery;
use crate::shared::ShardId;

/// Names a message on all shards: the shard that it was published on, and a number there that comes again after 16 million
/// more. 0 for one that was published too long ago, or by an earlier process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Trace(pub(crate) u32);

impl Trace {
    pub(crate) fn is_known(self) -> bool {
        self.0 != 0
    }
}

/// A message and the time, as a record begins with them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp(u64);

impl Stamp {
    pub(super) fn new(trace: Trace, now: Instant) -> Self {
        Self(ms(now) | u64::from(trace.0) << HALF)
    }
}

/// Where a delivery is recorded; 0 where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RecordId(u32);

const NUMBER_BITS: u32 = 24;
const NUMBERS: u32 = (1 << NUMBER_BITS) - 1;
/// Bytes of a name that are kept.
pub(crate) const NAME_KEPT: usize = 1024;
/// Nobody in particular.
const NOBODY: u64 = u64::MAX;

/// A record as it is kept: arrays of numbers are made of memory that nobody has touched.
///
/// ```text
///             0 (low, high half)     1        2 (low, high)          3, from the lowest byte
/// published   time, trace            session  name, length and flags receivers (4), messages (2), passage, kind
/// delivery    time, trace            session  time sent, settled     packet id (2), QoS, wait, state, code, flags, kind
/// late        time sent, name        session  length, time settled   the same
/// run         time, trace            session  0                      messages (4), state, -, -, kind
/// lone        time, receiver         session  name, length and flags receiver (4), messages (2), state, kind
/// ```
pub(super) type Raw = [u64; 4];

const PUBLISHED: u64 = 1;
const DELIVERY: u64 = 2;
const LATE: u64 = 3;
const RUN: u64 = 4;
const LONE: u64 = 5;
const KIND: u32 = 56;
const PASSAGE: u32 = 48;
const STATE: u32 = 32;
const CODE: u32 = 40;
const RESENT: u64 = 1 << 48;
const HALF: u32 = 32;

/// Flags of a published message, beside the QoS in the lowest two bits.
pub(super) const RETAIN: u8 = 1 << 2;
pub(super) const DIRECT: u8 = 1 << 3;
const CUT: u8 = 1 << 7;

/// The ring of a shard.
pub(super) struct Trail {
    /// A power of two of them, or none.
    records: Box<[Raw]>,
    /// Where the next one is written: how many were written before, and one more. 0 where there is no room for any.
    head: u32,
    shard: u32,
    /// Of the last message.
    number: u32,
    names: Names,
}

/// Where a name is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeptName {
    /// How many bytes of names were written before it.
    place: u64,
    /// The same as a record has it: the lower half of that, the length, and whether it is cut.
    subject: u64,
}

/// A ring of names: a power of two of bytes, or none.
struct Names {
    bytes: Box<[u8]>,
    /// How many were ever written, and as many more as there is room for.
    head: u64,
}

/// A message that is published, to be recorded.
pub(super) struct Publication {
    pub(super) origin: Option<SessionId>,
    /// From [`Trail::name`].
    pub(super) name: KeptName,
    /// From [`flags`].
    pub(super) flags: u8,
    pub(super) messages: u32,
}

impl Publication {
    #[inline]
    fn origin(&self) -> u64 {
        self.origin.map_or(NOBODY, SessionId::to_bits)
    }

    /// Where the name is, its length, and the flags.
    #[inline]
    fn subject(&self) -> u64 {
        self.name.subject | u64::from(self.flags) << 48
    }

    #[inline]
    fn messages(&self) -> u64 {
        u64::from(self.messages.min(0xffff)) << HALF
    }
}

impl Trail {
    /// With about so many bytes of memory, which are taken as they are written.
    pub(super) fn new(shard: ShardId, bytes: usize) -> Self {
        let part = |bytes: usize| if bytes == 0 { 0 } else { 1 << bytes.ilog2() };
        // Three quarters are records, as far as powers of two allow.
        let records = part(bytes / 4 * 3 / size_of::<Raw>()).min(1 << (NUMBER_BITS - 1));
        let names = part(bytes / 4).max(if records > 0 { 4 * NAME_KEPT } else { 0 });
        Self {
            records: vec![Raw::default(); records].into(),
            head: u32::from(records > 0),
            shard: u32::from(shard.0) << NUMBER_BITS,
            number: 0,
            names: Names { bytes: vec![0; names].into(), head: names as u64 },
        }
    }

    /// Whether anything is recorded.
    pub(super) fn is_on(&self) -> bool {
        !self.records.is_empty()
    }

    /// Keeps the name of a topic, if it is not kept already.
    #[inline]
    pub(super) fn name(&mut self, name: Option<TopicName<'_>>, known: Option<&Known>) -> KeptName {
        match known {
            Some(known) if self.names.is_fresh(known.recorded.get()) => known.recorded.get(),
            _ => self.keep_name(name, known),
        }
    }

    #[inline(never)] // those whose names are kept need not pay for its size
    fn keep_name(&mut self, name: Option<TopicName<'_>>, known: Option<&Known>) -> KeptName {
        let kept = self.names.write(name.map_or("", TopicName::as_str));
        if let Some(known) = known {
            known.recorded.set(kept);
        }
        kept
    }

    #[inline(always)] // every message pays for it
    fn push(&mut self, raw: Raw) -> RecordId {
        let count = self.records.len();
        if count == 0 {
            return RecordId(0);
        }
        let at = self.head;
        if let Some(record) = self.records.get_mut(at as usize & (count - 1)) {
            *record = raw;
        }
        // After 4 billion of them, one is taken for none.
        self.head = at.wrapping_add(1);
        RecordId(at)
    }

    /// Names a message that is about to be published.
    #[inline]
    pub(super) fn begin(&mut self) -> Trace {
        self.number = self.number.wrapping_add(1);
        Trace(self.shard | self.number & NUMBERS)
    }

    /// It has been published, to so many. Its record comes behind those of its deliveries: so nothing need be changed in it.
    #[inline]
    pub(super) fn published(
        &mut self,
        trace: Trace,
        publication: &Publication,
        (passage, receivers): (Passage, usize),
        now: Instant,
    ) {
        let outcome = u64::from(receivers as u32) | (passage as u64) << PASSAGE;
        self.push([
            Stamp::new(trace, now).0,
            publication.origin(),
            publication.subject(),
            outcome | publication.messages() | PUBLISHED << KIND,
        ]);
    }

    /// The messages of a run have gone to a session of this shard, or been dropped, and to nobody else.
    #[inline(always)] // every message pays for it
    pub(super) fn lone(
        &mut self,
        publication: &Publication,
        (session, state): (SessionId, DeliveryState),
        now: Instant,
    ) {
        let receiver = session.to_bits();
        self.push([
            ms(now) | receiver >> HALF << HALF,
            publication.origin(),
            publication.subject(),
            receiver & u64::from(u32::MAX)
                | publication.messages()
                | (state as u64) << PASSAGE
                | LONE << KIND,
        ]);
    }

    /// Where the next record will be, for a delivery of which one is about to be written.
    #[inline]
    pub(super) fn next(&self) -> RecordId {
        RecordId(self.head)
    }

    /// A message has been sent to a session at QoS 1 or 2.
    #[inline(always)] // every message pays for it
    pub(super) fn sent(&mut self, stamp: Stamp, session: SessionId, (qos, packet_id): (QoS, PacketId)) {
        let bits = u64::from(packet_id.get()) | u64::from(qos.bits()) << 16;
        let kind = (DeliveryState::Sent as u64) << STATE | DELIVERY << KIND;
        self.push([stamp.0, session.to_bits(), stamp.0 & u64::from(u32::MAX), bits | kind]);
    }

    /// A message of a session at QoS 1 or 2 waits.
    pub(super) fn queued(
        &mut self,
        trace: Trace,
        session: SessionId,
        (qos, wait): (QoS, Wait),
        now: Instant,
    ) -> RecordId {
        let bits = u64::from(qos.bits()) << 16 | (wait as u64) << 24 | DELIVERY << KIND;
        self.push([ms(now) | u64::from(trace.0) << HALF, session.to_bits(), 0, bits])
    }

    /// A session does not get a message, of which nothing was recorded for it yet.
    #[cold]
    pub(super) fn dropped(
        &mut self,
        trace: Trace,
        session: SessionId,
        qos: QoS,
        state: DeliveryState,
        now: Instant,
    ) {
        // What the broker says of itself, in `$SYS`, is nobody's message.
        if !trace.is_known() {
            return;
        }
        let bits = u64::from(qos.bits()) << 16 | (state as u64) << STATE | DELIVERY << KIND;
        let time = ms(now);
        self.push([time | u64::from(trace.0) << HALF, session.to_bits(), time << HALF, bits]);
    }

    /// The messages of a run have gone to a session, or been dropped.
    #[inline]
    pub(super) fn run(&mut self, stamp: Stamp, session: SessionId, (count, state): (u32, DeliveryState)) {
        let bits = u64::from(count) | (state as u64) << STATE | RUN << KIND;
        self.push([stamp.0, session.to_bits(), 0, bits]);
    }

    /// A message that waited is about to be sent: its record, or a new one if there is none any more.
    pub(super) fn waiting(&mut self, session: SessionId, delivery: &Delivery, now: Instant) -> RecordId {
        if self.has(delivery.record) {
            return delivery.record;
        }
        self.late(session, delivery, DeliveryState::Queued, now)
    }

    /// It is sent.
    pub(super) fn send(&mut self, record: RecordId, packet_id: PacketId, now: Instant) {
        if let Some(raw) = self.get_mut(record) {
            if raw[3] >> KIND == DELIVERY {
                raw[2] = raw[2] >> HALF << HALF | ms(now);
            }
            let kept = raw[3] & !(0xffff | 0xff << STATE);
            raw[3] = kept | u64::from(packet_id.get()) | (DeliveryState::Sent as u64) << STATE;
        }
    }

    /// A record of a message of which it is not known, or not any more, when it was published.
    fn late(
        &mut self,
        session: SessionId,
        delivery: &Delivery,
        state: DeliveryState,
        now: Instant,
    ) -> RecordId {
        if !self.is_on() {
            return RecordId(0);
        }
        let publish = delivery.message.publish(now);
        let name = self.names.write(publish.topic.map_or("", TopicName::as_str));
        let (place, length) = (name.subject & u64::from(u32::MAX), name.subject >> HALF & 0xffff);
        let bits = u64::from(delivery.qos.bits()) << 16 | (state as u64) << STATE | LATE << KIND;
        self.push([ms(now) | place << HALF, session.to_bits(), length | ms(now) << HALF, bits])
    }

    /// The client has answered a message.
    #[inline]
    pub(super) fn answered(&mut self, record: RecordId, reason_code: ReasonCode, now: Instant) {
        if reason_code == ReasonCode::Success {
            self.acknowledge(record, now);
        } else {
            self.answered_at_length(record, reason_code, now);
        }
    }

    #[cold]
    fn answered_at_length(&mut self, record: RecordId, reason_code: ReasonCode, now: Instant) {
        if reason_code.is_error() {
            self.reject(record, reason_code, now);
        } else {
            self.acknowledge(record, now);
        }
    }

    /// A message that has waited, or is in flight, will never be with the client.
    pub(super) fn end(
        &mut self,
        session: SessionId,
        delivery: &Delivery,
        state: DeliveryState,
        now: Instant,
    ) {
        if !self.settle(delivery.record, state, now) {
            self.late(session, delivery, state, now);
        }
    }

    /// The client has a message, without a word of complaint.
    #[inline]
    fn acknowledge(&mut self, record: RecordId, now: Instant) {
        if let Some(raw) = self.get_mut(record) {
            raw[2] |= ms(now) << HALF;
            raw[3] |= (DeliveryState::Acknowledged as u64) << STATE;
        }
    }

    /// It has answered with a Reason Code that is an error.
    #[cold]
    fn reject(&mut self, record: RecordId, reason_code: ReasonCode, now: Instant) {
        self.settle(record, DeliveryState::Rejected, now);
        if let Some(raw) = self.get_mut(record) {
            raw[3] |= u64::from(reason_code.value()) << CODE;
        }
    }

    /// A message of which something is recorded is gone. Whether it is noted, which it is not where the record is gone.
    #[cold]
    pub(super) fn settle(&mut self, record: RecordId, state: DeliveryState, now: Instant) -> bool {
        let is_there = self.has(record);
        let Some(raw) = self.get_mut(record).filter(|_| is_there) else { return false };
        raw[2] = raw[2] & u64::from(u32::MAX) | ms(now) << HALF;
        raw[3] = raw[3] & !(0xff << STATE) | (state as u64) << STATE;
        true
    }

    /// It is sent once more, to another connection.
    pub(super) fn resent(&mut self, record: RecordId) {
        if let Some(raw) = self.get_mut(record) {
            raw[3] |= RESENT;
        }
    }

    /// Whether a delivery's record is still there.
    pub(super) fn has(&self, record: RecordId) -> bool {
        let age = self.head.wrapping_sub(record.0);
        record.0 != 0 && age as usize <= self.records.len() && age > 0
    }

    /// The message of a delivery that is recorded.
    pub(super) fn trace(&self, record: RecordId) -> Trace {
        if !self.has(record) {
            return Trace::default();
        }
        let raw = &self.records[record.0 as usize & (self.records.len() - 1)];
        Trace(if raw[3] >> KIND == DELIVERY { (raw[0] >> HALF) as u32 } else { 0 })
    }

    /// A record that is still there. For none that is a record which says nothing.
    #[inline]
    fn get_mut(&mut self, record: RecordId) -> Option<&mut Raw> {
        let count = self.records.len();
        let age = self.head.wrapping_sub(record.0) as usize;
        if age > count {
            return None;
        }
        // The place of 0 is not used before it has gone round, and then 0 is too old.
        self.records.get_mut(record.0 as usize & count.wrapping_sub(1))
    }

    /// Where to begin to look, from the newest record to the oldest.
    pub(super) fn newest(&self) -> u32 {
        self.head
    }

    /// The record before that place, if there is one, with its own place.
    pub(super) fn before(&self, place: u32) -> Option<(u32, Entry<'_>)> {
        let count = self.records.len();
        let place = place.wrapping_sub(1);
        let age = self.head.wrapping_sub(place) as usize;
        if age > count {
            return None;
        }
        let raw = self.records.get(place as usize & count.wrapping_sub(1))?;
        (raw[3] >> KIND != 0).then(|| (place, self.entry(raw)))
    }

    /// When the oldest record was made; `None` where none has been overwritten. Where that is more than 49 days ago, it
    /// says less.
    pub(super) fn reach(&self, now: Instant) -> Option<Instant> {
        let count = self.records.len();
        // The one that is overwritten next.
        let oldest = self.records.get(self.head as usize & count.wrapping_sub(1))?;
        let is_round = oldest[3] >> KIND != 0;
        is_round.then(|| Clockwork::new(now).instant(oldest[0] as u32))
    }

    fn entry(&self, raw: &Raw) -> Entry<'_> {
        let [first, session, third, bits] = *raw;
        let session = (session != NOBODY).then(|| SessionId::from_bits(session));
        let byte = |shift: u32| (bits >> shift) as u8;
        let (low, high) = ((third & u64::from(u32::MAX)) as u32, (third >> HALF) as u32);
        let delivery = || DeliveryEntry {
            qos: QoS::from_bits(byte(16)).unwrap_or(QoS::AtMostOnce),
            packet_id: bits as u16,
            wait: Wait::from_byte(byte(24)),
            state: DeliveryState::from_byte(byte(STATE)),
            code: byte(CODE),
            is_resent: bits & RESENT != 0,
        };
        let what = match bits >> KIND {
            PUBLISHED => What::Published {
                name: self.names.read(low, high as u16),
                flags: (third >> 48) as u8,
                passage: Passage::from_byte(byte(PASSAGE)),
                receivers: bits as u32,
                messages: (bits >> HALF) as u16,
            },
            DELIVERY => What::Delivery { sent: low, settled: high, delivery: delivery() },
            LATE => What::Late {
                name: self.names.read((first >> HALF) as u32, low as u16),
                settled: high,
                delivery: delivery(),
            },
            LONE => What::Lone {
                name: self.names.read(low, high as u16),
                flags: (third >> 48) as u8,
                receiver: SessionId::from_bits(bits & u64::from(u32::MAX) | first >> HALF << HALF),
                state: DeliveryState::from_byte(byte(PASSAGE)),
                count: (bits >> HALF) as u16,
            },
            RUN => What::Run { count: bits as u32, state: DeliveryState::from_byte(byte(STATE)) },
            _ => What::Nothing,
        };
        let trace =
            if matches!(what, What::Late { .. } | What::Lone { .. }) { 0 } else { (first >> HALF) as u32 };
        Entry { ms: first as u32, trace: Trace(trace), session, what }
    }
}

/// A record, readable.
pub(super) struct Entry<'a> {
    pub(super) ms: u32,
    pub(super) trace: Trace,
    pub(super) session: Option<SessionId>,
    pub(super) what: What<'a>,
}

pub(super) enum What<'a> {
    Published {
        name: Option<&'a [u8]>,
        flags: u8,
        passage: Passage,
        receivers: u32,
        messages: u16,
    },
    /// Times are 0 where it has not happened.
    Delivery {
        sent: u32,
        settled: u32,
        delivery: DeliveryEntry,
    },
    Late {
        name: Option<&'a [u8]>,
        settled: u32,
        delivery: DeliveryEntry,
    },
    Run {
        count: u32,
        state: DeliveryState,
    },
    Lone {
        name: Option<&'a [u8]>,
        flags: u8,
        receiver: SessionId,
        state: DeliveryState,
        count: u16,
    },
    Nothing,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryEntry {
    pub(crate) qos: QoS,
    pub(crate) packet_id: u16,
    pub(crate) wait: Wait,
    pub(crate) state: DeliveryState,
    pub(crate) code: u8,
    pub(crate) is_resent: bool,
}

impl Names {
    /// Whether a name will still be there for as long as most records are.
    #[inline]
    fn is_fresh(&self, name: KeptName) -> bool {
        self.head.wrapping_sub(name.place) < self.bytes.len() as u64 / 2
    }

    fn write(&mut self, name: &str) -> KeptName {
        let size = self.bytes.len();
        if size == 0 {
            return KeptName::default();
        }
        let cut = if name.len() > NAME_KEPT { u64::from(CUT) << 48 } else { 0 };
        let name = &name.as_bytes()[..name.len().min(NAME_KEPT)];
        let mut at = self.head as usize & (size - 1);
        if at + name.len() > size {
            self.head += (size - at) as u64;
            at = 0;
        }
        self.bytes[at..at + name.len()].copy_from_slice(name);
        let place = self.head;
        self.head += name.len() as u64;
        KeptName { place, subject: u64::from(place as u32) | (name.len() as u64) << HALF | cut }
    }

    /// A name that has not been overwritten.
    fn read(&self, place: u32, length: u16) -> Option<&[u8]> {
        let size = self.bytes.len();
        let age = (self.head as u32).wrapping_sub(place) as usize;
        if size == 0 || age > size {
            return None;
        }
        let at = place as usize & (size - 1);
        self.bytes.get(at..at + usize::from(length))
    }
}

/// From the milliseconds of records, of which the upper half is missing, to points in time: going from now to what was
/// before, record by record.
pub(super) struct Clockwork {
    last: u64,
}

impl Clockwork {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now.as_millis() }
    }

    /// Of the next record before.
    pub(super) fn instant(&mut self, ms: u32) -> Instant {
        let behind = (self.last as u32).wrapping_sub(ms);
        // A record may be a moment newer than the one behind it where a turn has begun earlier.
        if behind <= u32::MAX - 60_000 {
            self.last = self.last.saturating_sub(behind.into());
        }
        Instant::from_millis(self.last)
    }

    /// Of something that happened at the next record before or behind it, within 24 days.
    pub(super) fn behind(base: Instant, ms: u32) -> Instant {
        let later = ms.wrapping_sub(base.as_millis() as u32);
        Instant::from_millis(base.as_millis() + u64::from(if later > u32::MAX / 2 { 0 } else { later }))
    }
}

#[inline]
fn ms(now: Instant) -> u64 {
    u64::from(now.as_millis() as u32)
}

/// QoS, and what else is to be said of a message.
#[inline]
pub(super) fn flags(qos: QoS, retain: bool) -> u8 {
    qos.bits() | if retain { RETAIN } else { 0 }
}

/// Whether the name is not whole.
pub(super) fn is_cut(flags: u8) -> bool {
    flags & CUT != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: u64 = 0x0000_0007_0000_0100;

    fn session() -> SessionId {
        SessionId::from_bits(SESSION)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn publish(trail: &mut Trail, name: &str, now: Instant) -> Trace {
        let trace = trail.begin();
        let name = trail.name(TopicName::new(name).ok(), None);
        let publication = Publication { origin: Some(session()), name, flags: 0, messages: 1 };
        trail.published(trace, &publication, (Passage::PassedOn, 1), now);
        trace
    }

    /// What is there, from the newest to the oldest.
    fn names(trail: &Trail) -> Vec<Option<String>> {
        let (mut place, mut names) = (trail.newest(), Vec::new());
        while let Some((before, entry)) = trail.before(place) {
            place = before;
            if let What::Published { name, .. } = entry.what {
                names.push(name.map(|name| String::from_utf8(name.to_vec()).unwrap()));
            }
        }
        names
    }

    #[test]
    fn sessions_are_numbers_and_back() {
        assert_eq!(session().to_bits(), SESSION);
        assert_eq!((session().index(), session().shard()), (7, ShardId(0)));
    }

    #[test]
    fn the_newest_records_are_kept_and_their_names() {
        let mut trail = Trail::new(ShardId(1), 4096);
        let count = trail.records.len();
        assert!(count.is_power_of_two() && trail.names.bytes.len().is_power_of_two());
        assert_eq!(trail.reach(at(0)), None);
        for number in 0..10 * count {
            publish(&mut trail, &format!("t/{number}"), at(number as u64));
            let kept = names(&trail);
            assert_eq!(kept.len(), count.min(number + 1));
            for (back, name) in kept.iter().enumerate() {
                assert_eq!(name.as_deref(), Some(&*format!("t/{}", number - back)));
            }
        }
        assert_eq!(trail.reach(at(10 * count as u64)), Some(at(9 * count as u64)));
    }

    /// Names of whatever lengths: what has been overwritten is not taken for a name.
    #[test]
    fn a_name_is_whole_or_not_there() {
        let mut trail = Trail::new(ShardId(0), 64 * 1024);
        let long = "x".repeat(2000);
        for number in 0..500_usize {
            let name = format!("{number}/{}", &long[..number * 37 % 1990]);
            publish(&mut trail, &name, at(1));
            let kept = names(&trail);
            assert_eq!(kept[0].as_deref(), Some(&name[..name.len().min(NAME_KEPT)]));
            for (back, name) in kept.iter().enumerate() {
                let start = format!("{}/", number - back);
                let is_right = |name: &String| {
                    name.starts_with(&start) && name[start.len()..].bytes().all(|it| it == b'x')
                };
                assert!(name.as_ref().is_none_or(is_right), "{name:?}");
            }
        }
        assert!(names(&trail).contains(&None), "some are older than their names");
    }

    #[test]
    fn a_delivery_is_changed_in_its_place_for_as_long_as_it_is_there() {
        let mut trail = Trail::new(ShardId(0), 4096);
        let count = trail.records.len();
        let packet_id = PacketId::FIRST;
        let record = trail.queued(Trace(5), session(), (QoS::ExactlyOnce, Wait::Away), at(10));
        trail.send(record, packet_id, at(20));
        trail.answered(record, ReasonCode::NoMatchingSubscribers, at(30));
        let (_, Entry { ms, trace, what: What::Delivery { sent, settled, delivery }, .. }) =
            trail.before(trail.newest()).unwrap()
        else {
            panic!("no delivery")
        };
        assert_eq!((ms, trace, sent, settled), (10, Trace(5), 20, 30));
        assert_eq!((delivery.state, delivery.wait), (DeliveryState::Acknowledged, Wait::Away));
        assert_eq!((delivery.qos, delivery.packet_id), (QoS::ExactlyOnce, 1));
        assert_eq!(trail.trace(record), Trace(5));
        for _ in 0..count {
            assert!(trail.has(record));
            publish(&mut trail, "t", at(40));
        }
        assert!(!trail.has(record) && !trail.settle(record, DeliveryState::Expired, at(50)));
        trail.answered(record, ReasonCode::Success, at(50));
        assert_eq!((trail.trace(record), names(&trail).len()), (Trace(0), count));
    }

    /// After four billion records the places begin anew.
    #[test]
    fn places_that_begin_anew_are_found() {
        let mut trail = Trail::new(ShardId(0), 4096);
        let count = trail.records.len();
        trail.head = u32::MAX - 3;
        for number in 0..8 {
            publish(&mut trail, &format!("t/{number}"), at(1));
        }
        assert_eq!(names(&trail).len(), 8.min(count));
        assert_eq!(names(&trail)[7].as_deref(), Some("t/0"));
    }

    #[test]
    fn times_are_found_again_across_the_turn_of_their_half() {
        let turn = 1 << 32;
        let mut clock = Clockwork::new(at(turn + 5_000));
        let times = [turn + 1_000, turn - 1_000, turn - 2_000].map(|ms| clock.instant(ms as u32).as_millis());
        assert_eq!(times, [turn + 1_000, turn - 1_000, turn - 2_000]);
        assert_eq!(Clockwork::behind(at(turn - 10), 5), at(turn + 5));
        assert_eq!(Clockwork::behind(at(1_000), 990), at(1_000), "a moment before");
    }

    #[test]
    fn nothing_is_written_where_there_is_no_room() {
        let mut trail = Trail::new(ShardId(3), 0);
        publish(&mut trail, "t", at(1));
        let record = trail.queued(Trace(5), session(), (QoS::AtLeastOnce, Wait::Away), at(1));
        trail.send(record, PacketId::FIRST, at(2));
        trail.answered(record, ReasonCode::Success, at(3));
        trail.answered(record, ReasonCode::QuotaExceeded, at(3));
        assert!(!trail.is_on() && !trail.has(record) && names(&trail).is_empty());
        assert_eq!(trail.reach(at(4)), None);
    }
}
