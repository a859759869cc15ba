//! What a simulation knows of the broker: the wires of its clients, and how to let it work.

use std::sync::Arc;

use super::super::broker::{Broker, WireId, World};
use super::super::random::Random;
use crate::shard::Shard;
use crate::shared::Shared;

/// A broker of several shards whose turns come in an order of the seed's.
pub(super) trait Network {
    /// A new connection.
    fn accept(&mut self) -> WireId;
    /// Sends bytes.
    fn feed(&mut self, id: WireId, bytes: &[u8]);
    /// The next packet that has come.
    fn next_packet(&mut self, id: WireId) -> Option<Vec<u8>>;
    /// Whether the broker has ended a connection.
    fn is_closed(&self, id: WireId) -> bool;
    /// A connection is lost.
    fn close(&mut self, id: WireId);
    /// How many connections there were so far.
    fn count(&self) -> usize;
    /// Whether nothing is written to a client.
    fn is_blocked(&self, id: WireId) -> bool;
    fn block(&mut self, id: WireId, is_blocked: bool);
    /// Whether something that was sent has not been read from a connection that is still there.
    fn has_unread(&self) -> bool;
    /// Lets the shards work for a moment.
    fn go_on(&mut self, random: &mut Random);
    /// Lets the shard of a wire read what was sent on it, if it can be told to; whether it has.
    fn read_at_once(&mut self, id: WireId) -> bool;
    /// Until nothing happens any more.
    fn settle(&mut self);
    fn shared(&self) -> Arc<Shared>;
}

/// Shards that are stepped: a turn is one step.
pub(super) struct Stepped {
    broker: Broker,
    /// A shard that takes no turn for a while.
    starving: Option<usize>,
}

impl Stepped {
    /// With so many shards, and bytes that arrive in pieces of this size.
    pub(super) fn new(shards: usize, chunk: usize) -> Self {
        let broker = Broker::with(|setup| setup.shards = shards);
        broker.split(chunk);
        broker.world().is_stepwise = true;
        Self { broker, starving: None }
    }
}

impl Network for Stepped {
    fn accept(&mut self) -> WireId {
        self.broker.world().accept()
    }

    fn feed(&mut self, id: WireId, bytes: &[u8]) {
        self.broker.world().feed(id, bytes);
    }

    fn next_packet(&mut self, id: WireId) -> Option<Vec<u8>> {
        self.broker.world().wires.get_mut(&id)?.inbox.pop_front()
    }

    fn is_closed(&self, id: WireId) -> bool {
        self.broker.world().wires[&id].is_closed
    }

    fn close(&mut self, id: WireId) {
        self.broker.world().close(id);
    }

    fn count(&self) -> usize {
        self.broker.world().wires.len()
    }

    fn is_blocked(&self, id: WireId) -> bool {
        self.broker.world().wires[&id].is_blocked
    }

    fn block(&mut self, id: WireId, is_blocked: bool) {
        let mut world = self.broker.world();
        if let Some(wire) = world.wires.get_mut(&id) {
            wire.is_blocked = is_blocked;
        }
        if let Some((shard, connection)) = world.end(id) {
            shard.mark_dirty(connection);
        }
    }

    fn has_unread(&self) -> bool {
        self.broker.world().wires.values().any(|wire| !wire.unread.is_empty() && !wire.is_closed)
    }

    fn go_on(&mut self, random: &mut Random) {
        let mut world = self.broker.world();
        let count = world.shards.len();
        if random.once_in(15) {
            self.starving = Some(random.below(count)).filter(|_| random.once_in(2));
        }
        let at = random.below(count);
        if self.starving != Some(at) {
            world.turn(at);
        }
    }

    fn read_at_once(&mut self, id: WireId) -> bool {
        let mut world = self.broker.world();
        let at = world.wires[&id].shard;
        world.turn(at);
        // Unless it is held back.
        world.wants_bytes(id) && world.wires[&id].unread.is_empty()
    }

    fn settle(&mut self) {
        let mut world = self.broker.world();
        World::settle(&mut world);
        world.shards.iter().for_each(Shard::leave_report);
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.broker.world().shared)
    }
}
