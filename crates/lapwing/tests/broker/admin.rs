//! A broker with an admin channel, asked over HTTP and by the commands of the program.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use std::time::Instant;

use serde_json::Value;

use super::{Broker, SOON, lapwing};

/// A broker with an admin channel.
pub(crate) struct Admin {
    pub(crate) broker: Broker,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) data: tempfile::TempDir,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of a problem with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem["code"].as_str().expect("a code").to_owned()
    }
}

/// Where the log says that the admin channel is.
pub(crate) fn address(broker: &Broker) -> SocketAddr {
    let line = broker.wait_for_line("admin channel on http://");
    let (_, rest) = line.split_once("http://").expect("an address");
    rest.split(';').next().and_then(|address| address.trim().parse().ok()).expect("an address")
}

/// Sends a request with these further header lines, and reads the answer to its end.
pub(crate) fn exchange(address: SocketAddr, method: &str, path: &str, header: &str, body: &str) -> Response {
    let mut stream = TcpStream::connect_timeout(&address, SOON).expect("it accepts");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{header}\r\n{body}"
    );
    // It may answer before it has read all.
    let _ = stream.write_all(request.as_bytes());
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Response { status, head: head.to_owned(), body: body.to_owned() }
}

impl Admin {
    pub(crate) fn start(settings: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        Self::start_in(data, settings)
    }

    pub(crate) fn start_in(data: tempfile::TempDir, settings: &[&str]) -> Self {
        let path = data.path().to_str().expect("a plain path").to_owned();
        let mut arguments = vec!["--data", &path, "--set", "admin.listen=127.0.0.1:0"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let broker = Broker::start(&arguments);
        let address = address(&broker);
        let token = std::fs::read_to_string(data.path().join("admin-token")).expect("a token");
        Self { broker, address, token: token.trim().to_owned(), data }
    }

    /// A request with the token.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Response {
        let header = format!(
            "Host: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.address, self.token
        );
        exchange(self.address, method, path, &header, body)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let response = self.request("GET", path, "");
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        response.json()
    }

    pub(crate) fn bare(&self, method: &str, path: &str, header: &str) -> Response {
        exchange(self.address, method, path, &format!("Host: {}\r\n{header}", self.address), "")
    }

    #[track_caller]
    pub(crate) fn publish(&self, message: &Value) -> Value {
        let response = self.request("POST", "/api/v1/publish", &message.to_string());
        assert_eq!(response.status, 200, "{}", response.body);
        response.json()
    }

    pub(crate) fn metrics(&self) -> String {
        let response = self.request("GET", "/metrics", "");
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(response.head.contains("text/plain; version=0.0.4"), "{}", response.head);
        response.body
    }

    /// Runs a command of the program against this channel.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let mut command = lapwing();
        command.args(arguments).args(["--data", self.data.path().to_str().expect("a plain path")]);
        command.env("LAPWING_ADMIN", self.address.to_string());
        command.output().expect("the program starts")
    }

    #[track_caller]
    pub(crate) fn printed(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

/// Asks until the answer is right: what a shard has counted is seen at the end of its turn.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "{what}");
    }
}
