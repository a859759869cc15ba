//! Who may do what through the admin channel: tokens with names and roles.

mod broker;

use broker::admin::{Admin, exchange};
use broker::{failure, run};
use serde_json::{Value, json};

/// Every request that there is, with the role that it needs. A line that is added here, or changed, is a decision about
/// who may do what.
const NEEDS: &str = "\
GET /api/v1/bans viewer
POST /api/v1/bans operator
DELETE /api/v1/bans/{kind}/{value} operator
GET /api/v1/clients viewer
GET /api/v1/clients/{client_id} viewer
DELETE /api/v1/clients/{client_id} operator
GET /api/v1/events viewer
GET /api/v1/explain viewer
GET /api/v1/openapi.json viewer
POST /api/v1/publish operator
POST /api/v1/reload operator
GET /api/v1/retained viewer
DELETE /api/v1/retained/{topic} operator
GET /api/v1/sessions viewer
GET /api/v1/sessions/{client_id} viewer
DELETE /api/v1/sessions/{client_id} operator
GET /api/v1/sessions/{client_id}/subscriptions viewer
GET /api/v1/status viewer
GET /api/v1/store/backup admin
GET /api/v1/tokens admin
POST /api/v1/tokens admin
DELETE /api/v1/tokens/{name} admin
GET /api/v1/usage viewer
GET /api/v1/whoami viewer
GET /health public
GET /metrics viewer
GET /ready public
";
/// From the one that may do least.
const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

/// What the description says that each request needs.
fn described(admin: &Admin) -> String {
    let description = admin.get("/api/v1/openapi.json");
    assert_eq!(description["openapi"], "3.1.0");
    let mut lines = String::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for method in ["get", "post", "put", "patch", "delete"] {
            let Some(operation) = item.get(method) else { continue };
            let security = operation["security"].as_array().expect("each says what it needs");
            let role = match security.first() {
                Some(requirement) => requirement["token"][0].as_str().expect("a role"),
                None => "public",
            };
            lines.push_str(&format!("{} {path} {role}\n", method.to_uppercase()));
        }
    }
    lines
}

fn add(admin: &Admin, name: &str, role: &str, more: &Value) -> String {
    let mut request = json!({ "name": name, "role": role });
    request.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let response = admin.request("POST", "/api/v1/tokens", &request.to_string());
    assert_eq!(response.status, 201, "{}", response.body);
    response.json()["token"].as_str().expect("a token").to_owned()
}

fn with(admin: &Admin, token: &str, (method, path, body): (&str, &str, &str)) -> broker::admin::Response {
    let header = format!(
        "Host: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n",
        admin.address
    );
    exchange(admin.address, method, path, &header, body)
}

// [attack: admin-without-token]
#[test]
fn every_request_needs_its_role_and_no_less() {
    let admin = Admin::start(&[]);
    assert_eq!(described(&admin), NEEDS, "the description, and with it the guard, and the list above differ");
    let tokens = ROLES.map(|role| add(&admin, &format!("a-{role}"), role, &json!({})));
    for line in NEEDS.lines() {
        let [method, path, needed] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        // Nothing is there by these names, so that nothing is changed; but the route is.
        let path = path
            .replace("{kind}", "user")
            .replace("{topic}", "no/topic")
            .replace('{', "no-")
            .replace('}', "");
        // A stream of events has no end, unless it is one of what there is not.
        let path = if path == "/api/v1/events" { format!("{path}?kind=nothing") } else { path };
        let header = |header: &str| admin.bare(method, &path, header);
        let basic = format!("Authorization: Basic {}\r\n", admin.token);
        let wrong = format!("Authorization: Bearer lw_{}\r\n", "0".repeat(64));
        for header in ["", "Authorization: Bearer\r\n", &wrong, &basic].map(header) {
            if needed == "public" {
                assert_eq!(header.status, 200, "{line}");
                continue;
            }
            assert_eq!(header.problem(401), "unauthorized", "{line}");
            assert!(header.head.contains("www-authenticate: Bearer"), "{}", header.head);
        }
        for (role, token) in ROLES.iter().zip(&tokens) {
            let response = with(&admin, token, (method, &path, ""));
            let place = |name: &str| ROLES.iter().position(|role| *role == name);
            if needed == "public" || place(role) >= place(needed) {
                assert!(![401, 403, 405].contains(&response.status), "{role}: {line}: {}", response.body);
                assert!(!response.body.contains("\"not_found\""), "there is no such route: {line}");
            } else {
                assert_eq!(response.problem(403), "forbidden", "{role}: {line}");
            }
            if method == "GET" {
                let head = with(&admin, token, ("HEAD", &path, ""));
                assert_eq!(head.status == 403, response.status == 403, "{role}: HEAD {path}");
            }
        }
    }
    // Nobody learns without a token what there is.
    assert_eq!(admin.bare("GET", "/nothing", "").problem(401), "unauthorized");
    assert_eq!(with(&admin, &tokens[0], ("GET", "/nothing", "")).problem(404), "not_found");
    assert_eq!(admin.request("PUT", "/api/v1/clients", "").problem(405), "method_not_allowed");
}

#[test]
fn a_token_is_made_shown_once_named_in_the_log_and_taken_away() {
    let admin = Admin::start(&[]);
    let printed = admin.printed(&["token", "add", "shift.1", "--role", "operator", "--expires", "30d"]);
    let token = printed.trim();
    assert!(token.starts_with("lw_") && token.len() == 67, "{} bytes", token.len());
    let failed = failure(&admin.command(&["token", "add", "shift.1", "--role", "viewer"]), 1);
    assert!(failed.contains("there is a token 'shift.1'"), "{failed}");
    let listed = admin.printed(&["token", "list"]);
    assert!(listed.starts_with("NAME     ROLE      CREATED AT") && !listed.contains("lw_"), "{listed}");
    let listed: Value = serde_json::from_str(&admin.printed(&["token", "list", "--json"])).expect("JSON");
    assert_eq!((&listed["name"], &listed["role"]), (&json!("shift.1"), &json!("operator")));
    assert!(listed["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{listed}");
    let me = with(&admin, token, ("GET", "/api/v1/whoami", "")).json();
    assert_eq!(me, json!({ "name": "shift.1", "role": "operator" }));
    assert_eq!(admin.get("/api/v1/whoami"), json!({ "name": "admin-token", "role": "admin" }));
    // With it, the commands do what its role may.
    let command = |arguments: &[&str]| {
        let mut command = broker::lapwing();
        command.args(arguments).env("LAPWING_ADMIN", admin.address.to_string());
        command.env("LAPWING_ADMIN_TOKEN", token).output().expect("the program starts")
    };
    assert!(command(&["ban", "add", "user", "mallory"]).status.success());
    let failed = failure(&command(&["token", "list"]), 1);
    assert!(failed.contains("role admin; that of 'shift.1' is operator"), "{failed}");
    // Who has done what is in the log; what opens the channel is not.
    let line = admin.broker.wait_for_line("ban user mallory");
    assert!(line.contains("shift.1") && line.contains("operator") && line.contains("status=200"), "{line}");
    assert!(admin.broker.wait_for_line("add token shift.1").contains("admin-token"));
    assert!(admin.broker.lines().iter().all(|line| !line.contains(token)));
    for file in std::fs::read_dir(admin.data.path()).expect("a folder").flatten() {
        let text = std::fs::read(file.path()).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains(&token[3..]), "{file:?}");
    }
    assert_eq!(admin.printed(&["token", "remove", "shift.1"]), "");
    assert_eq!(with(&admin, token, ("GET", "/api/v1/whoami", "")).problem(401), "unauthorized");
    let failed = failure(&admin.command(&["token", "remove", "shift.1"]), 1);
    assert!(failed.contains("there is no token with this name"), "{failed}");
}

#[test]
fn tokens_outlive_the_process_and_a_list_that_is_none_is_an_error() {
    let admin = Admin::start(&[]);
    let token = add(&admin, "kept", "viewer", &json!({ "expires_in_s": 3600 }));
    let Admin { broker, data, .. } = admin;
    drop(broker);
    let admin = Admin::start_in(data, &[]);
    assert_eq!(with(&admin, &token, ("GET", "/api/v1/whoami", "")).status, 200);
    let Admin { broker, data, .. } = admin;
    drop(broker);
    std::fs::write(data.path().join("tokens.json"), "[{").expect("it can be written");
    let path = data.path().to_str().expect("a plain path");
    let arguments =
        ["serve", "--listen", "tcp://127.0.0.1:0", "--data", path, "--set", "admin.listen=127.0.0.1:0"];
    let error = failure(&run(&arguments), 1);
    assert!(error.contains("tokens.json is no list of tokens"), "{error}");
}

#[test]
fn what_is_no_token_to_make_is_refused() {
    let admin = Admin::start(&[]);
    for (status, code, body) in [
        (400, "name_invalid", json!({ "name": "a b", "role": "viewer" })),
        (400, "name_invalid", json!({ "name": "admin-token", "role": "viewer" })),
        (400, "expires_in_s_invalid", json!({ "name": "a", "role": "viewer", "expires_in_s": 0 })),
        (400, "expires_in_s_invalid", json!({ "name": "a", "role": "viewer", "expires_in_s": u64::MAX })),
        (422, "request_invalid", json!({ "name": "a", "role": "root" })),
        (422, "request_invalid", json!({ "name": "a", "role": "viewer", "secret": "b" })),
        (422, "request_invalid", json!({ "name": "a" })),
    ] {
        let response = admin.request("POST", "/api/v1/tokens", &body.to_string());
        assert_eq!(response.problem(status), code, "{body}");
    }
    assert_eq!(admin.get("/api/v1/tokens"), json!({ "tokens": [] }));
}

#[test]
fn payloads_are_not_for_viewers() {
    let admin = Admin::start(&[]);
    admin.publish(&json!({ "topic": "t", "payload": "secret", "retain": true }));
    let [viewer, operator] = ["viewer", "operator"].map(|role| add(&admin, role, role, &json!({})));
    let page = with(&admin, &viewer, ("GET", "/api/v1/retained", "")).json();
    assert_eq!(page, json!({ "messages": [{ "topic": "t", "qos": 0, "payload_bytes": 6 }] }));
    let page = with(&admin, &operator, ("GET", "/api/v1/retained", "")).json();
    assert_eq!(page["messages"][0]["payload"], "secret");
}
