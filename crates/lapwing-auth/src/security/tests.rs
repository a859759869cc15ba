use std::fs;

use lapwing_broker::hook::Identity;
use lapwing_proto::packet::QoS;
use lapwing_proto::topic::TopicName;

use super::*;
use crate::authentication::{Proof, Proven};
use crate::config::ClientIdBinding;
use crate::password::{Cost, PasswordHash, Workspace};

/// Files of users and rules, and a configuration that names them.
struct Files(tempfile::TempDir);

impl Files {
    fn new(users: &str, rules: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("users.toml", users);
        files.write("acl.toml", rules);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn config(&self) -> SecurityConfig {
        let mut config = SecurityConfig::default();
        config.authentication.password.file = Some(self.path("users.toml"));
        config.permissions.file = Some(self.path("acl.toml"));
        config
    }

    fn open(&self) -> Security {
        Security::open(self.config()).unwrap()
    }
}

fn user(name: &str, password: &str, group: &str) -> String {
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let hash = PasswordHash::new(password.as_bytes(), cost, &mut Workspace::default()).unwrap();
    format!("[users.{name}]\npassword = '{}'\ngroups = '{group}'\n", hash.to_text())
}

fn client(identity: Identity) -> Client {
    Client {
        client_id: "c".into(),
        identity: Arc::new(identity),
        peer: ([127, 0, 0, 1], 1).into(),
        is_local: true,
        listener: "lan".into(),
    }
}

/// A client that has shown that it is this user, by the file as it is.
fn client_of(security: &Security, name: &str) -> Client {
    let state = security.inner.state();
    let user = Arc::clone(state.gate.users.as_ref().unwrap().get(name).unwrap());
    client(Standing::proven(Proven::of_user(user, Proof::Password)).into_identity(None))
}

fn may_publish(security: &Security, client: &Client, topic: &str) -> bool {
    let topic = TopicName::new(topic).unwrap();
    security.permit(client).may_publish(topic, QoS::AtMostOnce, false).is_allowed
}

const STAFF: &str = "[[rule]]\nallow = 'publish'\ntopics = 'staff/#'\ngroup = 'staff'\n";

#[test]
fn files_are_read_anew_all_at_once() {
    let anna = user("anna", "one", "staff");
    let files = Files::new(&format!("{anna}{}", user("bert", "two", "staff")), STAFF);
    let security = files.open();
    let (of_anna, of_bert) = (client_of(&security, "anna"), client_of(&security, "bert"));
    assert!(may_publish(&security, &of_anna, "staff/x") && security.still_accepts(&of_anna));
    assert!(security.reload(&files.config()).unwrap().is_empty());
    assert_eq!(security.reload(&files.config()).unwrap().to_string(), "nothing has changed");

    files.write(
        "users.toml",
        &format!("{}{}", anna.replace("staff", "guests"), user("carl", "three", "staff")),
    );
    files.write("acl.toml", "[[rule]]\nallow = 'publish'\ntopics = 'guests/#'\ngroup = 'guests'\n");
    let changes = security.reload(&files.config()).unwrap().to_string();
    let expected = "+ user \"carl\"\n- user \"bert\"\n~ user \"anna\"\n\
                    + rule: allow publish guests/# for group guests\n- rule: allow publish staff/# for group staff";
    assert_eq!(changes, expected);
    assert!(security.still_accepts(&of_anna) && !security.still_accepts(&of_bert));
    // What the file says now holds for a client that came before.
    assert!(may_publish(&security, &of_anna, "guests/x") && !may_publish(&security, &of_anna, "staff/x"));
    files.write("users.toml", &user("anna", "another", "guests"));
    assert_eq!(security.reload(&files.config()).unwrap().users_changed, [Arc::from("anna")]);
    assert!(!security.still_accepts(&of_anna), "its password is another one");
}

/// CVE-2017-7652: a reload that fails leaves everything as it was.
// [attack: faulty-rules]
#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let files = Files::new(&user("anna", "one", "staff"), STAFF);
    let security = files.open();
    let anna = client_of(&security, "anna");
    let still = || {
        assert!(may_publish(&security, &anna, "staff/x") && !may_publish(&security, &anna, "x"));
        assert!(security.still_accepts(&anna));
    };
    for (name, text) in [
        ("users.toml", "[users.anna]\n"),
        ("users.toml", "x"),
        ("acl.toml", "[[rule]]\nallow = 'publish'\n"),
        ("acl.toml", "\u{0}"),
    ] {
        let before = fs::read_to_string(files.path(name)).unwrap();
        // The other file is in order, and says something else.
        files.write("users.toml", &user("bert", "two", "guests"));
        files.write("acl.toml", "");
        files.write(name, text);
        let error = security.reload(&files.config()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        still();
        files.write(name, &before);
    }
    fs::remove_file(files.path("acl.toml")).unwrap();
    files.write("users.toml", &user("anna", "one", "staff"));
    assert!(
        security.reload(&files.config()).unwrap_err().to_string().contains("acl.toml"),
        "gone is not empty"
    );
    still();
    assert!(Security::open(files.config()).is_ok(), "at the start it allows nothing");
}

/// What a client has shown is looked at by the configuration that holds now, not by the one that let it in.
#[test]
fn another_configuration_holds_for_clients_that_are_there() {
    let files = Files::new(&user("anna", "one", "staff"), STAFF);
    let security = files.open();
    let anna = client_of(&security, "anna");
    let nobody = client(Identity::default());
    let of_service = |url: &str| {
        let proof = Proof::Http { url: url.into() };
        client(Standing::proven(Proven::of_name("carl".into(), proof)).into_identity(None))
    };
    let (carl, dora) = (of_service("http://127.0.0.1:1/"), of_service("http://127.0.0.1:2/"));
    let accepted = || [&anna, &nobody, &carl, &dora].map(|client| security.still_accepts(client));
    let reload = |change: &dyn Fn(&mut SecurityConfig)| {
        let mut config = files.config();
        change(&mut config);
        security.reload(&config).map(drop)
    };
    assert_eq!(accepted(), [true, true, false, false]);
    reload(&|config| config.authentication.anonymous = Anonymous::None).unwrap();
    assert_eq!(accepted(), [true, false, false, false]);
    reload(&|config| config.authentication.http.url = Some("http://127.0.0.1:1/".to_owned())).unwrap();
    assert_eq!(accepted(), [true, true, true, false]);
    let lan = |methods: &[Method]| ("lan".into(), methods.to_vec());
    reload(&|config| {
        config.authentication.http.url = Some("http://127.0.0.1:2/".to_owned());
        config.listeners.push(lan(&[Method::Http, Method::Anonymous]));
    })
    .unwrap();
    assert_eq!(accepted(), [false, true, false, true]);
    reload(&|config| config.authentication.client_id = ClientIdBinding::User).unwrap();
    assert_eq!(accepted(), [false, true, false, false], "none of them has its name");
    reload(&|config| config.authentication.client_id = ClientIdBinding::Prefix).unwrap();
    // A configuration that is wrong anywhere changes nothing.
    for (text, expected) in [
        (reload(&|config| config.authentication.threads = 10_000), "threads"),
        (reload(&|config| config.authentication.http.url = Some("x".to_owned())), "authentication.http.url"),
        (reload(&|config| config.listeners.push(lan(&[Method::Jwt]))), "authentication.jwt"),
        (reload(&|config| config.permissions.file = Some(files.path("none.toml"))), "none.toml"),
    ] {
        let error = text.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(accepted(), [false, true, false, false]);
    }
    reload(&|_| {}).unwrap();
    assert_eq!(accepted(), [true, true, false, false]);
    reload(&|config| config.permissions = Permissions::default()).unwrap();
    assert!(security.permit(&anna).is_unlimited());
}

/// Where nobody could prove anything, a name was for logs. It becomes no right when names begin to count.
#[test]
fn a_name_that_was_not_proved_does_not_become_one_that_is() {
    let files =
        Files::new(&user("anna", "one", "staff"), "[[rule]]\nallow = 'publish'\ntopics = 'home/%u'\n");
    let security = Security::open(SecurityConfig::default()).unwrap();
    let unproven = client(Identity {
        user_name: Some("anna".into()),
        grants: Some(Standing::unproven().into_grants()),
        ..Identity::default()
    });
    assert!(security.still_accepts(&unproven) && security.permit(&unproven).is_unlimited());
    let mut config = files.config();
    config.authentication.password.file = None;
    security.reload(&config).unwrap();
    assert!(security.still_accepts(&unproven) && !may_publish(&security, &unproven, "home/anna"));
    security.reload(&files.config()).unwrap();
    assert!(!security.still_accepts(&unproven), "it has to prove that it is anna");
}

#[test]
fn rules_that_hold_are_named_and_others_are_counted() {
    let files = Files::new(&user("anna", "one", "staff"), STAFF);
    files.write("new.toml", "[[rule]]\nallow = 'publish'\ntopics = 'new/#'\n");
    let mut config = files.config();
    config.permissions.report_only = Some(files.path("new.toml"));
    let security = Security::open(config).unwrap();
    let anna = client_of(&security, "anna");
    assert!(may_publish(&security, &anna, "staff/x"));
    assert!(!may_publish(&security, &anna, "new/x"));
    assert!(!may_publish(&security, &anna, "other"));
    let stat = security.stat();
    assert_eq!((stat.would_deny, stat.would_allow), (1, 1));
    let topic = TopicName::new("staff/x").unwrap();
    let rule = security.permit(&anna).may_publish(topic, QoS::AtMostOnce, false).rule.unwrap();
    assert_eq!(security.rule(rule).unwrap(), "acl.toml line 2: allow publish staff/# for group staff");
}

#[test]
fn without_rules_whoever_is_let_in_may_do_everything() {
    let security = Security::open(SecurityConfig::default()).unwrap();
    let nobody = client(Identity::default());
    assert!(security.permit(&nobody).is_unlimited() && security.still_accepts(&nobody));
    assert_eq!(security.describe().len(), 1);
}

/// A client whose authenticator is another one is who that one says.
#[test]
fn the_word_of_another_authenticator_counts() {
    let files =
        Files::new("", "[[rule]]\nallow = 'publish'\ntopics = 'home/%u'\nattribute = { site = 'x' }\n");
    let security = files.open();
    let identity = Identity {
        user_name: Some("anna".into()),
        attributes: vec![("site".into(), "x".into())],
        ..Identity::default()
    };
    assert!(may_publish(&security, &client(identity), "home/anna"));
    let unproven = Identity {
        user_name: Some("anna".into()),
        grants: Some(Standing::unproven().into_grants()),
        ..Identity::default()
    };
    assert!(!may_publish(&security, &client(unproven), "home/anna"));
}

#[test]
fn a_configuration_that_cannot_be_is_said() {
    let files = Files::new("", "");
    let error = |change: fn(&mut SecurityConfig)| {
        let mut config = files.config();
        change(&mut config);
        assert_eq!(Security::open(config.clone()).is_err(), config.check().is_err());
        config.check().unwrap_err().to_string()
    };
    for (text, expected) in [
        (error(|config| config.authentication.threads = 10_000), "threads"),
        (error(|config| config.authentication.queue_maximum = 0), "queue_maximum"),
        (error(|config| config.authentication.queue_address_maximum = 0), "queue_address_maximum"),
        (error(|config| config.listeners.push(("lan".into(), vec![]))), "listeners.lan.authentication"),
        (error(|config| config.listeners.push(("lan".into(), vec![Method::Jwt]))), "authentication.jwt"),
        (
            error(|config| config.listeners.push(("lan".into(), vec![Method::Certificate]))),
            "authentication.certificate.user",
        ),
        (error(|config| config.authentication.password.file = Some("nothing".into())), "lapwing passwd add"),
    ] {
        assert!(text.contains(expected), "{text}");
    }
}
