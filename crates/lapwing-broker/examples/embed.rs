//! A broker inside a program: who may come in, what they may do, and what happens, decided here.
//!
//! `cargo run --package lapwing-broker --example embed`, then for instance
//! `lapwing pub gate/door_1/event open -u door_1 -q 1` and `lapwing pub gate/door_2/event open -u door_1 -q 1`,
//! of which the second is refused.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::sync::Arc;

use lapwing_broker::hook::{Authenticator, Authorizer, Client, Credentials, Decision, Event, Grant};
use lapwing_broker::hook::{Hooks, Identity, Later, Observer, Permit, Verdict};
use lapwing_broker::{Broker, Config};
use lapwing_proto::packet::{QoS, ReasonCode};
use lapwing_proto::topic::{TopicFilter, TopicName};

/// Doors have a user name. (A real program would look at the password.)
struct Doors;

impl Authenticator for Doors {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        Some(match credentials.user_name {
            Some(name) => Verdict::Accept(Identity { user_name: Some(name.into()), ..Identity::default() }),
            None => Verdict::Refuse(ReasonCode::BadUserNameOrPassword, "a door says its name".to_owned()),
        })
    }
}

/// A door publishes below its own name, and reads everything.
impl Authorizer for Doors {
    fn permit(&self, client: &Client) -> Arc<dyn Permit> {
        Arc::new(Door { name: client.identity.user_name.clone() })
    }
}

/// What one door may do.
struct Door {
    name: Option<Arc<str>>,
}

impl Permit for Door {
    fn may_publish(&self, topic: TopicName<'_>, _: QoS, _: bool) -> Decision {
        let mut levels = topic.levels();
        let is_own = levels.next() == Some("gate") && levels.next() == self.name.as_deref();
        if is_own { Decision::ALLOWED } else { Decision::DENIED }
    }

    fn may_subscribe(&self, _: TopicFilter<'_>) -> Grant {
        Grant::Granted(None)
    }

    fn may_receive(&self, _: TopicName<'_>) -> Decision {
        Decision::ALLOWED
    }
}

/// Prints what happens.
struct Printer;

impl Observer for Printer {
    fn observe(&self, event: &Event<'_>) {
        println!("{event:?}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hooks = Hooks {
        authenticator: Arc::new(Doors),
        authorizer: Arc::new(Doors),
        observer: Some(Arc::new(Printer)),
        ..Hooks::default()
    };
    let broker = Broker::start(Config { hooks, ..Config::default() })?;
    println!("listening on {}; Enter ends it", broker.listening()[0]);
    std::io::stdin().read_line(&mut String::new())?;
    broker.shut_down()?;
    Ok(())
}
