//! Who may come in at all: bans, how many connections there may be, and clients that come again and again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use hashbrown::HashMap;
use lapwing_net::Network;
use lapwing_proto::session::Instant;

use crate::ban::{Ban, BanTarget};
use crate::limit::{Limits, ListenerLimits};
use crate::sync::{AtomicUsize, Mutex, Ordering, RwLock};

/// Bans that there may be.
const BANS_MAXIMUM: usize = 100_000;
/// Client identifiers whose arrivals are counted.
const ARRIVALS_MAXIMUM: usize = 65_536;

/// Who may come in.
pub(crate) struct Admission {
    bans: RwLock<Bans>,
    /// How many there are, so that nobody need look where there is none.
    count: AtomicUsize,
    seats: Arc<Seats>,
    quotas: RwLock<Quotas>,
    flapping: Mutex<Flapping>,
}

/// What holds for the connections of a listener.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quota {
    /// By where they are counted.
    place: usize,
    connections_maximum: usize,
    /// Connections that are accepted in a second; 0 for any number.
    pub(crate) connect_rate: u32,
    /// Packets and bytes that are read from each in a second; 0 for any number.
    pub(crate) packet_rate: u32,
    pub(crate) byte_rate: u32,
    /// Bytes that are written to each in a second; 0 for any number.
    pub(crate) client_byte_rate: u32,
}

#[derive(Debug)]
struct Quotas {
    listeners: HashMap<Arc<str>, Quota>,
    /// For listeners that have nothing of their own.
    all: Quota,
}

impl Quotas {
    fn new(limits: &Limits, listeners: &BTreeMap<Arc<str>, ListenerLimits>) -> Self {
        let all = Quota {
            place: 0,
            connections_maximum: 0,
            connect_rate: limits.connect_rate_maximum,
            packet_rate: limits.packet_rate_maximum,
            byte_rate: limits.byte_rate_maximum,
            client_byte_rate: limits.client_byte_rate_maximum,
        };
        let quota = |(place, (name, own)): (usize, (&Arc<str>, &ListenerLimits))| {
            let quota = Quota {
                place: place + 1,
                connections_maximum: own.connections_maximum.unwrap_or(0),
                connect_rate: own.connect_rate_maximum.unwrap_or(all.connect_rate),
                packet_rate: own.packet_rate_maximum.unwrap_or(all.packet_rate),
                byte_rate: own.byte_rate_maximum.unwrap_or(all.byte_rate),
                client_byte_rate: own.client_byte_rate_maximum.unwrap_or(all.client_byte_rate),
            };
            (Arc::clone(name), quota)
        };
        Self { listeners: listeners.iter().enumerate().map(quota).collect(), all }
    }

    /// Takes the values of other ones for the listeners that there are, which keep their places.
    fn update(&mut self, other: &Self) {
        self.all = other.all;
        for (name, quota) in &mut self.listeners {
            let next = other.listeners.get(name).unwrap_or(&other.all);
            *quota = Quota { place: quota.place, ..*next };
        }
    }
}

/// A ban, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) reason: Arc<str>,
    pub(crate) until: Option<Instant>,
    pub(crate) is_automatic: bool,
}

/// Bans by whom they keep out.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    addresses: BTreeMap<Network, Kept>,
    client_ids: HashMap<Box<str>, Kept>,
    users: HashMap<Box<str>, Kept>,
}

/// There are as many bans as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyBans;

/// Why a connection is closed before anything is read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Its address is banned, for this reason.
    Banned(Arc<str>),
    /// There are as many as there may be.
    TooMany,
    /// There are as many from its address as there may be.
    TooManyOfAddress,
    /// There are as many at its listener as there may be.
    TooManyOfListener,
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Banned(reason) => write!(f, "its address is banned ({reason})"),
            Self::TooMany => f.write_str("there are limits.connections_maximum connections"),
            Self::TooManyOfAddress => {
                f.write_str("there are limits.connections_per_address_maximum connections from its address")
            }
            Self::TooManyOfListener => {
                f.write_str("there are as many connections as the listener may have (connections_maximum)")
            }
        }
    }
}

/// How many connections there are.
#[derive(Debug, Default)]
struct Seats {
    all: AtomicUsize,
    by_listener: Vec<AtomicUsize>,
    /// By household; only where there is a limit on it.
    by_address: Mutex<HashMap<Network, usize>>,
}

/// The place of one connection among all. It is free when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    listener: usize,
    household: Option<Network>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits, listeners: &BTreeMap<Arc<str>, ListenerLimits>) -> Self {
        let quotas = Quotas::new(limits, listeners);
        let by_listener = (0..=quotas.listeners.len()).map(|_| AtomicUsize::new(0)).collect();
        Self {
            bans: RwLock::default(),
            count: AtomicUsize::new(0),
            seats: Arc::new(Seats { by_listener, ..Seats::default() }),
            quotas: RwLock::new(quotas),
            flapping: Mutex::default(),
        }
    }

    /// What holds for the connections of a listener.
    pub(crate) fn quota(&self, listener: &str) -> Quota {
        let quotas = self.quotas.read().unwrap_or_else(PoisonError::into_inner);
        quotas.listeners.get(listener).copied().unwrap_or(quotas.all)
    }

    /// The limits have been configured anew. Connections that were not counted so far are not counted from now on either.
    pub(crate) fn set_limits(&self, limits: &Limits, listeners: &BTreeMap<Arc<str>, ListenerLimits>) {
        let next = Quotas::new(limits, listeners);
        self.quotas.write().unwrap_or_else(PoisonError::into_inner).update(&next);
    }

    /// Lets a connection in, or says why not. Its address counts where it is known. It counts for as long as the seat is there; `None` where nobody counts.
    pub(crate) fn admit(
        &self,
        address: Option<IpAddr>,
        listener: &str,
        limits: &Limits,
        now: Instant,
    ) -> Result<Option<Arc<Seat>>, Turned> {
        if self.has_bans()
            && let Some(reason) = address.and_then(|address| self.read().address(address, now))
        {
            return Err(Turned::Banned(reason));
        }
        let quota = self.quota(listener);
        let (all, of_address) = (limits.connections_maximum, limits.connections_per_address_maximum);
        if all == 0 && of_address == 0 && quota.connections_maximum == 0 {
            return Ok(None);
        }
        self.seats.take(quota, all, of_address, address).map(|seat| Some(Arc::new(seat)))
    }

    /// Why a client is kept out, if it is.
    pub(crate) fn ban_of(
        &self,
        address: IpAddr,
        client_id: &str,
        user: Option<&str>,
        now: Instant,
    ) -> Option<Arc<str>> {
        if !self.has_bans() {
            return None;
        }
        let bans = self.read();
        let of_user =
            || bans.users.get(user?).filter(|ban| ban.holds(now)).map(|ban| Arc::clone(&ban.reason));
        let of_client =
            || bans.client_ids.get(client_id).filter(|ban| ban.holds(now)).map(|ban| Arc::clone(&ban.reason));
        bans.address(address, now).or_else(of_client).or_else(of_user)
    }

    /// A client has come whose session is on this broker. Whether it comes so often that it is kept out from now on: then how
    /// often, and for how long.
    pub(crate) fn note_arrival(&self, client_id: &str, limits: &Limits, now: Instant) -> Option<u32> {
        if limits.flapping_connects_maximum == 0 {
            return None;
        }
        let mut flapping = self.flapping.lock().unwrap_or_else(PoisonError::into_inner);
        let window = Duration::from_secs(limits.flapping_window_s.into());
        let count = flapping.note(client_id, window, now);
        if count <= limits.flapping_connects_maximum {
            return None;
        }
        flapping.arrivals.remove(client_id);
        drop(flapping);
        let reason = format!("it connected {count} times within {} s", limits.flapping_window_s);
        let until = Some(now + Duration::from_secs(limits.flapping_ban_s.into()));
        let kept = Kept { reason: reason.into(), until, is_automatic: true };
        // Where there are too many bans, this client is let in again.
        let _ = self.ban(BanTarget::ClientId(client_id.to_owned()), kept, now);
        Some(count)
    }

    /// As [`ban`](Self::ban), for a ban by the clock of the machine.
    pub(crate) fn keep_out(&self, ban: Ban, now: Instant) -> Result<(), TooManyBans> {
        let until = ban.until.map(|until| now + until.duration_since(SystemTime::now()).unwrap_or_default());
        let kept = Kept { reason: ban.reason.into(), until, is_automatic: ban.is_automatic };
        self.ban(ban.target, kept, now)
    }

    /// Keeps somebody out, in place of an earlier ban of the same.
    pub(crate) fn ban(&self, target: BanTarget, kept: Kept, now: Instant) -> Result<(), TooManyBans> {
        let mut bans = self.write();
        if bans.len() >= BANS_MAXIMUM {
            bans.remove_expired(now);
        }
        if bans.len() >= BANS_MAXIMUM {
            return Err(TooManyBans);
        }
        match target {
            BanTarget::Address(range) => bans.addresses.insert(range, kept),
            BanTarget::ClientId(client_id) => bans.client_ids.insert(client_id.into(), kept),
            BanTarget::User(user) => bans.users.insert(user.into(), kept),
        };
        self.count.store(bans.len(), Ordering::Release);
        Ok(())
    }

    /// Ends a ban; whether there was one.
    pub(crate) fn unban(&self, target: &BanTarget) -> bool {
        let mut bans = self.write();
        let removed = match target {
            BanTarget::Address(range) => bans.addresses.remove(range),
            BanTarget::ClientId(client_id) => bans.client_ids.remove(client_id.as_str()),
            BanTarget::User(user) => bans.users.remove(user.as_str()),
        };
        self.count.store(bans.len(), Ordering::Release);
        removed.is_some()
    }

    /// All bans that hold.
    pub(crate) fn bans(&self, now: Instant) -> Vec<(BanTarget, Kept)> {
        let mut bans = self.write();
        bans.remove_expired(now);
        self.count.store(bans.len(), Ordering::Release);
        let addresses = bans.addresses.iter().map(|(range, ban)| (BanTarget::Address(*range), ban.clone()));
        let clients =
            bans.client_ids.iter().map(|(id, ban)| (BanTarget::ClientId((**id).into()), ban.clone()));
        let users = bans.users.iter().map(|(user, ban)| (BanTarget::User((**user).into()), ban.clone()));
        let mut all: Vec<_> = addresses.chain(clients).chain(users).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    fn has_bans(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    fn read(&self) -> RwLockReadGuard<'_, Bans> {
        self.bans.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Bans> {
        self.bans.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Bans {
    fn len(&self) -> usize {
        self.addresses.len() + self.client_ids.len() + self.users.len()
    }

    fn address(&self, address: IpAddr, now: Instant) -> Option<Arc<str>> {
        // Ranges can lie in each other, so that each is looked at. People make few of them.
        let mut found =
            self.addresses.iter().filter(|(range, ban)| range.contains(address) && ban.holds(now));
        found.next().map(|(_, ban)| Arc::clone(&ban.reason))
    }

    fn remove_expired(&mut self, now: Instant) {
        self.addresses.retain(|_, ban| ban.holds(now));
        self.client_ids.retain(|_, ban| ban.holds(now));
        self.users.retain(|_, ban| ban.holds(now));
    }
}

impl Seats {
    fn take(
        self: &Arc<Self>,
        quota: Quota,
        all_maximum: usize,
        of_address_maximum: usize,
        address: Option<IpAddr>,
    ) -> Result<Seat, Turned> {
        // From here on its drop gives back what it has taken.
        let mut seat = Seat { seats: Arc::clone(self), listener: quota.place, household: None };
        let all = self.all.fetch_add(1, Ordering::Relaxed);
        let of_listener = self.by_listener[quota.place].fetch_add(1, Ordering::Relaxed);
        if all_maximum > 0 && all >= all_maximum {
            return Err(Turned::TooMany);
        }
        if quota.connections_maximum > 0 && of_listener >= quota.connections_maximum {
            return Err(Turned::TooManyOfListener);
        }
        if let Some(address) = address.filter(|_| of_address_maximum > 0) {
            let household = Network::household(address);
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.entry(household).or_insert(0);
            if *count >= of_address_maximum {
                return Err(Turned::TooManyOfAddress);
            }
            *count += 1;
            seat.household = Some(household);
        }
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.all.fetch_sub(1, Ordering::Relaxed);
        self.seats.by_listener[self.listener].fetch_sub(1, Ordering::Relaxed);
        let Some(household) = self.household else { return };
        let mut by_address = self.seats.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&household) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&household);
            }
        }
    }
}

/// Which clients have come lately, and how often.
#[derive(Debug, Default)]
struct Flapping {
    arrivals: HashMap<Box<str>, Arrivals>,
}

#[derive(Debug, Clone, Copy)]
struct Arrivals {
    since: Instant,
    count: u32,
}

impl Flapping {
    /// How often a client has come within the window, this time included.
    fn note(&mut self, client_id: &str, window: Duration, now: Instant) -> u32 {
        if let Some(arrivals) = self.arrivals.get_mut(client_id) {
            if arrivals.since + window <= now {
                *arrivals = Arrivals { since: now, count: 0 };
            }
            arrivals.count += 1;
            return arrivals.count;
        }
        if self.arrivals.len() >= ARRIVALS_MAXIMUM {
            self.arrivals.retain(|_, arrivals| arrivals.since + window > now);
        }
        if self.arrivals.len() >= ARRIVALS_MAXIMUM {
            // A crowd, in which nobody stands out.
            self.arrivals.clear();
        }
        self.arrivals.insert(client_id.into(), Arrivals { since: now, count: 1 });
        1
    }
}
