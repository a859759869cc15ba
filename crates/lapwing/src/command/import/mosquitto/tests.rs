use super::*;
use crate::config::Config;

fn translate(text: &str) -> (Translation, Config) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mosquitto.conf");
    std::fs::write(&file, text).unwrap();
    let translation = Translation::read(&file, Path::new("/x/users.toml")).unwrap();
    let text = translation.configuration(&file).unwrap();
    let config = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (translation, config)
}

fn fate(text: &str) -> Fate {
    translate(text).0.lines.pop().unwrap().1
}

#[test]
fn listeners_have_their_addresses_and_certificates() {
    let (translation, config) = translate(
        "port 1884\nbind_address 10.0.0.1\n\nlistener 8883\ncertfile /c.pem\nkeyfile /k.pem\ncafile /ca.pem\n\
         require_certificate true\ncrlfile /crl.pem\ntls_version tlsv1.3\nmax_connections 100\n\
         listener 9001 ::1\nprotocol websockets\nwebsockets_origin https://example.org\n\
         listener 0 /run/mosquitto.sock\nlistener 8884\ncertfile /both.pem\ncafile /ca.pem\n",
    );
    let binds: Vec<_> = config.listeners.values().map(|it| it.bind.as_str()).collect();
    let any = if lapwing_net::has_ipv6() { "[::]" } else { "0.0.0.0" };
    let secure = [format!("tls://{any}:8883"), format!("tls://{any}:8884")];
    assert_eq!(
        binds,
        ["unix:/run/mosquitto.sock", "tcp://10.0.0.1:1884", &secure[0], &secure[1], "ws://[::1]:9001/mqtt"]
    );
    let tls = config.listeners["tls-8883"].tls.as_ref().unwrap();
    assert_eq!((tls.certificate.as_path(), tls.key.as_path()), (Path::new("/c.pem"), Path::new("/k.pem")));
    assert_eq!(
        (tls.client_ca.as_deref(), tls.crl.as_deref()),
        (Some(Path::new("/ca.pem")), Some(Path::new("/crl.pem")))
    );
    assert_eq!(config.listeners["tls-8883"].limits.connections_maximum, Some(100));
    let other = config.listeners["tls-8884"].tls.as_ref().unwrap();
    assert_eq!((other.key.as_path(), &other.client_ca), (Path::new("/both.pem"), &None));
    assert_eq!(config.listeners["ws-9001"].websocket.as_ref().unwrap().origins, ["https://example.org"]);
    assert!(translation.lines.iter().all(|(_, fate)| *fate == Fate::Carried), "{:?}", translation.lines);
}

#[test]
fn who_is_let_in_without_a_password_is_as_with_mosquitto() {
    for (text, expected) in [
        ("", "loopback"),
        ("allow_anonymous false", "none"),
        ("listener 1883", "none"),
        ("listener 1883\nallow_anonymous true", "all"),
        ("allow_anonymous true", "all"),
    ] {
        let (_, config) = translate(text);
        assert_eq!(format!("{:?}", config.authentication.anonymous).to_lowercase(), expected, "{text}");
    }
    let (translation, config) = translate("listener 1883\npassword_file /p\nacl_file /a\n");
    assert_eq!(config.authentication.password.file.as_deref(), Some(Path::new("/x/users.toml")));
    assert_eq!(translation.passwords.as_deref(), Some(Path::new("/p")));
    assert_eq!(config.permissions.file.as_deref(), Some(Path::new("/a")));
    assert_eq!(config.permissions.format, lapwing_auth::Format::Mosquitto);
    assert!(
        translate("listener 1883").0.remarks.iter().any(|remark| remark.contains("nobody would be let in"))
    );
}

#[test]
fn limits_mean_the_same() {
    let (_, config) = translate(
        "max_inflight_messages 0\nmax_queued_messages 500\nmax_packet_size 1000\nmax_keepalive 600\nretain_available false\n\
         persistent_client_expiration 2w\nsys_interval 30\npersistence false\nmax_qos 1\nmemory_limit 1000000\n",
    );
    let limits = &config.limits;
    assert_eq!((limits.client_receive_maximum, limits.queue_messages_maximum), (65_535, 500));
    assert_eq!((limits.packet_size_maximum, limits.keep_alive_maximum_s), (1000, 600));
    assert_eq!((limits.session_expiry_maximum_s, limits.sys_interval_s), (1_209_600, 30));
    assert!(!limits.retain_available && limits.qos_maximum == 1);
    assert_eq!(config.store.durability, crate::config::Durability::Memory);
    assert_eq!(config.memory.unwrap().as_u64(), 64 << 20);
    let (_, config) = translate("message_size_limit 1000");
    assert_eq!(config.limits.packet_size_maximum, 1000 + 65_536);
}

#[test]
fn what_is_not_carried_over_is_said() {
    for text in [
        "mount_point a/",
        "user mosquitto",
        "plugin /x.so",
        "auth_opt_a b",
        "tls_version tlsv1.1",
        "psk_file /p",
        "queue_qos0_messages true",
        "persistence_location /var/lib",
        "no_such_option 1",
        "max_queued_messages many",
        "connection other\naddress example.org",
        "connection other\ntopic # both",
        "persistent_client_expiration 7x",
        "allow_anonymous true\nallow_anonymous false",
        "max_qos 1\nlistener 2000\nmax_qos 2",
        "acl_file /a\nacl_file /b",
        "password_file /a\npassword_file /b",
        "listener many",
    ] {
        assert!(matches!(fate(text), Fate::Left(_)), "{text}: {:?}", fate(text));
    }
    for text in ["persistence true", "set_tcp_nodelay true", "per_listener_settings false", "log_dest stderr"]
    {
        assert_eq!(fate(text), Fate::Usual, "{text}");
    }
    assert!(matches!(fate("use_username_as_clientid true"), Fate::Changed(_)));
    // Behind a bridge there can be a listener again.
    let (translation, config) = translate("connection x\naddress y\nlistener 1999\nallow_anonymous true\n");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(translation.lines.iter().filter(|(_, fate)| matches!(fate, Fate::Left(_))).count(), 2);
}

#[test]
fn included_files_stand_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("conf.d")).unwrap();
    std::fs::write(path("conf.d/b.conf"), "max_keepalive 2\n").unwrap();
    std::fs::write(path("conf.d/a.conf"), "# comment\nlistener 1999\n").unwrap();
    std::fs::write(path("conf.d/readme"), "nonsense\n").unwrap();
    let text = format!("allow_anonymous true\ninclude_dir {}\n", path("conf.d").display());
    std::fs::write(path("mosquitto.conf"), text).unwrap();
    let translation = Translation::read(&path("mosquitto.conf"), Path::new("u")).unwrap();
    let names: Vec<_> = translation.lines.iter().map(|(line, _)| (line.name.as_str(), line.number)).collect();
    assert_eq!(names, [("allow_anonymous", 1), ("listener", 2), ("max_keepalive", 1)]);
    let text = format!("include_dir {}\n", path("conf.d").display());
    std::fs::write(path("conf.d/c.conf"), text).unwrap();
    let error = Translation::read(&path("mosquitto.conf"), Path::new("u")).unwrap_err();
    assert!(error.to_string().contains("included by itself"), "{error:#}");
    std::fs::write(path("mosquitto.conf"), "include_dir /none\n").unwrap();
    let error = format!("{:#}", Translation::read(&path("mosquitto.conf"), Path::new("u")).unwrap_err());
    assert!(error.contains("mosquitto.conf:1") && error.contains("/none"), "{error}");
}
