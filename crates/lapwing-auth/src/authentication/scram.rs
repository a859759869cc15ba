//! The server's part of SCRAM-SHA-256 (RFC 5802, RFC 7677), by the extended authentication of MQTT 5.0. Channel binding is not
//! offered.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;

use crate::password::scram::{KEY_BYTES, hash, sign};
use crate::password::{User, Users};

/// Its name as an authentication method.
pub(super) const METHOD: &str = "SCRAM-SHA-256";

const NONCE_BYTES: usize = 18;
/// Bytes of what a client sends in one step.
const MESSAGE_BYTES_MAXIMUM: usize = 4096;

/// An exchange: two messages of the client, and what the server says to each.
pub(super) struct Scram {
    users: Arc<Users>,
    state: State,
}

enum State {
    Begun,
    Challenged(Box<Challenged>),
    Over,
}

struct Challenged {
    /// `None` for a user that there is not, who is sent a challenge like everybody.
    user: Option<Arc<User>>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
    gs2_header: String,
    nonce: String,
    /// Of what both sides sign, all but the end.
    auth_message: String,
}

/// What comes of a message.
pub(super) enum Reply {
    /// The client is to answer this.
    Challenge(Vec<u8>),
    /// The client is this user, and is sent this.
    Accept(Arc<User>, Vec<u8>),
    /// It is not, or does not keep to the protocol.
    Refuse(&'static str),
}

const MALFORMED: &str = "a message of SCRAM is malformed";
const WRONG: &str = "the user name or the password is wrong";

impl Scram {
    pub(super) fn new(users: Arc<Users>) -> Self {
        Self { users, state: State::Begun }
    }

    pub(super) fn respond(&mut self, data: Option<&[u8]>) -> Reply {
        let Some(text) = data.filter(|data| data.len() <= MESSAGE_BYTES_MAXIMUM) else {
            return Reply::Refuse(MALFORMED);
        };
        let Ok(text) = std::str::from_utf8(text) else { return Reply::Refuse(MALFORMED) };
        let reply = match std::mem::replace(&mut self.state, State::Over) {
            State::Begun => self.challenge(text),
            State::Challenged(challenged) => challenged.finish(text),
            State::Over => Err(MALFORMED),
        };
        reply.unwrap_or_else(Reply::Refuse)
    }

    fn challenge(&mut self, text: &str) -> Result<Reply, &'static str> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| "there is no randomness")?;
        self.challenge_with(text, &BASE64_STANDARD.encode(nonce))
    }

    fn challenge_with(&mut self, text: &str, own_nonce: &str) -> Result<Reply, &'static str> {
        let (flag, rest) = text.split_once(',').ok_or(MALFORMED)?;
        let (authorized, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err("channel binding is not offered"),
            _ => return Err(MALFORMED),
        }
        let mut attributes = bare.split(',');
        let mut attribute = |name: &str| attributes.next().and_then(|text| text.strip_prefix(name));
        let name = attribute("n=").and_then(unescaped).ok_or(MALFORMED)?;
        let client_nonce = attribute("r=").filter(|nonce| !nonce.is_empty()).ok_or(MALFORMED)?;
        if !client_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(MALFORMED);
        }
        let is_for_another = match authorized.strip_prefix("a=") {
            Some(other) => unescaped(other).ok_or(MALFORMED)? != name,
            None if authorized.is_empty() => false,
            None => return Err(MALFORMED),
        };
        if is_for_another {
            return Err("nobody acts for another user");
        }
        let prepared = stringprep::saslprep(&name).map_err(|_| MALFORMED)?;
        let user = self.users.get(&prepared).filter(|user| user.scram.is_some()).cloned();
        let (iterations, salt, stored_key, server_key) =
            match user.as_ref().and_then(|user| user.scram.as_ref()) {
                Some(known) => (known.iterations, known.salt.to_vec(), known.stored_key, known.server_key),
                None => self.stand_in(&name),
            };
        let nonce = format!("{client_nonce}{own_nonce}");
        let answer = format!("r={nonce},s={},i={iterations}", BASE64_STANDARD.encode(salt));
        let auth_message = format!("{bare},{answer}");
        let gs2_header = format!("{flag},{authorized},");
        let challenged = Challenged { user, stored_key, server_key, gs2_header, nonce, auth_message };
        self.state = State::Challenged(Box::new(challenged));
        Ok(Reply::Challenge(answer.into_bytes()))
    }

    /// What a user that there is not is challenged with: always the same salt, and as many iterations as others have.
    fn stand_in(&self, name: &str) -> (NonZeroU32, Vec<u8>, [u8; KEY_BYTES], [u8; KEY_BYTES]) {
        let (iterations, salt_bytes) = self.users.scram_shape();
        let key = self.users.process_key();
        let salt = sign(key, format!("salt {name}").as_bytes());
        (iterations, salt[..salt_bytes.min(KEY_BYTES)].to_vec(), sign(key, b"stored"), sign(key, b"server"))
    }
}

impl Challenged {
    fn finish(self, text: &str) -> Result<Reply, &'static str> {
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let mut attributes = without_proof.split(',');
        let mut attribute = |name: &str| attributes.next().and_then(|text| text.strip_prefix(name));
        let binding = attribute("c=").and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or(MALFORMED)?;
        let nonce = attribute("r=").ok_or(MALFORMED)?;
        if binding != self.gs2_header.as_bytes() || nonce != self.nonce {
            return Err("a message of SCRAM does not belong to the one before");
        }
        let proof: [u8; KEY_BYTES] =
            BASE64_STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(MALFORMED)?;
        let auth_message = format!("{},{without_proof}", self.auth_message);
        let mut client_key = sign(&self.stored_key, auth_message.as_bytes());
        client_key.iter_mut().zip(proof).for_each(|(key, proof)| *key ^= proof);
        let is_right = bool::from(hash(&client_key).ct_eq(&self.stored_key));
        match self.user {
            Some(user) if is_right => {
                let signature = sign(&self.server_key, auth_message.as_bytes());
                let answer = format!("v={}", BASE64_STANDARD.encode(signature));
                Ok(Reply::Accept(user, answer.into_bytes()))
            }
            _ => Err(WRONG),
        }
    }
}

/// A name as it was before `,` and `=` were written as `=2C` and `=3D`.
fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let (character, rest) = if let Some(rest) = piece.strip_prefix("2C") {
            (',', rest)
        } else {
            ('=', piece.strip_prefix("3D")?)
        };
        name.push(character);
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scram(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::password::Verifier;
    use crate::password::scram::salted_password;

    fn users(name: &str, verifier: &Verifier) -> Arc<Users> {
        let text = format!("[users.\"{name}\"]\nscram_sha_256 = '{}'\n", verifier.to_text());
        Arc::new(Users::parse(Path::new("users.toml"), &text).unwrap())
    }

    fn challenge(reply: Reply) -> String {
        match reply {
            Reply::Challenge(text) => String::from_utf8(text).unwrap(),
            Reply::Refuse(reason) => panic!("{reason}"),
            Reply::Accept(..) => panic!("accepted"),
        }
    }

    /// The client's part, as RFC 5802 has it.
    fn final_message(header: &str, bare: &str, challenge: &str, password: &str) -> String {
        let part = |name: &str| challenge.split(',').find_map(|text| text.strip_prefix(name)).unwrap();
        let salt = BASE64_STANDARD.decode(part("s=")).unwrap();
        let salted = salted_password(password, &salt, part("i=").parse().unwrap()).unwrap();
        let client_key = sign(&salted, b"Client Key");
        let without_proof = format!("c={},r={}", BASE64_STANDARD.encode(header), part("r="));
        let signature = sign(&hash(&client_key), format!("{bare},{challenge},{without_proof}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, sign)| key ^ sign).collect();
        format!("{without_proof},p={}", BASE64_STANDARD.encode(proof))
    }

    /// The example of RFC 7677.
    #[test]
    fn it_says_what_the_standard_says() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::with_salt("pencil", &salt, NonZeroU32::new(4096).unwrap()).unwrap();
        let mut scram = Scram::new(users("user", &verifier));
        let reply =
            scram.challenge_with("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        let expected =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(challenge(reply.unwrap_or_else(Reply::Refuse)), expected);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        match scram.respond(Some(last.as_bytes())) {
            Reply::Accept(user, data) => {
                assert_eq!(&*user.name, "user");
                assert_eq!(data, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
            }
            Reply::Refuse(reason) => panic!("{reason}"),
            Reply::Challenge(_) => panic!("a challenge"),
        }
        assert!(matches!(scram.respond(Some(last.as_bytes())), Reply::Refuse(_)), "once only");
    }

    fn run(users: &Arc<Users>, header: &str, bare: &str, password: &str) -> Result<Arc<str>, &'static str> {
        let mut scram = Scram::new(Arc::clone(users));
        let challenge = challenge(scram.respond(Some(format!("{header}{bare}").as_bytes())));
        match scram.respond(Some(final_message(header, bare, &challenge, password).as_bytes())) {
            Reply::Accept(user, _) => Ok(Arc::clone(&user.name)),
            Reply::Refuse(reason) => Err(reason),
            Reply::Challenge(_) => panic!("a challenge"),
        }
    }

    // [attack: user-probing]
    #[test]
    fn the_password_is_right_or_wrong_and_nobody_learns_who_there_is() {
        let users = users("an,na=", &Verifier::new("secret").unwrap());
        assert_eq!(run(&users, "n,,", "n=an=2Cna=3D,r=x", "secret").as_deref(), Ok("an,na="));
        assert_eq!(run(&users, "y,a=an=2Cna=3D,", "n=an=2Cna=3D,r=x", "secret").as_deref(), Ok("an,na="));
        assert_eq!(run(&users, "n,,", "n=an=2Cna=3D,r=x", "Secret"), Err(WRONG));
        assert_eq!(run(&users, "n,,", "n=nobody,r=x", "secret"), Err(WRONG));
        let salt = |name: &str| {
            let text = challenge(
                Scram::new(Arc::clone(&users)).respond(Some(format!("n,,n={name},r=x").as_bytes())),
            );
            let (_, rest) = text.split_once(",s=").unwrap();
            rest.to_owned()
        };
        assert_eq!(salt("nobody"), salt("nobody"));
        assert_ne!(salt("nobody"), salt("somebody"));
        assert_eq!(salt("nobody").len(), salt("an=2Cna=3D").len());
    }

    #[test]
    fn a_message_that_is_none_is_refused() {
        let users = users("anna", &Verifier::new("secret").unwrap());
        for text in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=anna",
            "n,,n=anna,r=",
            "n,,n=,r=x",
            "n,,r=x,n=anna",
            "n,,m=x,n=anna,r=x",
            "n,,n=an=2Xna,r=x",
            "n,,n=anna,r=\u{e9}",
            "x,,n=anna,r=x",
            "p=tls-exporter,,n=anna,r=x",
            "n,a=root,n=anna,r=x",
            "n,b=anna,n=anna,r=x",
            "n,,n=a\u{7}nna,r=x",
        ] {
            let reply = Scram::new(Arc::clone(&users)).respond(Some(text.as_bytes()));
            assert!(matches!(reply, Reply::Refuse(_)), "{text:?}");
        }
        assert!(matches!(Scram::new(Arc::clone(&users)).respond(None), Reply::Refuse(_)));
        assert!(matches!(Scram::new(Arc::clone(&users)).respond(Some(&[0xff])), Reply::Refuse(_)));
        let long = format!("n,,n=anna,r={}", "x".repeat(MESSAGE_BYTES_MAXIMUM));
        assert!(matches!(Scram::new(Arc::clone(&users)).respond(Some(long.as_bytes())), Reply::Refuse(_)));

        let good = |scram: &mut Scram| {
            let challenge = challenge(scram.respond(Some(b"n,,n=anna,r=x")));
            final_message("n,,", "n=anna,r=x", &challenge, "secret")
        };
        let changes: [fn(&str) -> String; 6] = [
            |text| text.replace("c=biws", "c=eSws"),
            |text| text.replacen("r=x", "r=y", 1),
            |text| text.replace(",p=", ",q="),
            |text| text.replace("c=", "d="),
            |text| format!("{}!", &text[..text.len() - 1]),
            |text| text.split(",p=").next().unwrap().to_owned() + ",p=",
        ];
        for change in changes {
            let mut scram = Scram::new(Arc::clone(&users));
            let changed = change(&good(&mut scram));
            assert!(matches!(scram.respond(Some(changed.as_bytes())), Reply::Refuse(_)), "{changed}");
        }
        let mut scram = Scram::new(Arc::clone(&users));
        let same = good(&mut scram);
        assert!(matches!(scram.respond(Some(same.as_bytes())), Reply::Accept(..)));
    }
}
