//! Sessions through the admin channel, and what they take.

mod broker;

use broker::admin::Admin;
use broker::failure;
use broker::peer::Peer;
use lapwing_proto::packet::{Connect, ProtocolVersion, QoS, ReasonCode};
use serde_json::{Value, json};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A client whose session is kept.
fn lasting<'a>(client_id: &'a str) -> Connect<'a> {
    let mut connect = Connect::new(V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(u32::MAX);
    connect
}

/// A session of a client that has gone, for which a message of so many bytes waits.
fn leave(admin: &Admin, client_id: &str, bytes: usize) {
    Peer::connect_with(&admin.broker, &lasting(client_id)).subscribe(&[client_id], QoS::AtLeastOnce);
    let path = format!("/api/v1/sessions/{client_id}");
    broker::admin::eventually("it has gone", || admin.get(&path)["connected"] == false);
    admin.publish(&json!({ "topic": client_id, "payload": "x".repeat(bytes), "qos": 1 }));
    broker::admin::eventually("it is queued", || admin.get(&path)["queued_messages"] == 1);
}

fn names(page: &Value) -> Vec<String> {
    let sessions = page["sessions"].as_array().expect("a list");
    sessions.iter().map(|it| it["client_id"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn sessions_are_listed_page_by_page_and_by_their_connection() {
    let admin = Admin::start(&["sharding.count=2", "sharding.neighbours=0"]);
    let peers: Vec<Peer> =
        (0..5).map(|number| Peer::connect(&admin.broker, V5, &format!("on{number}"))).collect();
    for name in ["off0", "off1", "off2"] {
        leave(&admin, name, 10);
    }
    for (query, count, prefix) in [("", 8, "o"), ("&connected=true", 5, "on"), ("&connected=false", 3, "off")]
    {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/api/v1/sessions?limit=2{query}{after}"));
            let names = names(&page);
            assert!(names.len() <= 2);
            found.extend(names);
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), count, "{query}: {found:?}");
        assert!(found.iter().all(|name| name.starts_with(prefix)), "{query}: {found:?}");
    }
    drop(peers);
    for (query, code) in
        [("limit=0", "limit_invalid"), ("after=x", "after_invalid"), ("connected=maybe", "request_invalid")]
    {
        assert_eq!(admin.request("GET", &format!("/api/v1/sessions?{query}"), "").problem(400), code);
    }
}

#[test]
fn a_session_is_shown_with_all_its_subscriptions_and_ended_for_good() {
    let admin = Admin::start(&[]);
    let mut peer = Peer::connect_with(&admin.broker, &lasting("gate/1"));
    let filters: Vec<String> = (0..7).map(|number| format!("a/{number}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    peer.subscribe(&filters, QoS::AtLeastOnce);
    let path = "/api/v1/sessions/gate%2F1";
    let session = admin.get(path);
    assert_eq!(
        (&session["connected"], &session["stored"], &session["subscription_count"]),
        (&json!(true), &json!(true), &json!(7))
    );
    assert!(session["bytes"]["subscriptions"].as_u64().is_some_and(|bytes| bytes > 7 * 3), "{session}");
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("{path}/subscriptions?limit=3{after}"));
        let subscriptions = page["subscriptions"].as_array().expect("a list");
        found.extend(subscriptions.iter().map(|it| it["filter"].as_str().expect("text").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    found.sort();
    assert_eq!(found, filters);
    assert_eq!(
        admin.request("GET", &format!("{path}/subscriptions?after=x"), "").problem(400),
        "after_invalid"
    );
    assert_eq!(admin.request("DELETE", path, "").status, 204);
    assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::AdministrativeAction));
    for (method, path) in [("GET", path), ("DELETE", path), ("GET", &format!("{path}/subscriptions"))] {
        assert_eq!(admin.request(method, path, "").problem(404), "client_not_found");
    }
    // It does not come back with the next process either.
    leave(&admin, "gone", 10);
    assert_eq!(admin.request("DELETE", "/api/v1/sessions/gone", "").status, 204);
    leave(&admin, "kept", 10);
    let Admin { broker, data, .. } = admin;
    drop(broker);
    let admin = Admin::start_in(data, &[]);
    assert_eq!(names(&admin.get("/api/v1/sessions")), ["kept"]);
}

#[test]
fn the_sessions_that_take_the_most_are_named_first() {
    let admin = Admin::start(&["sharding.count=2", "sharding.neighbours=0"]);
    for (name, bytes) in [("light", 1000), ("heavy", 50_000), ("middle", 20_000)] {
        leave(&admin, name, bytes);
    }
    let usage = admin.get("/api/v1/usage?top=2");
    assert_eq!(names(&usage), ["heavy", "middle"]);
    let sum = usage["memory"]["queued"].as_u64().expect("a number");
    assert!((71_000..80_000).contains(&sum), "{usage}");
    assert!(usage["disk"]["data_directory"].as_u64().is_some_and(|bytes| bytes > 71_000), "{usage}");
    assert!(usage["memory"]["resident"].as_u64().is_some_and(|bytes| bytes > sum), "{usage}");
    assert_eq!(names(&admin.get("/api/v1/usage?top=0")), [""; 0]);
    assert_eq!(admin.request("GET", "/api/v1/usage?top=101", "").problem(400), "top_invalid");
}

#[test]
fn the_commands_show_and_end_sessions() {
    let admin = Admin::start(&[]);
    leave(&admin, "away", 10_000);
    let mut peer = Peer::connect(&admin.broker, V5, "here");
    peer.subscribe(&["h/#"], QoS::AtMostOnce);
    let list = admin.printed(&["session", "list"]);
    assert!(
        list.starts_with("CLIENT  OWNER  CONNECTED  EXPIRY") && list.contains("\naway    -      no "),
        "{list}"
    );
    let list: Value = serde_json::from_str(&admin.printed(&["session", "list", "--connected", "--json"]))
        .expect("one line");
    assert_eq!(list["client_id"], "here");
    assert!(!admin.printed(&["session", "list", "--offline"]).contains("here"));
    let shown = admin.printed(&["session", "show", "away"]);
    assert!(
        shown.contains("queued               1 messages, ") && shown.contains("\nQOS  FILTER\n1    away\n"),
        "{shown}"
    );
    let usage = admin.printed(&["usage", "--top", "1"]);
    assert!(
        usage.contains("memory of the process") && usage.contains("\naway ") && !usage.contains("\nhere "),
        "{usage}"
    );
    assert_eq!(admin.printed(&["session", "delete", "here"]), "");
    assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::AdministrativeAction));
    assert_eq!(admin.printed(&["session", "delete", "away"]), "");
    let error = failure(&admin.command(&["session", "delete", "away"]), 1);
    assert!(error.contains("there is no session of this client"), "{error}");
}
