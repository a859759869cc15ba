//! The admin channel of the real program, and the commands that use it.

mod broker;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use broker::admin::{Admin, address, eventually, exchange};
use broker::peer::Peer;
use broker::{Broker, SOON, failure, lapwing, run};
use lapwing_proto::packet::{Ack, Connect, Packet, ProtocolVersion, QoS, ReasonCode};
use serde_json::{Value, json};

const V5: ProtocolVersion = ProtocolVersion::V5;

#[test]
fn the_description_is_what_the_sources_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let generated = String::from_utf8(run(&["config", "openapi"]).stdout).unwrap();
    assert!(committed == generated, "docs/reference/openapi.json is stale: run `cargo xtask generate`");
}

// [attack: dns-rebinding]
#[test]
fn a_browser_that_was_led_here_by_another_name_is_refused() {
    let admin = Admin::start(&[]);
    let ask = |host: &str| exchange(admin.address, "GET", "/health", host, "");
    for host in ["Host: example.org\r\n", "Host: 127.0.0.1.example.org\r\n", "Host: \r\n", ""] {
        assert_eq!(ask(host).problem(421), "host_not_allowed", "{host:?}");
    }
    for host in ["Host: localhost\r\n", "Host: [::1]:5\r\n"] {
        assert_eq!(ask(host).status, 200, "{host:?}");
    }
    let absolute = exchange(admin.address, "GET", "http://example.org/health", "Host: localhost\r\n", "");
    assert_eq!(absolute.problem(421), "host_not_allowed");
}

#[test]
fn the_token_is_for_its_owner_alone_and_outlives_a_restart() {
    let mut admin = Admin::start(&[]);
    let path = admin.data.path().join("admin-token");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    admin.get("/api/v1/status");
    let Admin { token, .. } = &admin;
    assert!(!admin.broker.lines().iter().any(|line| line.contains(token)));
    admin.broker.signal("TERM");
    admin.broker.wait_for_exit(SOON);
    let again = Admin::start_in(admin.data, &[]);
    assert_eq!(again.token, admin.token);
    again.get("/api/v1/status");
}

/// Without a data directory there is nowhere to put a token, and a log is no place for it.
// [attack: secret-in-log]
#[test]
fn without_a_data_directory_the_token_is_nowhere() {
    let broker = Broker::with_settings(&["store.durability=memory", "admin.listen=127.0.0.1:0"]);
    let address = address(&broker);
    broker.wait_for_line("nobody is shown the admin token");
    let ask = |path| exchange(address, "GET", path, "Host: localhost\r\n", "");
    assert_eq!((ask("/health").status, ask("/ready").status, ask("/metrics").status), (200, 200, 401));
    assert!(broker.lines().iter().all(|line| !line.contains("admin token of this run")));
    // In a directory that is named it is kept.
    let admin = Admin::start(&["store.durability=memory"]);
    assert!(admin.get("/api/v1/status").get("store").is_none());
}

#[test]
fn an_address_that_is_taken_is_an_error_only_where_it_was_asked_for() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let setting = format!("admin.listen={}", other.local_addr().unwrap());
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let error = failure(&run(&["serve", "--listen", "127.0.0.1:0", "--data", data, "--set", &setting]), 1);
    assert!(error.contains("admin.listen: ") && error.contains("taken by another process"), "{error}");
    // Whoever has the default address, somebody has it.
    let _other = TcpListener::bind("127.0.0.1:18830");
    let mut command = lapwing();
    command.args(["serve", "--listen", "tcp://127.0.0.1:0"]);
    let broker = Broker::spawn(command);
    let line = broker.wait_for_line("there is no admin channel");
    assert!(line.contains("127.0.0.1:18830") && line.contains("admin.listen"), "{line}");
    for wrong in ["18830", ":18830", "localhost", "localhost:http"] {
        let error = failure(&run(&["serve", "--set", &format!("admin.listen='{wrong}'")]), 1);
        assert!(error.contains("write HOST:PORT"), "{error}");
    }
}

#[test]
fn status_and_metrics_count() {
    let key = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(key.path(), [b'k'; 32]).expect("it can be written");
    let secret = format!("authentication.jwt.secret_file={}", key.path().display());
    let admin = Admin::start(&["sharding.count=2", &secret]);
    let mut stranger = Connect::new(V5, "b");
    stranger.user_name = Some("stranger");
    let refused = Peer::raw(&admin.broker).present(&stranger);
    assert_eq!(refused, Some(ReasonCode::BadUserNameOrPassword));
    let mut peer = Peer::connect(&admin.broker, V5, "a");
    peer.subscribe(&["t", "$share/g/u"], QoS::AtMostOnce);
    peer.publish("nowhere", b"x");
    peer.publish("t", b"x");
    peer.ping();
    let has = |line: &str| admin.metrics().lines().any(|it| it == line);
    for line in [
        "lapwing_ready 1",
        "lapwing_clients 1",
        "lapwing_sessions 1",
        "lapwing_subscriptions 2",
        "lapwing_subscriptions_shared 1",
        "lapwing_messages_received_total{qos=\"0\"} 2",
        "lapwing_messages_sent_total{qos=\"0\"} 1",
        "lapwing_messages_dropped_total{reason=\"no_subscriber\"} 1",
        "lapwing_clients_refused_total{reason_code=\"0x87\",reason=\"not authorized\"} 0",
        "lapwing_authentication_accepted_total 1",
        "lapwing_authentication_refused_total 1",
        "lapwing_authentication_waiting 0",
        "lapwing_store_condition{condition=\"ready\"} 1",
        "lapwing_shard_mailbox_bytes{shard=\"1\"} 0",
    ] {
        eventually(line, || has(line));
    }
    let metrics = admin.metrics();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        value.parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"));
        let name = name.split('{').next().expect("a name");
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        assert!(metrics.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name}");
    }
    let status = admin.get("/api/v1/status");
    assert_eq!((&status["version"], &status["state"]), (&json!(env!("CARGO_PKG_VERSION")), &json!("ready")));
    assert_eq!((&status["clients"], &status["subscriptions"]), (&json!(1), &json!(2)));
    assert_eq!(status["listeners"], json!([format!("tcp://{}", admin.broker.address())]));
    assert_eq!(status["shards"].as_array().map(Vec::len), Some(2));
    assert!(status["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{status}");
}

#[test]
fn metrics_are_public_where_that_is_wanted() {
    let admin = Admin::start(&["admin.metrics_public=true"]);
    assert_eq!(admin.bare("GET", "/metrics", "").status, 200);
    assert_eq!(admin.bare("GET", "/api/v1/status", "").status, 401);
}

#[test]
fn clients_are_listed_page_by_page_wherever_they_are() {
    let admin = Admin::start(&["sharding.count=2", "sharding.neighbours=0"]);
    let names: Vec<String> = (0..7).map(|number| format!("client {number}")).collect();
    let peers: Vec<Peer> = names.iter().map(|name| Peer::connect(&admin.broker, V5, name)).collect();
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/api/v1/clients?limit=2{after}"));
        let clients = page["clients"].as_array().expect("a list");
        assert!(clients.len() <= 2);
        found.extend(clients.iter().map(|client| client["client_id"].as_str().expect("text").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    found.sort();
    assert_eq!(found, names);
    drop(peers);
    for (query, code) in [
        ("limit=0", "limit_invalid"),
        ("limit=1001", "limit_invalid"),
        ("limit=x", "request_invalid"),
        ("after=x", "after_invalid"),
        ("afer=0-0", "request_invalid"),
    ] {
        assert_eq!(admin.request("GET", &format!("/api/v1/clients?{query}"), "").problem(400), code);
    }
    assert_eq!(admin.get("/api/v1/clients?after=9-0"), json!({ "clients": [] }));
}

#[test]
fn a_client_is_shown_and_its_connection_is_ended() {
    let admin = Admin::start(&[]);
    let mut connect = Connect::new(V5, "gate/1 ü");
    connect.keep_alive = 77;
    connect.properties.session_expiry_interval = Some(100);
    let mut peer = Peer::connect_with(&admin.broker, &connect);
    peer.subscribe(&["a/+", "$share/g/b", "$exclusive/c"], QoS::AtLeastOnce);
    let path = "/api/v1/clients/gate%2F1%20%C3%BC";
    let client = admin.get(path);
    assert_eq!((&client["client_id"], &client["stored"]), (&json!("gate/1 ü"), &json!(true)));
    assert_eq!(
        (&client["session_expiry_interval_s"], &client["subscription_count"]),
        (&json!(100), &json!(3))
    );
    let connection = &client["connection"];
    assert_eq!((&connection["keep_alive_s"], &connection["protocol_version"]), (&json!(77), &json!("5.0")));
    assert!(connection["connected_at"].as_str().is_some_and(|at| at.starts_with("20") && at.ends_with('Z')));
    let subscriptions = client["subscriptions"].as_array().expect("a list");
    for filter in ["a/+", "$share/g/b", "$exclusive/c"] {
        assert!(subscriptions.contains(&json!({ "filter": filter, "qos": 1 })), "{client}");
    }
    assert_eq!(admin.request("DELETE", path, "").status, 204);
    assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::AdministrativeAction));
    // The session is still there, without a connection.
    assert_eq!(admin.request("DELETE", path, "").problem(409), "client_not_connected");
    let client = admin.get(path);
    assert!(client.get("connection").is_none(), "{client}");
    // At QoS 1 a message waits for it.
    assert_eq!(admin.publish(&json!({ "topic": "a/x", "qos": 1 })), json!({ "matched": true }));
    eventually("the message is queued", || admin.get(path)["queued_messages"] == 1);
    assert_eq!(admin.request("GET", "/api/v1/clients/nobody", "").problem(404), "client_not_found");
    assert_eq!(admin.request("DELETE", "/api/v1/clients/nobody", "").problem(404), "client_not_found");
    assert_eq!(admin.request("GET", "/api/v1/clients/%ff", "").problem(400), "request_invalid");
}

#[test]
fn messages_are_published_and_what_is_no_message_is_refused() {
    let admin = Admin::start(&[]);
    let mut peer = Peer::connect(&admin.broker, V5, "a");
    peer.subscribe(&["t/#"], QoS::AtMostOnce);
    assert_eq!(admin.publish(&json!({ "topic": "t/1", "payload": "grün" })), json!({ "matched": true }));
    assert_eq!(
        admin.publish(&json!({ "topic": "t/2", "payload": "/wA=", "encoding": "base64", "qos": 2 })),
        json!({ "matched": true })
    );
    for payload in ["grün".as_bytes(), b"\xff\0"] {
        let received = peer.receive().expect("a message");
        let Packet::Publish(publish) = received.packet() else { panic!("no message") };
        assert_eq!(publish.payload, payload);
    }
    assert_eq!(admin.publish(&json!({ "topic": "nowhere" })), json!({ "matched": false }));
    let refuse = |status, body: &str| admin.request("POST", "/api/v1/publish", body).problem(status);
    assert_eq!(refuse(400, r#"{"topic":"a/+"}"#), "topic_invalid");
    assert_eq!(refuse(400, r#"{"topic":"a","qos":3}"#), "qos_invalid");
    assert_eq!(refuse(400, r#"{"topic":"a","payload":"?","encoding":"base64"}"#), "payload_invalid");
    assert_eq!(refuse(400, "{"), "request_invalid");
    assert_eq!(refuse(422, r#"{"topic":"a","quality":1}"#), "request_invalid");
    let large = json!({ "topic": "a", "payload": "x".repeat(1024 * 1024) });
    assert_eq!(refuse(413, &large.to_string()), "body_too_large");
}

#[test]
fn retained_messages_are_browsed_and_deleted() {
    let admin = Admin::start(&[]);
    for number in 0..5 {
        admin.publish(
            &json!({ "topic": format!("a/{number}"), "payload": number.to_string(), "retain": true }),
        );
    }
    let (mut topics, mut after) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/api/v1/retained?filter=a/%2B&limit=2{after}"));
        let messages = page["messages"].as_array().expect("a list");
        topics.extend(messages.iter().map(|message| message["topic"].as_str().expect("text").to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(topics, ["a/0", "a/1", "a/2", "a/3", "a/4"]);
    assert_eq!(admin.request("DELETE", "/api/v1/retained/a/3", "").status, 204);
    assert_eq!(admin.request("DELETE", "/api/v1/retained/a%2F3", "").problem(404), "retained_not_found");
    assert_eq!(admin.request("DELETE", "/api/v1/retained/a/%23", "").problem(400), "topic_invalid");
    let page = admin.get("/api/v1/retained?filter=a/4");
    let expected =
        json!({ "topic": "a/4", "qos": 0, "payload": "4", "encoding": "utf8", "payload_bytes": 1 });
    assert_eq!(page, json!({ "messages": [expected] }));
    assert_eq!(admin.get("/api/v1/retained")["messages"].as_array().map(Vec::len), Some(4));
    assert_eq!(admin.request("GET", "/api/v1/retained?filter=a%23", "").problem(400), "filter_invalid");
}

#[test]
fn commands_show_tables_to_people_and_json_to_programs() {
    let admin = Admin::start(&[]);
    let mut peer = Peer::connect(&admin.broker, V5, "steers \x1b[2J");
    peer.subscribe(&["a/#"], QoS::AtLeastOnce);
    let status = admin.printed(&["status"]);
    assert!(status.contains("state              ready\n") && status.contains("\nSHARD  CLIENTS"), "{status}");
    let list = admin.printed(&["client", "list"]);
    assert!(list.starts_with("CLIENT") && list.contains("\nsteers \\x1b[2J  -     127.0.0.1:"), "{list}");
    let list: Value = serde_json::from_str(&admin.printed(&["client", "list", "--json"])).unwrap();
    assert_eq!(list["client_id"], "steers \x1b[2J");
    let client = admin.printed(&["client", "show", "steers \x1b[2J"]);
    assert!(
        client.contains("subscriptions        1\n") && client.contains("\nQOS  FILTER\n1    a/#\n"),
        "{client}"
    );
    admin.publish(&json!({ "topic": "r/ü", "payload": "on", "retain": true }));
    assert_eq!(admin.printed(&["retained", "list"]), "TOPIC  QOS  BYTES  PAYLOAD\nr/ü    0    2      on\n");
    assert_eq!(admin.printed(&["retained", "delete", "r/ü"]), "");
    assert_eq!(admin.printed(&["retained", "list", "r/#", "--json"]), "");
    assert_eq!(admin.printed(&["client", "kick", "steers \x1b[2J"]), "");
    assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::AdministrativeAction));
    let error = failure(&admin.command(&["client", "kick", "nobody"]), 1);
    assert!(error.contains("there is no session of this client"), "{error}");
}

#[test]
fn commands_say_what_is_missing() {
    let admin = Admin::start(&[]);
    let command = |arguments: &[&str], token: Option<&str>| {
        let mut command = lapwing();
        command.args(arguments).env("LAPWING_ADMIN", admin.address.to_string());
        command.env("LAPWING_ADMIN_TOKEN", token.unwrap_or_default());
        command.output().expect("the program starts")
    };
    let error = failure(&command(&["status"], None), 1);
    assert!(error.contains("admin-token") && error.contains("--data"), "{error}");
    let error = failure(&command(&["status"], Some("secret")), 1);
    assert!(error.contains("LAPWING_ADMIN_TOKEN") && !error.contains("secret"), "{error}");
    let error = failure(&command(&["status"], Some(&"0".repeat(64))), 1);
    assert!(error.contains("send a token"), "{error}");
    assert!(command(&["status"], Some(&admin.token)).status.success());
    let file = admin.data.path().join("admin-token");
    let file = file.to_str().unwrap();
    assert!(command(&["status", "--token-file", file], None).status.success());
    let error = failure(&command(&["status", "--token-file", file, "--admin", "127.0.0.1:1"], None), 1);
    assert!(error.contains("no admin channel answers at 127.0.0.1:1"), "{error}");
    // MQTT is another language.
    let mqtt = admin.broker.address().to_string();
    let error = failure(&command(&["status", "--token-file", file, "--admin", &mqtt], None), 1);
    assert!(error.contains("no admin channel"), "{error}");
}

#[test]
fn it_stops_with_the_broker_whoever_is_still_connected() {
    let mut admin = Admin::start(&[]);
    let mut idle = TcpStream::connect_timeout(&admin.address, SOON).unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address);
    idle.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // Another one never says anything.
    let _silent = TcpStream::connect_timeout(&admin.address, SOON).unwrap();
    admin.broker.signal("TERM");
    let (status, _) = admin.broker.wait_for_exit(SOON);
    assert!(status.success());
    idle.set_read_timeout(Some(SOON)).unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).expect("an end");
}

/// A client whose session is kept.
fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = Connect::new(V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(u32::MAX);
    connect
}

#[test]
fn a_running_broker_makes_a_backup() {
    let admin = Admin::start(&[]);
    Peer::connect_with(&admin.broker, &lasting("s")).subscribe(&["t"], QoS::AtLeastOnce);
    let count = 1000;
    for number in 0..count {
        admin.publish(&json!({ "topic": "t", "payload": number.to_string(), "qos": 1 }));
    }
    let file = admin.data.path().join("saved");
    let file = file.to_str().expect("a plain path");
    let text = admin.printed(&["store", "backup", file]);
    assert!(text.contains("1 session, 1 subscription, 1,000 queued messages"), "{text}");
    assert_eq!(std::fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600);
    let error = failure(&admin.command(&["store", "backup", file]), 1);
    assert!(error.contains("--force"), "{error}");
    let piped = admin.command(&["store", "backup", "-"]);
    assert!(piped.status.success() && piped.stdout.len() > 20 * count, "{piped:?}");
    assert_eq!(admin.bare("GET", "/api/v1/store/backup", "").problem(401), "unauthorized");
    // The broker goes on, and what it has saved is a broker's.
    admin.publish(&json!({ "topic": "t", "payload": "later", "qos": 1 }));
    let restored = tempfile::tempdir().expect("a folder");
    let data = restored.path().to_str().expect("a plain path");
    assert!(run(&["store", "restore", file, "--data", data]).status.success());
    let broker = Broker::start(&["--data", data]);
    let mut peer = Peer::connect_with(&broker, &lasting("s"));
    for number in 0..count {
        let received = peer.receive().expect("a message");
        let Packet::Publish(publish) = received.packet() else { panic!("{:?}", received.packet()) };
        assert_eq!(publish.payload, number.to_string().as_bytes());
        let packet_id = publish.packet_id.expect("an identifier");
        peer.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    }
}

#[test]
fn a_broker_that_stores_nothing_makes_no_backup() {
    let admin = Admin::start(&["store.durability=memory"]);
    assert_eq!(admin.request("GET", "/api/v1/store/backup", "").problem(409), "nothing_stored");
}

// [attack: banned-address]
#[test]
fn a_ban_ends_connections_keeps_clients_out_and_outlives_the_process() {
    fn command(admin: &Admin, arguments: &[&str]) -> Output {
        let address = admin.address.to_string();
        let data = admin.data.path().to_str().expect("a plain path");
        run(&[&["ban"], arguments, &["--data", data, "--admin", &address]].concat())
    }
    let admin = Admin::start(&[]);
    let noisy = Connect::new(V5, "noisy");
    let mut peer = Peer::connect_with(&admin.broker, &noisy);
    let output = command(&admin, &["add", "client", "noisy", "--for", "1h", "--reason", "too loud"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 disconnected\n");
    assert_eq!(peer.wait_for_disconnect(), Some(ReasonCode::AdministrativeAction));
    let error = failure(&command(&admin, &["add", "address", "10.0.0.0/33"]), 1);
    assert!(error.contains("10.0.0.0/8"), "{error}");
    let Admin { broker, data, .. } = admin;
    drop(broker);
    let admin = Admin::start_in(data, &[]);
    assert_eq!(Peer::raw(&admin.broker).present(&noisy), Some(ReasonCode::Banned));
    let bans = admin.get("/api/v1/bans");
    assert_eq!(
        (&bans["bans"][0]["value"], &bans["bans"][0]["reason"]),
        (&json!("noisy"), &json!("too loud"))
    );
    let listed = command(&admin, &["list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("noisy"), "{listed:?}");
    assert!(command(&admin, &["remove", "client", "noisy"]).status.success());
    failure(&command(&admin, &["remove", "client", "noisy"]), 1);
    assert_eq!(Peer::raw(&admin.broker).present(&noisy), Some(ReasonCode::Success));
}
