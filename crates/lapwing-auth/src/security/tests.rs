use std::fs;

use lapwing_broker::hook::Identity;
use lapwing_proto::packet::QoS;
use lapwing_proto::topic::TopicName;

use super::*;
use crate::authentication::Proven;
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
    Client { client_id: "c".into(), identity: Arc::new(identity), peer: ([127, 0, 0, 1], 1).into() }
}

/// A client that has shown that it is this user, by the file as it is.
fn client_of(security: &Security, name: &str) -> Client {
    let state = security.inner.state();
    let user = Arc::clone(state.gate.users.as_ref().unwrap().get(name).unwrap());
    client(Standing::proven("lan".into(), Proven::of_user(user)).into_identity(None))
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
    assert!(security.reload().unwrap().is_empty());
    assert_eq!(security.reload().unwrap().to_string(), "nothing has changed");

    files.write(
        "users.toml",
        &format!("{}{}", anna.replace("staff", "guests"), user("carl", "three", "staff")),
    );
    files.write("acl.toml", "[[rule]]\nallow = 'publish'\ntopics = 'guests/#'\ngroup = 'guests'\n");
    let changes = security.reload().unwrap().to_string();
    let expected = "+ user \"carl\"\n- user \"bert\"\n~ user \"anna\"\n\
                    + rule: allow publish guests/# for group guests\n- rule: allow publish staff/# for group staff";
    assert_eq!(changes, expected);
    assert!(security.still_accepts(&of_anna) && !security.still_accepts(&of_bert));
    // What the file says now holds for a client that came before.
    assert!(may_publish(&security, &of_anna, "guests/x") && !may_publish(&security, &of_anna, "staff/x"));
    files.write("users.toml", &user("anna", "another", "guests"));
    assert_eq!(security.reload().unwrap().users_changed, [Arc::from("anna")]);
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
        let error = security.reload().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        still();
        files.write(name, &before);
    }
    fs::remove_file(files.path("acl.toml")).unwrap();
    files.write("users.toml", &user("anna", "one", "staff"));
    assert!(security.reload().unwrap_err().to_string().contains("acl.toml"), "gone is not empty");
    still();
    assert!(Security::open(files.config()).is_ok(), "at the start it allows nothing");
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
        grants: Some(Standing::unproven("lan".into()).into_grants()),
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
