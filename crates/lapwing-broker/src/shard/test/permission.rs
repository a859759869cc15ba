//! What clients may do, where rules change and clients come back.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapwing_proto::packet::{ProtocolVersion, ReasonCode, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf, TopicName};
use lapwing_store::engine::{Cut, FaultyDisk};

use super::broker::{Broker, clean, lasting};
use super::client::Client;
use super::judge::{Judge, Judged};
use super::message::{message, qos};
use super::{V5, V311, VERSIONS};
use crate::control::{Inquiry, Renewed};
use crate::hook::{self, Authenticator, Credentials, Grant, Identity, Later, Verdict};
use crate::mail::Mail;

/// Rules that a test changes: what begins with one of these words is not for clients whose identifiers begin with `c`.
#[derive(Default)]
struct Rules {
    secret: Mutex<Vec<&'static str>>,
    /// Whether a filter that matches more than is allowed is allowed nevertheless, message by message.
    is_checking: Mutex<bool>,
    /// Who is not let in any more.
    banned: Mutex<Option<&'static str>>,
}

impl Rules {
    fn may_read(&self, client: &hook::Client, topic: &str) -> bool {
        let is_secret = self.secret.lock().unwrap().iter().any(|word| topic.starts_with(word));
        !client.client_id.starts_with('c') || !is_secret
    }

    fn forbid(&self, words: &[&'static str]) {
        *self.secret.lock().unwrap() = words.to_vec();
    }
}

impl Judge for Rules {
    fn may_subscribe(&self, client: &hook::Client, filter: TopicFilter<'_>) -> Grant {
        let words = self.secret.lock().unwrap().clone();
        let may_match =
            |word: &&str| filter.pattern().starts_with(word) || filter.pattern().starts_with(['#', '+']);
        let is_any_secret = client.client_id.starts_with('c') && words.iter().any(may_match);
        match (is_any_secret, *self.is_checking.lock().unwrap()) {
            (false, _) => Grant::Granted(None),
            (true, true) => Grant::Checked(None),
            (true, false) => Grant::Denied(None),
        }
    }

    fn may_receive(&self, client: &hook::Client, topic: TopicName<'_>) -> bool {
        self.may_read(client, topic.as_str())
    }
}

/// Whose session it is says the user name.
struct Users(Arc<Rules>);

impl Authenticator for Users {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        let owner = credentials.user_name.map(Arc::from);
        let valid_for = (credentials.client_id == "short").then(|| Duration::from_secs(60));
        let given = TopicFilterBuf::new("secret/given".to_owned()).unwrap();
        let subscriptions = match credentials.client_id {
            "c-given" => vec![(given, SubscriptionOptions::new(qos(1)))],
            _ => Vec::new(),
        };
        Some(Verdict::Accept(Identity { owner, valid_for, subscriptions, ..Identity::default() }))
    }

    fn still_accepts(&self, client: &hook::Client) -> bool {
        *self.0.banned.lock().unwrap() != Some(&*client.client_id)
    }
}

fn guarded() -> (Broker, Arc<Rules>) {
    let rules = Arc::<Rules>::default();
    let broker = Broker::with(|setup| {
        setup.authorizer = Arc::new(Judged(Arc::clone(&rules)));
        setup.authenticator = Arc::new(Users(Arc::clone(&rules)));
    });
    (broker, rules)
}

/// The broker is told that the rules have changed.
fn renew(broker: &Broker) -> Renewed {
    let mut all = Renewed::default();
    let shards: Vec<_> = broker.world().shared.shards().collect();
    for shard in shards {
        let (reply, answer) = sync_channel(1);
        broker.world().shared.mailbox(shard).send(Mail::Inquiry(Box::new(Inquiry::Renew { reply })));
        broker.settle();
        let renewed = answer.try_recv().expect("it is done");
        all.clients += renewed.clients;
        all.disconnected += renewed.disconnected;
        all.unsubscribed += renewed.unsubscribed;
    }
    all
}

fn of_user(broker: &Broker, client_id: &str, user: Option<&str>) -> Client {
    let mut connect = lasting(V5, client_id);
    connect.user_name = user;
    broker.send_connect(&connect)
}

fn topics(client: &Client) -> Vec<String> {
    client.receive_all().into_iter().map(|message| message.topic).collect()
}

// [attack: filter-wider-than-rules]
#[test]
fn a_checked_subscription_is_given_only_what_its_client_may_have() {
    for version in VERSIONS {
        for bits in 0..3 {
            let (broker, rules) = guarded();
            rules.forbid(&["secret"]);
            *rules.is_checking.lock().unwrap() = true;
            let (publisher, client) = (broker.connect(V5, "p"), broker.connect(version, "c"));
            publisher.retain("secret/kept", "x", bits);
            publisher.retain("open/kept", "x", bits);
            client.subscribe("#", 2);
            assert_eq!(topics(&client), ["open/kept"]);
            let all = broker.connect(V5, "all");
            all.subscribe("#", 0);
            all.receive_all();
            for topic in ["secret/a", "open/a", "secret/b", "open/b", "open/b"] {
                publisher.publish(topic, "x", bits);
                publisher.retain(topic, "y", bits);
            }
            assert_eq!(topics(&client), ["open/a", "open/a", "open/b", "open/b", "open/b", "open/b"]);
            assert_eq!(topics(&all).len(), 10);
        }
    }
}

#[test]
fn a_shared_subscription_cannot_be_checked() {
    let (broker, rules) = guarded();
    rules.forbid(&["secret"]);
    *rules.is_checking.lock().unwrap() = true;
    let client = broker.connect(V5, "c");
    let options = SubscriptionOptions::new(qos(1));
    assert_eq!(client.subscribe_with("$share/g/#", options, None), ReasonCode::NotAuthorized);
    assert_eq!(client.subscribe_with("$share/g/open", options, None), ReasonCode::GrantedQoS1);
}

// [attack: revoked-subscription]
#[test]
fn a_subscription_that_is_not_allowed_any_more_is_removed() {
    let (broker, rules) = guarded();
    let (publisher, client) = (broker.connect(V5, "p"), broker.connect(V311, "c"));
    client.subscribe("secret/a", 1);
    client.subscribe("$share/g/secret/b", 1);
    client.subscribe("open", 1);
    publisher.publish("secret/a", "x", 1);
    assert_eq!(topics(&client), ["secret/a"]);
    rules.forbid(&["secret"]);
    assert_eq!(renew(&broker), Renewed { clients: 2, disconnected: 0, unsubscribed: 2 });
    for topic in ["secret/a", "secret/b", "open"] {
        publisher.publish(topic, "x", 1);
    }
    assert_eq!(topics(&client), ["open"]);
    rules.forbid(&[]);
    assert_eq!(renew(&broker).unsubscribed, 0);
    publisher.publish("secret/a", "x", 1);
    client.expect_nothing();
}

#[test]
fn a_subscription_becomes_checked_and_is_not_any_more() {
    let (broker, rules) = guarded();
    *rules.is_checking.lock().unwrap() = true;
    let (publisher, client) = (broker.connect(V5, "p"), broker.connect(V5, "c"));
    client.subscribe("#", 1);
    for (words, expected) in [
        (&[][..], vec!["secret", "open"]),
        (&["secret"], vec!["open"]),
        (&["open"], vec!["secret"]),
        (&["open", "secret"], vec![]),
        (&[], vec!["secret", "open"]),
    ] {
        rules.forbid(words);
        assert_eq!(renew(&broker).unsubscribed, 0);
        publisher.publish("secret", "x", 1);
        publisher.publish("open", "x", 1);
        assert_eq!(topics(&client), expected, "{words:?}");
    }
}

// [attack: revoked-subscription]
#[test]
fn what_waits_is_looked_at_when_the_rules_have_changed() {
    let (broker, rules) = guarded();
    let publisher = broker.connect(V5, "p");
    let mut connect = clean(V5, "c");
    connect.properties.receive_maximum = std::num::NonZero::new(1);
    let client = broker.join(&connect);
    client.subscribe("#", 1);
    for topic in ["open/1", "secret/1", "open/2", "secret/2"] {
        publisher.publish(topic, "x", 1);
    }
    let first = client.hold();
    rules.forbid(&["secret"]);
    assert_eq!(renew(&broker).unsubscribed, 1);
    client.acknowledge(&first);
    assert_eq!(topics(&client), ["open/2"]);
    assert_eq!(broker.stat().messages_dropped.not_permitted, 2);
    // From here on nothing is looked at.
    rules.forbid(&[]);
    renew(&broker);
    client.subscribe("secret/#", 1);
    publisher.publish("secret/3", "x", 1);
    assert_eq!(topics(&client), ["secret/3"]);
}

// [attack: revoked-subscription]
#[test]
fn what_has_waited_for_a_client_is_looked_at_when_it_comes_back() {
    for version in [V311, V5] {
        let (broker, rules) = guarded();
        let publisher = broker.connect(V5, "p");
        let client = broker.resume(version, "c");
        client.subscribe("secret/#", 2);
        client.subscribe("open/#", 2);
        client.lose();
        for topic in ["secret/1", "open/1", "secret/2", "open/2"] {
            publisher.publish(topic, "x", 2);
        }
        rules.forbid(&["secret"]);
        assert_eq!(renew(&broker), Renewed { clients: 1, ..Renewed::default() });
        let client = broker.resume(version, "c");
        assert_eq!(topics(&client), ["open/1", "open/2"]);
        assert_eq!(broker.stat().messages_dropped.not_permitted, 2);
        publisher.publish("secret/3", "x", 2);
        publisher.publish("open/3", "x", 2);
        assert_eq!(topics(&client), ["open/3"]);
    }
}

#[test]
fn nobody_need_allow_what_a_client_is_given() {
    let (broker, rules) = guarded();
    rules.forbid(&["secret"]);
    let publisher = broker.connect(V5, "p");
    let client = broker.resume(V5, "c-given");
    publisher.publish("secret/given", "1", 1);
    assert_eq!(topics(&client), ["secret/given"]);
    assert_eq!(renew(&broker).unsubscribed, 0);
    client.lose();
    publisher.publish("secret/given", "2", 1);
    let client = broker.resume(V5, "c-given");
    assert_eq!(topics(&client), ["secret/given"]);
}

#[test]
fn a_client_that_is_not_let_in_any_more_is_disconnected() {
    for version in VERSIONS {
        let (broker, rules) = guarded();
        let (stays, goes) = (broker.connect(version, "a"), broker.connect(version, "b"));
        *rules.banned.lock().unwrap() = Some("b");
        assert_eq!(renew(&broker), Renewed { clients: 2, disconnected: 1, unsubscribed: 0 });
        goes.expect_end(ReasonCode::NotAuthorized);
        stays.ping();
    }
}

#[test]
fn every_client_is_looked_at_also_where_they_are_many() {
    let (broker, rules) = guarded();
    let clients: Vec<_> = (0..700).map(|number| broker.connect(V5, &format!("c{number}"))).collect();
    clients.iter().for_each(|client| client.subscribe("secret", 0));
    rules.forbid(&["secret"]);
    assert_eq!(renew(&broker), Renewed { clients: 700, disconnected: 0, unsubscribed: 700 });
}

// [attack: session-hijack]
#[test]
fn a_session_is_for_its_owner_alone() {
    let (broker, _) = guarded();
    let is_let_in = |user| {
        let client = of_user(&broker, "a", user);
        client.next().connack().reason_code == ReasonCode::Success
    };
    assert!(is_let_in(None), "it is nobody's");
    assert!(is_let_in(Some("ann")), "from now on it is Ann's");
    assert!(!is_let_in(Some("bob")));
    assert!(!is_let_in(None));
    assert!(is_let_in(Some("ann")));
    let mut connect = clean(V5, "a");
    connect.user_name = Some("bob");
    broker.send_connect(&connect).expect_refusal(ReasonCode::NotAuthorized);
    connect.user_name = Some("ann");
    let client = broker.join(&connect);
    assert!(!client.session_present.get());
    client.disconnect();
    assert!(is_let_in(Some("bob")), "the session has ended");
}

// [attack: session-hijack]
#[test]
fn a_user_has_only_so_many_sessions() {
    let broker = Broker::with(|setup| {
        setup.disk = Some(FaultyDisk::new(7));
        setup.limits.sessions_per_user_maximum = 2;
        setup.authenticator = Arc::new(Users(Arc::default()));
    });
    let is_let_in = |client_id, user| {
        let client = of_user(&broker, client_id, user);
        client.next().connack().reason_code == ReasonCode::Success
    };
    assert!(is_let_in("a", Some("ann")) && is_let_in("b", Some("ann")));
    of_user(&broker, "c", Some("ann")).expect_refusal(ReasonCode::QuotaExceeded);
    assert!(is_let_in("a", Some("ann")), "it goes on with one that it has");
    assert!(
        is_let_in("c", Some("bob")) && is_let_in("d", None) && is_let_in("e", None) && is_let_in("f", None)
    );
    broker.restart(Cut::Power);
    of_user(&broker, "g", Some("ann")).expect_refusal(ReasonCode::QuotaExceeded);
    let mut connect = clean(V5, "a");
    connect.user_name = Some("ann");
    broker.join(&connect).disconnect();
    assert!(is_let_in("g", Some("ann")), "one of them has ended");
}

#[test]
fn the_owner_of_a_session_is_stored_with_it() {
    let broker = Broker::with(|setup| {
        setup.disk = Some(FaultyDisk::new(7));
        setup.authenticator = Arc::new(Users(Arc::default()));
    });
    of_user(&broker, "a", Some("ann")).lose();
    of_user(&broker, "b", None).lose();
    broker.restart(Cut::Power);
    of_user(&broker, "a", Some("bob")).expect_refusal(ReasonCode::NotAuthorized);
    of_user(&broker, "a", None).expect_refusal(ReasonCode::NotAuthorized);
    for (client_id, user) in [("a", "ann"), ("b", "bob")] {
        let answer = of_user(&broker, client_id, Some(user)).next();
        assert!(answer.connack().session_present, "{client_id}");
    }
}

// [attack: expired-token]
#[test]
fn a_connection_ends_with_the_proof_of_who_its_client_is() {
    for version in VERSIONS {
        let (broker, _) = guarded();
        let (short, long) = (broker.connect(version, "short"), broker.connect(version, "long"));
        broker.advance_s(59);
        short.ping();
        broker.advance_s(1);
        short.expect_end(ReasonCode::MaximumConnectTime);
        long.ping();
    }
}

// [attack: expired-token]
#[test]
fn it_does_so_also_where_very_many_have_come_and_gone() {
    let (broker, _) = guarded();
    let short = broker.connect(V5, "short");
    (0..4000).for_each(|_| broker.connect(V5, "passing").disconnect());
    broker.advance_s(60);
    short.expect_end(ReasonCode::MaximumConnectTime);
}

// [attack: revoked-subscription]
#[test]
fn a_message_that_waits_on_the_disk_is_looked_at_as_well() {
    let rules = Arc::<Rules>::default();
    let broker = Broker::with(|setup| {
        setup.disk = Some(FaultyDisk::new(7));
        setup.limits.queue_memory_bytes = 2048;
        setup.authorizer = Arc::new(Judged(Arc::clone(&rules)));
    });
    let subscriber = lasting(ProtocolVersion::V5, "c");
    let client = broker.join(&subscriber);
    client.subscribe("#", 1);
    client.lose();
    let publisher = broker.connect(V5, "p");
    for number in 0..200 {
        let topic = if number % 2 == 0 { "open" } else { "secret" };
        publisher.publish_message(message(topic, &number.to_string()).qos(1));
    }
    broker.restart(Cut::Process);
    rules.forbid(&["secret"]);
    let client = broker.join(&subscriber);
    let payloads: Vec<_> = client.receive_all().into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, (0..100).map(|number| (2 * number).to_string()).collect::<Vec<_>>());
    assert_eq!(broker.stat().messages_dropped.not_permitted, 100);
}
