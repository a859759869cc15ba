//! The methods of a listener, one after the other.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lapwing_broker::hook::{Anonymous, Credentials};

use super::http::Service;
use super::jwt::{self, Tokens};
use super::proof::{Opinion, Presented, Proof, Proven, Refusal};
use super::{certificate, scram};
use crate::config::CertificateUser;
use crate::password::{Users, Verification, Workspace};
use crate::secret::Secret;

/// The methods by which clients of a listener can show who they are, in their order, and whether others are let in.
#[derive(Debug)]
pub(super) struct Chain {
    /// Tells it from other chains, for what is remembered of verdicts.
    pub(super) number: u32,
    pub(super) members: Vec<Member>,
    /// Who is let in without proof; `None` for nobody.
    pub(super) anonymous: Option<Anonymous>,
}

/// A method with what it needs.
#[derive(Debug, Clone)]
pub(super) enum Member {
    Certificate(CertificateUser, Option<Arc<Users>>),
    Jwt(Arc<Tokens>),
    Password(Arc<Users>),
    Http(Arc<Service>),
}

/// Which threads do the work of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Station {
    /// Those that compute.
    Hashing,
    /// Those that wait for a service.
    Asking,
}

/// How far the methods have come.
#[derive(Debug)]
pub(super) enum Progress {
    /// One has decided, or all have been asked. What is decided may be remembered for so long, if that is not for as long as others.
    Verdict(Result<Proven, Refusal>, Option<Duration>),
    /// The member with this number is for other threads.
    Elsewhere(usize),
}

/// What can be said at once.
#[derive(Debug)]
pub(super) enum Quick {
    /// The client has shown who it is, or what it presented is wrong.
    Verdict(Result<Proven, Refusal>),
    /// A thread must look at it, from this member on.
    Work(usize),
    /// It has presented nothing that any method looks at.
    Nothing,
}

/// What a client is told that presented something which nobody knows. It is the same for a wrong user name and a wrong password.
pub(super) const WRONG: &str = "the user name or the password is wrong";

impl Chain {
    /// What can be said on a thread that serves clients.
    pub(super) fn look(&self, credentials: &Credentials<'_>) -> Quick {
        let (has_user, password) = (credentials.user_name.is_some(), credentials.password);
        for (index, member) in self.members.iter().enumerate() {
            if let Member::Certificate(user, users) = member {
                let opinion =
                    credentials.certificate.map(|der| certificate::judge(der, *user, users.as_deref()));
                match opinion {
                    Some(Opinion::Accept(proven)) => return Quick::Verdict(Ok(proven)),
                    Some(Opinion::Refuse(reason)) => return Quick::Verdict(Err(Refusal::Wrong(reason))),
                    Some(Opinion::Fault(reason)) => return Quick::Verdict(Err(Refusal::Unavailable(reason))),
                    Some(Opinion::Unknown) | None => {}
                }
            } else if member.looks_at(has_user, password) {
                return Quick::Work(index);
            }
        }
        match self.members.is_empty() || !(has_user || password.is_some()) {
            true => Quick::Nothing,
            false => Quick::Verdict(Err(Refusal::Wrong(WRONG))),
        }
    }

    /// The users that can authenticate by this method of extended authentication, if there are any.
    pub(super) fn exchange(&self, method: &str) -> Option<&Arc<Users>> {
        self.members.iter().find_map(|member| match member {
            Member::Password(users) if method == scram::METHOD && users.has_scram() => Some(users),
            _ => None,
        })
    }

    /// What the members from this one on say, as far as it is for the threads of the first of them; however long it takes.
    pub(super) fn judge(&self, first: usize, presented: &Presented, workspace: &mut Workspace) -> Progress {
        let station = self.station(first);
        let (has_user, password) = (presented.user.is_some(), presented.password.as_ref());
        for (index, member) in self.members.iter().enumerate().skip(first) {
            let is_certificate = matches!(member, Member::Certificate(..));
            if !is_certificate && !member.looks_at(has_user, password.map(Secret::reveal)) {
                continue;
            }
            if !is_certificate && member.station() != station {
                return Progress::Elsewhere(index);
            }
            let verdict = match member.judge(presented, workspace) {
                Opinion::Accept(proven) => Ok(proven),
                Opinion::Refuse(reason) => Err(Refusal::Wrong(reason)),
                Opinion::Fault(reason) => Err(Refusal::Unavailable(reason)),
                Opinion::Unknown => continue,
            };
            return Progress::Verdict(verdict, member.remember_for());
        }
        let shortest = self.members.iter().filter_map(Member::remember_for).min();
        Progress::Verdict(Err(Refusal::Wrong(WRONG)), shortest)
    }

    /// Which threads work for the member with this number.
    pub(super) fn station(&self, index: usize) -> Station {
        self.members.get(index).map_or(Station::Hashing, Member::station)
    }

    /// Whether any member decides by more than the user name and the password.
    pub(super) fn sees_surroundings(&self) -> bool {
        let is_certificate = |member: &Member| matches!(member, Member::Certificate(..));
        let rest = self.members.iter().skip_while(|member| is_certificate(member));
        // Certificates in front have been looked at before anything is remembered.
        { rest }.any(|member| is_certificate(member) || matches!(member, Member::Http(_)))
    }

    /// Whether who has shown in this way who it is could still do so.
    pub(super) fn accepts(&self, proof: &Proof) -> bool {
        self.members.iter().any(|member| match (proof, member) {
            (Proof::Password, Member::Password(_)) => true,
            (Proof::Certificate(own), Member::Certificate(user, _)) => own == user,
            (Proof::Token { key, terms }, Member::Jwt(tokens)) => tokens.accept(key, terms),
            (Proof::Http { url }, Member::Http(service)) => *url == service.url,
            _ => false,
        })
    }
}

impl Member {
    /// Whether it may have something to say of this. Certificates are another matter.
    fn looks_at(&self, has_user: bool, password: Option<&[u8]>) -> bool {
        match self {
            Self::Certificate(..) => false,
            Self::Jwt(_) => password.is_some_and(jwt::is_token),
            Self::Password(_) => has_user && password.is_some(),
            Self::Http(_) => has_user || password.is_some(),
        }
    }

    pub(super) fn station(&self) -> Station {
        match self {
            Self::Http(_) => Station::Asking,
            Self::Certificate(..) | Self::Jwt(_) | Self::Password(_) => Station::Hashing,
        }
    }

    /// For how long its verdicts are remembered, if that is not for as long as others.
    fn remember_for(&self) -> Option<Duration> {
        match self {
            Self::Http(service) => Some(service.cache_for),
            Self::Certificate(..) | Self::Jwt(_) | Self::Password(_) => None,
        }
    }

    fn judge(&self, presented: &Presented, workspace: &mut Workspace) -> Opinion {
        match self {
            Self::Certificate(user, users) => match &presented.certificate {
                Some(der) => certificate::judge(der, *user, users.as_deref()),
                None => Opinion::Unknown,
            },
            Self::Jwt(tokens) => match &presented.password {
                Some(password) => tokens.judge(password.reveal(), SystemTime::now()),
                None => Opinion::Unknown,
            },
            Self::Password(users) => {
                let (Some(name), Some(password)) = (&presented.user, &presented.password) else {
                    return Opinion::Unknown;
                };
                match users.verify(name, password.reveal(), workspace) {
                    Verification::Correct(user) => Opinion::Accept(Proven::of_user(user, Proof::Password)),
                    Verification::Wrong => Opinion::Refuse(WRONG),
                    Verification::Unknown => Opinion::Unknown,
                }
            }
            Self::Http(service) => service.judge(presented),
        }
    }
}
