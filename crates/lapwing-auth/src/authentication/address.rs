//! Clients by where they come from, and how long they must wait who present wrong passwords.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use lapwing_broker::Network;

/// How long each place must wait before the next password of it is looked at.
#[derive(Debug)]
pub(super) struct Delays {
    /// Two halves: what is in neither was long ago. `new` becomes `old` when it is full, so that the table is bounded and the places
    /// that come again stay in it.
    new: HashMap<Network, Failures>,
    old: HashMap<Network, Failures>,
    longest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Wrong passwords that cost nothing: people mistype, and a household has several people.
const FREE: u32 = 5;
/// What the first one behind them costs; each further one costs twice as much.
const FIRST: Duration = Duration::from_millis(100);
/// After so long without another one they are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// Places in a half of the table.
const PLACES_MAXIMUM: usize = 16_384;

impl Delays {
    /// With delays up to `longest`; zero for none.
    pub(super) fn new(longest: Duration) -> Self {
        Self { new: HashMap::new(), old: HashMap::new(), longest }
    }

    /// Delays are up to this from now on.
    pub(super) fn limit(&mut self, longest: Duration) {
        self.longest = longest;
    }

    /// A wrong password came from there.
    pub(super) fn fail(&mut self, place: Network, now: Instant) {
        let count = self.failures(place, now).map_or(1, |failures| failures.count.saturating_add(1));
        self.old.remove(&place);
        if self.new.len() >= PLACES_MAXIMUM && !self.new.contains_key(&place) {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(place, Failures { count, last: now });
    }

    /// From when on a password from there is looked at; `None` for at once.
    pub(super) fn not_before(&self, place: Network, now: Instant) -> Option<Instant> {
        let Failures { count, last } = self.failures(place, now)?;
        let doublings = count.checked_sub(FREE + 1)?;
        let delay = FIRST.saturating_mul(1 << doublings.min(20)).min(self.longest);
        last.checked_add(delay).filter(|&until| until > now)
    }

    fn failures(&self, place: Network, now: Instant) -> Option<Failures> {
        let known = self.new.get(&place).or_else(|| self.old.get(&place)).copied();
        known.filter(|failures| now.saturating_duration_since(failures.last) < FORGOTTEN_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn place(text: &str) -> Network {
        Network::household(text.parse().unwrap())
    }

    #[test]
    fn a_network_of_ipv6_is_one_place() {
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1:2:3"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:10.0.0.1"), place("10.0.0.1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }

    // [attack: password-guessing]
    #[test]
    fn each_wrong_password_doubles_the_delay_until_it_is_forgotten() {
        let (start, home) = (Instant::now(), place("10.0.0.1"));
        let mut delays = Delays::new(Duration::from_secs(1));
        let mut waits = Vec::new();
        for _ in 0..11 {
            delays.fail(home, start);
            let wait = delays.not_before(home, start).map(|until| until - start);
            waits.push(wait.map_or(0, |wait| wait.as_millis()));
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(delays.not_before(place("10.0.0.2"), start), None, "nobody else waits");
        assert_eq!(delays.not_before(home, start + Duration::from_secs(1)), None);
        delays.fail(home, start + FORGOTTEN_AFTER);
        assert_eq!(delays.not_before(home, start + FORGOTTEN_AFTER), None, "it counts from the beginning");
        let mut off = Delays::new(Duration::ZERO);
        (0..100).for_each(|_| off.fail(home, start));
        assert_eq!(off.not_before(home, start), None);
    }

    // [attack: password-guessing]
    #[test]
    fn the_table_is_bounded_and_keeps_who_goes_on() {
        let now = Instant::now();
        let mut delays = Delays::new(Duration::from_secs(10));
        let home = place("10.0.0.1");
        for n in 0..3 * PLACES_MAXIMUM as u32 {
            if n % 1000 == 0 {
                delays.fail(home, now);
            }
            delays.fail(Network::household(IpAddr::from((0x0b00_0000 + n).to_be_bytes())), now);
        }
        assert!(delays.new.len() + delays.old.len() <= 2 * PLACES_MAXIMUM);
        assert_eq!(delays.failures(home, now).unwrap().count, 50);
    }
}
