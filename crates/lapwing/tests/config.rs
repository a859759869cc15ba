//! `lapwing config`, and what the program says about a configuration that is wrong.

mod broker;

use std::path::PathBuf;

use broker::{failure, lapwing, run};

/// A configuration file of its own for each test.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lapwing.toml");
    std::fs::write(&path, text).expect("a file");
    (directory, path)
}

fn check(text: &str) -> std::process::Output {
    let (_directory, path) = file(text);
    run(&["config", "check", path.to_str().expect("a plain path")])
}

fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn the_schema_is_what_the_sources_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/lapwing.schema.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let generated = stdout(&run(&["config", "schema"]));
    assert!(
        committed == generated,
        "docs/reference/lapwing.schema.json is stale: run `cargo xtask generate`"
    );
}

#[test]
fn the_reference_page_is_what_the_sources_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md");
    let committed = std::fs::read_to_string(path).unwrap();
    let generated = stdout(&run(&["config", "reference"]));
    assert!(committed == generated, "docs/reference/configuration.md is stale: run `cargo xtask generate`");
}

#[test]
fn an_unknown_key_is_an_error_with_file_line_and_the_key_that_was_meant() {
    let error = failure(&check("[limits]\n\nreceive_maximun = 7\n"), 1);
    for expected in ["lapwing.toml", "line 3", "receive_maximun", "did you mean `limits.receive_maximum`?"] {
        assert!(error.contains(expected), "{error}");
    }
    let error = failure(&run(&["serve", "--set", "limits.nope=1"]), 1);
    assert!(error.contains("--set limits.nope=1") && error.contains("unknown key `nope`"), "{error}");
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_names_its_place() {
    let error = failure(&check("[limits]\nreceive_maximum = 'many'\n"), 1);
    assert!(error.contains("line 2") && error.contains("invalid type"), "{error}");
    let error = failure(&check("[authentication]\nanonymous = 'some'\n"), 1);
    assert!(error.contains("line 2") && error.contains("`loopback`"), "{error}");
    for (setting, expected) in [
        ("authentication=1", "expected a table"),
        ("listeners=1", "expected a table"),
        ("listeners.lan={}", "missing key `bind`"),
        ("log.level=1", "expected text"),
        ("data=1", "expected text"),
        ("limits.receive_maximum=65536", "expected a number from 0 to 65535"),
        ("limits.packet_size_maximum=-1", "expected a number from 0 to 4294967295"),
        ("limits.sessions_maximum=many", "expected a number from 0"),
    ] {
        let error = failure(&run(&["config", "show", "--set", setting]), 1);
        assert!(error.contains(expected), "{setting}: {error}");
    }
    let error = failure(&check("limits = 'u16'\n"), 1);
    assert!(error.contains("limits = 'u16'") && error.contains("expected a table"), "{error}");
    let error = failure(&check("[limits\n"), 1);
    assert!(error.contains("lapwing.toml") && error.contains("line 1"), "{error}");
}

#[test]
fn a_value_out_of_range_names_the_key_and_the_range() {
    let error = failure(&check("[limits]\nreceive_maximum = 0\n"), 1);
    assert!(error.contains("limits.receive_maximum must be at least 1"), "{error}");
    let listener = failure(&check("[listeners.lan]\nbind = 'ftp://x'\n"), 1);
    assert!(listener.contains("listeners.lan.bind") && listener.contains("'ftp'"), "{listener}");
    let arguments = |setting| run(&["serve", "--listen", "127.0.0.1:0", "--set", setting]);
    for (setting, expected) in [
        ("limits.receive_maximum=0", "limits.receive_maximum must be at least 1"),
        ("limits.connect_timeout_s=0", "limits.connect_timeout_s must be at least 1"),
        ("limits.packet_size_maximum=4000000000", "limits.packet_size_maximum must be at most"),
        ("limits.receive_maximum=65536", "limits.receive_maximum=65536"),
        ("limits.receive_maximum=-1", "limits.receive_maximum=-1"),
    ] {
        let error = failure(&arguments(setting), 1);
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().join("missing.toml"), directory.path().to_owned()] {
        let path = path.to_str().unwrap();
        for arguments in [&["config", "check", path], &["serve", "--config", path][..]] {
            let error = failure(&run(arguments), 1);
            assert!(error.contains("cannot read") && error.contains(path), "{error}");
        }
    }
    let (_directory, path) = file("");
    std::fs::write(&path, [0xFF, 0xFE]).unwrap();
    let error = failure(&run(&["config", "check", path.to_str().unwrap()]), 1);
    assert!(error.contains("UTF-8"), "{error}");
}

#[test]
fn a_setting_needs_a_key_and_a_value() {
    let error = failure(&run(&["serve", "--set", "limits.receive_maximum"]), 1);
    assert!(error.contains("--set limits.receive_maximum: write --set key=value"), "{error}");
    let error = failure(&run(&["serve", "--set", "=1"]), 1);
    assert!(error.contains("--set =1"), "{error}");
}

#[test]
fn a_variable_of_the_environment_is_a_key() {
    let with = |name: &str, value: &str| {
        lapwing().args(["config", "show"]).env(name, value).output().expect("the program starts")
    };
    let error = failure(&with("LAPWING_LIMITS__NOPE", "1"), 1);
    assert!(error.contains("LAPWING_LIMITS__NOPE") && error.contains("`nope`"), "{error}");
    let error = failure(&with("LAPWING_LIMITS__RECEIVE_MAXIMUM", "many"), 1);
    assert!(error.contains("LAPWING_LIMITS__RECEIVE_MAXIMUM"), "{error}");
    let shown = stdout(&with("LAPWING_LIMITS__RECEIVE_MAXIMUM", "77"));
    assert!(shown.contains("\nreceive_maximum = 77\n"), "{shown}");
    let shown = stdout(&with("LAPWING_LISTENERS__LAN__BIND", "10.0.0.1:1883"));
    assert!(shown.contains("[listeners.lan]\nbind = \"10.0.0.1:1883\""), "{shown}");
}

#[test]
fn show_puts_the_settings_over_the_environment_and_that_over_the_file() {
    let (_directory, path) =
        file("[limits]\nreceive_maximum = 1\ntopic_alias_maximum = 1\nsessions_maximum = 1\n");
    let mut command = lapwing();
    command.args([
        "config",
        "show",
        "--config",
        path.to_str().unwrap(),
        "--set",
        "limits.sessions_maximum=3",
    ]);
    command.env("LAPWING_LIMITS__TOPIC_ALIAS_MAXIMUM", "2").env("LAPWING_LIMITS__SESSIONS_MAXIMUM", "2");
    let shown = stdout(&command.output().unwrap());
    for expected in ["\nreceive_maximum = 1\n", "\ntopic_alias_maximum = 2\n", "\nsessions_maximum = 3\n"] {
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn what_is_shown_is_a_configuration_again() {
    let default = stdout(&run(&["config", "default"]));
    assert_eq!(stdout(&run(&["config", "show"])), default);
    let (_directory, path) = file(&default);
    let path = path.to_str().unwrap();
    assert_eq!(stdout(&run(&["config", "check", path])), format!("{path} is fine\n"));
    assert_eq!(stdout(&run(&["config", "show", "--config", path])), default);
}

#[test]
fn help_and_version_say_what_there_is() {
    assert_eq!(stdout(&run(&["--version"])), concat!("lapwing ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = stdout(&run(&["--help"]));
    for expected in
        ["An MQTT broker and its tools", "Usage: lapwing <COMMAND>", "  serve", "Run the broker", "  config"]
    {
        assert!(help.contains(expected), "{help}");
    }
    let help = stdout(&run(&["serve", "--help"]));
    let options = ["--listen <ADDRESS>", "--data <DIR>", "--set <KEY=VALUE>", "--config <FILE>"];
    for expected in options.iter().chain(&["1883", "loopback", "Ctrl-C"]) {
        assert!(help.contains(expected), "{help}");
    }
    let help = stdout(&run(&["config", "--help"]));
    assert!(help.contains("  check") && !help.contains("  reference"), "{help}");
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_why() {
    let error = failure(&run(&["serve", "--listen", "ftp://x"]), 2);
    assert!(error.contains("scheme 'ftp' is not known"), "{error}");
    let error = failure(&run(&["swerve"]), 2);
    assert!(error.contains("'serve'"), "{error}");
    failure(&run(&[]), 2);
}
