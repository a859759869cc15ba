//! The methods of a listener, one after the other.

use std::sync::Arc;

use lapwing_broker::hook::{Anonymous, Credentials};

use super::proof::{Opinion, Presented, Proven};
use crate::password::{Users, Verification, Workspace};

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
    Password(Arc<Users>),
}

/// What can be said at once.
#[derive(Debug)]
pub(super) enum Quick {
    /// The client has shown who it is, or what it presented is wrong.
    Verdict(Result<Proven, &'static str>),
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
        for (index, member) in self.members.iter().enumerate() {
            match member {
                Member::Password(_) if credentials.password.is_some() && credentials.user_name.is_some() => {
                    return Quick::Work(index);
                }
                Member::Password(_) => {}
            }
        }
        let has_presented = credentials.user_name.is_some() || credentials.password.is_some();
        match self.members.is_empty() || !has_presented {
            true => Quick::Nothing,
            false => Quick::Verdict(Err(WRONG)),
        }
    }

    /// What the members from this one on say, however long it takes.
    pub(super) fn judge(
        &self,
        first: usize,
        presented: &Presented,
        workspace: &mut Workspace,
    ) -> Result<Proven, &'static str> {
        for member in self.members.iter().skip(first) {
            match member.judge(presented, workspace) {
                Opinion::Accept(proven) => return Ok(proven),
                Opinion::Refuse(reason) => return Err(reason),
                Opinion::Unknown => {}
            }
        }
        Err(WRONG)
    }
}

impl Member {
    fn judge(&self, presented: &Presented, workspace: &mut Workspace) -> Opinion {
        match self {
            Self::Password(users) => {
                let (Some(name), Some(password)) = (&presented.user, &presented.password) else {
                    return Opinion::Unknown;
                };
                match users.verify(name, password.reveal(), workspace) {
                    Verification::Correct(user) => Opinion::Accept(Proven::of_user(user)),
                    Verification::Wrong => Opinion::Refuse(WRONG),
                    Verification::Unknown => Opinion::Unknown,
                }
            }
        }
    }
}
