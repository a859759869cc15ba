//! Where the program around the broker decides: who a client is, and what it may do.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lapwing_proto::packet::{ProtocolVersion, Publish, ReasonCode, SubscriptionOptions};
use lapwing_proto::topic::{TopicFilter, TopicFilterBuf};

use crate::mail::Mail;
use crate::mailbox::MailboxSender;
pub use crate::permit::{AllowAll, Authorizer, Decision, Grant, Permit, RuleId};
use crate::shard::ConnectionId;

/// Decides who a client is.
pub trait Authenticator: Send + Sync + 'static {
    /// Judges a CONNECT. Gives the verdict at once; or takes a [`Reply`] from `later`, gives `None`, and sends
    /// the verdict from any thread. The connection then waits, and what the client sends meanwhile is handled
    /// after it, in order.
    ///
    /// This runs on the thread that serves a share of all clients: work that takes longer than some
    /// microseconds belongs elsewhere.
    fn authenticate(&self, credentials: &Credentials<'_>, later: &Later<'_>) -> Option<Verdict>;

    /// Begins an extended authentication of 5.0 with this method, for a CONNECT or for a connected client that
    /// authenticates anew. `None`, as by default, if the method is not offered: the client is refused with 0x8C.
    fn begin_exchange(&self, method: &str, credentials: &Credentials<'_>) -> Option<Box<dyn Exchange>> {
        let _ = (method, credentials);
        None
    }

    /// Whether a client that was let in would still be, by the rules as they are now. Asked for every client that is
    /// connected after [`Control::rules_changed`](crate::Control::rules_changed); `false` ends its connection.
    fn still_accepts(&self, client: &Client) -> bool {
        let _ = client;
        true
    }
}

/// An extended authentication under way: challenges and responses until a verdict.
pub trait Exchange: Send + 'static {
    /// Judges what the client sent: the Authentication Data of its CONNECT or AUTH.
    ///
    /// It runs where [`Authenticator::authenticate`] does, so it must be quick as well.
    fn respond(&mut self, data: Option<&[u8]>) -> Step;
}

/// What follows in an extended authentication.
#[derive(Debug, Clone)]
pub enum Step {
    /// The client is sent this data, and is to answer.
    Challenge(Vec<u8>),
    /// The client is let in, or stays. It is sent this data in CONNACK or AUTH.
    Accept(Identity, Option<Vec<u8>>),
    /// The client is refused, or its connection ended, with this Reason Code and this text.
    Refuse(ReasonCode, String),
}

/// What a client presents in its CONNECT.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Whether the other end is on this machine.
    pub is_local: bool,
    /// The name of the listener that accepted the connection.
    pub listener: &'a str,
    /// The certificate of the client, in DER: one that the listener's authorities have signed, and whose key the client has.
    /// The certificates between are not there.
    pub certificate: Option<&'a [u8]>,
    /// The version that it speaks.
    pub version: ProtocolVersion,
    /// The client identifier; made by the broker if the client sent none.
    pub client_id: &'a str,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
}

impl fmt::Debug for Credentials<'_> {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("peer", &self.peer)
            .field("listener", &self.listener)
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// The outcome of an authentication.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The client is let in.
    Accept(Identity),
    /// The client is refused with this Reason Code, and this text in the log and, in 5.0, to the client.
    Refuse(ReasonCode, String),
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user name, as far as it means anything.
    pub user_name: Option<Arc<str>>,
    /// Under which the session is kept; the client identifier where it is `None`. Clients that take another
    /// client identifier at each connection keep their session by it.
    pub session_key: Option<Arc<str>>,
    /// Whose session it is. Nobody else can go on with it, end it, or take it over while it exists; `None` where the client
    /// has not shown who it is, so that the session is anybody's.
    pub owner: Option<Arc<str>>,
    /// What else is known of the client, by names, for an [`Authorizer`] to look at.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
    /// What came with the proof of who the client is, for an [`Authorizer`] to look at.
    pub grants: Option<Grants>,
    /// For how long from now on this holds; the connection ends after it. `None` for ever.
    pub valid_for: Option<Duration>,
    /// Subscriptions that the client has without asking for them, from each connection on.
    pub subscriptions: Vec<(TopicFilterBuf, SubscriptionOptions)>,
}

impl Identity {
    /// All clients of whom nothing is known share one: they may be many.
    pub(crate) fn into_shared(self) -> Arc<Self> {
        static NOBODY: LazyLock<Arc<Identity>> = LazyLock::new(Arc::default);
        if self == **NOBODY { Arc::clone(&NOBODY) } else { Arc::new(self) }
    }
}

/// A value of an authenticator's own that an [`Authorizer`] of the same kind understands.
#[derive(Clone)]
pub struct Grants(pub Arc<dyn Any + Send + Sync>);

impl PartialEq for Grants {
    /// Whether it is the very same value.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Grants {}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grants")
    }
}

/// From which an authenticator that needs time takes its [`Reply`].
#[derive(Debug)]
pub struct Later<'a> {
    mailbox: &'a MailboxSender,
    connection: ConnectionId,
}

impl<'a> Later<'a> {
    pub(crate) fn new(mailbox: &'a MailboxSender, connection: ConnectionId) -> Self {
        Self { mailbox, connection }
    }

    /// The way back to the connection.
    pub fn reply(&self) -> Reply {
        Reply { to: Some((self.mailbox.clone(), self.connection)) }
    }
}

/// Brings a verdict back to its connection. If it is dropped without one, the client is refused.
#[derive(Debug)]
pub struct Reply {
    to: Option<(MailboxSender, ConnectionId)>,
}

impl Reply {
    /// Gives the verdict.
    pub fn send(mut self, verdict: Verdict) {
        self.post(verdict);
    }

    fn post(&mut self, verdict: Verdict) {
        if let Some((mailbox, connection)) = self.to.take() {
            mailbox.send(Mail::Verdict(connection, verdict));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let reason = "the authenticator gave no verdict";
        self.post(Verdict::Refuse(ReasonCode::ServerUnavailable, reason.into()));
    }
}

/// Looks at each message of a client that may publish it, and at each will.
pub trait PublishFilter: Send + Sync + 'static {
    /// Says what becomes of the message. Its topic is there, and it is not changed.
    fn filter(&self, client: &Client, publish: &Publish<'_>) -> Filtered;
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtered {
    /// It is passed on.
    Pass,
    /// It is acknowledged as if it had been, and goes nowhere.
    Drop,
    /// It is refused with this Reason Code, one that a PUBACK may have. Before 5.0 that is as
    /// [`Drop`](Self::Drop).
    Refuse(ReasonCode),
}

/// Is told what happens to clients.
pub trait Observer: Send + Sync + 'static {
    /// It has happened. This runs on the thread that serves clients: what takes long belongs elsewhere.
    fn observe(&self, event: &Event<'_>);
}

/// Something that has happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A client was let in.
    Connected {
        /// The client.
        client: &'a Client,
        /// Whether it goes on with an earlier session.
        session_present: bool,
    },
    /// A CONNECT was refused.
    Refused {
        /// The other end of the connection.
        peer: SocketAddr,
        /// The client identifier; empty where the client sent none, or none that could be read.
        client_id: &'a str,
        /// With what the client was told.
        reason_code: ReasonCode,
        /// Why.
        reason: &'a str,
    },
    /// A connection has ended.
    Disconnected {
        /// The client.
        client: &'a Client,
        /// Of the DISCONNECT, whoever sent it; `None` if the connection was lost.
        reason_code: Option<ReasonCode>,
    },
    /// A client has subscribed, or was subscribed by the broker.
    Subscribed {
        /// The client.
        client: &'a Client,
        /// The filter.
        filter: TopicFilter<'a>,
        /// How its messages are delivered.
        options: SubscriptionOptions,
    },
    /// A client has unsubscribed.
    Unsubscribed {
        /// The client.
        client: &'a Client,
        /// The filter.
        filter: TopicFilter<'a>,
    },
    /// A session has ended. One begins with each [`Connected`](Self::Connected) that goes on with none.
    SessionEnded {
        /// The client identifier, or the key that the authenticator gave.
        session_key: &'a str,
    },
    /// Messages were dropped, since the queue of a session is full. Told a few times in a second at the most, however many
    /// there are.
    QueueFull {
        /// The client identifier, or the key that the authenticator gave.
        session_key: &'a str,
        /// How many were dropped since this was told of the session last.
        count: u64,
    },
    /// The broker has banned a client by itself, since it came again and again.
    Banned {
        /// The client identifier.
        client_id: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// A client that was let in.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client identifier.
    pub client_id: Arc<str>,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Whether the other end is on this machine.
    pub is_local: bool,
    /// The name of the listener that accepted the connection; empty for a client of an earlier process.
    pub listener: Arc<str>,
}

/// The decisions that a program takes for its broker.
#[derive(Clone)]
pub struct Hooks {
    /// Who is let in.
    pub authenticator: Arc<dyn Authenticator>,
    /// What clients may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// What becomes of each message, beyond permission.
    pub publish_filter: Option<Arc<dyn PublishFilter>>,
    /// Who is told what happens.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for Hooks {
    /// Lets clients on this machine in, and allows them everything.
    fn default() -> Self {
        Self {
            authenticator: Arc::new(Anonymous::default()),
            authorizer: Arc::new(AllowAll),
            publish_filter: None,
            observer: None,
        }
    }
}

/// Who is let in without further proof of who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Anonymous {
    /// Nobody.
    None,
    /// Clients on this machine, whatever user name and password they present.
    #[default]
    Loopback,
    /// Everybody.
    All,
}

impl Authenticator for Anonymous {
    fn authenticate(&self, credentials: &Credentials<'_>, _: &Later<'_>) -> Option<Verdict> {
        let accepted = match self {
            Self::None => false,
            Self::Loopback => credentials.is_local,
            Self::All => true,
        };
        let user_name = credentials.user_name.map(Arc::from);
        Some(if accepted {
            Verdict::Accept(Identity { user_name, ..Identity::default() })
        } else {
            let reason = match self {
                Self::Loopback => {
                    "only clients on this machine are let in without a password; \
                     authentication.anonymous = \"all\" lets everybody in"
                }
                _ => "clients without a known user name are not let in",
            };
            Verdict::Refuse(ReasonCode::NotAuthorized, reason.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use lapwing_proto::session::Instant;

    use super::*;
    use crate::explanation::Explain;
    use crate::limit::Limits;
    use crate::mailbox::mailbox;
    use crate::origin::Origin;
    use crate::rule::CompiledRules;
    use crate::shard::Shard;
    use crate::sharding::Sharding;
    use crate::shared::{ShardId, Shared, Stored};

    #[test]
    fn who_is_let_in_without_proof() {
        let peer = ([203, 0, 113, 7], 50_000).into();
        let (sender, mailbox) = mailbox(None);
        let hooks = Hooks { authenticator: Arc::new(Anonymous::None), ..Hooks::default() };
        let (limits, rules) = (Limits::default(), CompiledRules::default());
        let stored = Stored::new(1, None, lapwing_store::Sequence::default());
        let shared = Shared::new(
            (limits, None, Explain::default()),
            &Default::default(),
            rules,
            hooks,
            &Sharding::default(),
            vec![sender.clone()],
            stored,
        );
        let mut shard = Shard::new(ShardId(0), Arc::new(shared), mailbox);
        let connection = shard.accept(Origin::new(peer, false, "lan".into()), Instant::default()).unwrap();
        let is_accepted = |anonymous: Anonymous, is_local| {
            let credentials = Credentials {
                peer,
                is_local,
                listener: "lan",
                certificate: None,
                version: ProtocolVersion::V5,
                client_id: "c",
                user_name: Some("root"),
                password: Some(b"secret"),
            };
            match anonymous.authenticate(&credentials, &Later::new(&sender, connection)) {
                Some(Verdict::Accept(_)) => true,
                Some(Verdict::Refuse(reason_code, _)) => {
                    assert_eq!(reason_code, ReasonCode::NotAuthorized);
                    false
                }
                None => panic!("it needs no time"),
            }
        };
        assert_eq!(Anonymous::default(), Anonymous::Loopback);
        for (anonymous, from_here, from_elsewhere) in [
            (Anonymous::None, false, false),
            (Anonymous::Loopback, true, false),
            (Anonymous::All, true, true),
        ] {
            assert_eq!(is_accepted(anonymous, true), from_here, "{anonymous:?}");
            assert_eq!(is_accepted(anonymous, false), from_elsewhere, "{anonymous:?}");
        }
        assert!(shard.may_sleep(), "no verdict has been sent later");
    }
}
