//! The HTTP request that a WebSocket begins with, and its answer.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Bytes that a request or an answer may have before its empty line.
pub(super) const HEAD_MAXIMUM: usize = 8 * 1024;
/// Lines behind the first one.
const HEADERS_MAXIMUM: usize = 64;
/// What proves that the other end knows WebSocket (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocols, of 3.1.1 and 5.0, and of 3.1. `[MQTT-6.0.0-3]`, `[MQTT-6.0.0-4]`
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// WebSocket of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebSocketConfig {
    /// Pages whose scripts may connect, as browsers name them: `https://example.org`. None means any; clients that are no
    /// browsers name none, and may connect in any case.
    pub origins: Vec<String>,
}

/// Why an upgrade is refused: with which status, and what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(super) status: &'static str,
    pub(super) reason: String,
}

/// Where a request or an answer ends, with its empty line; `None` if it goes on.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The answer to a request that may have a WebSocket.
pub(super) fn answer(head: &[u8], path: &str, config: &WebSocketConfig) -> Result<Vec<u8>, Refusal> {
    let head = Head::parse(head)?;
    let (method, target) = head.request()?;
    // Behind `?` some services expect a signature, which means nothing here.
    if target.split('?').next() != Some(path) {
        let reason = format!("There is nothing here. MQTT over WebSocket is at {path}.");
        return Err(refusal("404 Not Found", reason));
    }
    if method != "GET" || !head.has_token("Upgrade", "websocket") || !head.has_token("Connection", "upgrade")
    {
        let reason =
            "This is MQTT over WebSocket: connect with an MQTT client, or send GET with Upgrade: websocket.";
        return Err(refusal("426 Upgrade Required", reason));
    }
    if head.only("Sec-WebSocket-Version")? != Some("13") {
        return Err(refusal("426 Upgrade Required", "The version of WebSocket must be 13."));
    }
    if head.only("Host")?.is_none() {
        return Err(refusal("400 Bad Request", "There is no Host."));
    }
    let key = head.only("Sec-WebSocket-Key")?.unwrap_or_default();
    if BASE64.decode(key).ok().is_none_or(|key| key.len() != 16) {
        return Err(refusal("400 Bad Request", "Sec-WebSocket-Key must be 16 bytes in Base64."));
    }
    if let Some(origin) = head.only("Origin")?
        && !config.origins.is_empty()
        && !config.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    {
        return Err(refusal("403 Forbidden", "Pages of this origin may not connect here."));
    }
    let offered = head.tokens("Sec-WebSocket-Protocol");
    let Some(protocol) = offered.into_iter().find(|it| SUBPROTOCOLS.contains(it)) else {
        return Err(refusal(
            "400 Bad Request",
            "The client must offer the subprotocol mqtt (Sec-WebSocket-Protocol).",
        ));
    };
    let accept = accept(key);
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
    .into_bytes())
}

impl Refusal {
    /// As the client gets it.
    pub(super) fn response(&self) -> Vec<u8> {
        let Self { status, reason } = self;
        let length = reason.len() + 1;
        let version = if status.starts_with("426") {
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        } else {
            ""
        };
        format!(
            "HTTP/1.1 {status}\r\n{version}Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\n\r\n{reason}\n"
        )
        .into_bytes()
    }
}

pub(super) fn refusal(status: &'static str, reason: impl Into<String>) -> Refusal {
    Refusal { status, reason: reason.into() }
}

/// The request of a client, with a key of [`client_key`].
pub(super) fn request(host: &str, path: &str, key: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    .into_bytes()
}

/// The key of a request, of random bytes.
pub(super) fn client_key(random: [u8; 16]) -> String {
    BASE64.encode(random)
}

/// Whether an answer lets a client with this key go on; if not, why.
pub(super) fn read_response(head: &[u8], key: &str) -> Result<(), String> {
    let head = Head::parse(head).map_err(|_| "it answered with something that is not HTTP".to_owned())?;
    let status = head.first.split_once(' ').map_or("", |(_, status)| status);
    if !head.first.starts_with("HTTP/1.1 101") {
        return Err(format!("it answered \"{status}\""));
    }
    let only = |name| head.only(name).ok().flatten();
    let accepts = only("Sec-WebSocket-Accept") == Some(&*accept(key));
    if !accepts || !head.has_token("Upgrade", "websocket") || !head.has_token("Connection", "upgrade") {
        return Err("its answer is none to this request".to_owned());
    }
    if only("Sec-WebSocket-Protocol") != Some("mqtt") {
        return Err("it does not speak the subprotocol mqtt".to_owned());
    }
    Ok(())
}

fn accept(key: &str) -> String {
    let text = format!("{key}{GUID}");
    BASE64.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// The lines before the empty one.
struct Head<'a> {
    first: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Head<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let bad = |reason: &str| refusal("400 Bad Request", reason);
        let text = std::str::from_utf8(bytes).map_err(|_| bad("The request is not text."))?;
        let text = text.strip_suffix("\r\n\r\n").ok_or_else(|| bad("The request has no end."))?;
        if text.bytes().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t')) {
            return Err(bad("The request has control characters in it."));
        }
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut headers = Vec::new();
        for line in lines {
            if headers.len() == HEADERS_MAXIMUM {
                return Err(refusal(
                    "431 Request Header Fields Too Large",
                    "The request has too many headers.",
                ));
            }
            // A line that begins with a blank would go on with the one before, which RFC 9112 has done away with.
            let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            match line.split_once(':').filter(|(name, _)| is_name(name) && !line.contains(['\r', '\n'])) {
                Some((name, value)) => headers.push((name, value.trim_matches([' ', '\t']))),
                None => return Err(bad("A line of the request is no header.")),
            }
        }
        Ok(Self { first, headers })
    }

    /// The method and the target.
    fn request(&self) -> Result<(&'a str, &'a str), Refusal> {
        let mut parts = self.first.split(' ');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(method), Some(target), Some("HTTP/1.1"), None) => Ok((method, target)),
            (Some(_), Some(_), Some("HTTP/1.0"), None) => {
                Err(refusal("426 Upgrade Required", "WebSocket needs HTTP/1.1."))
            }
            _ => Err(refusal("400 Bad Request", "This is no request of HTTP/1.1.")),
        }
    }

    /// The value of a header that may be there once.
    fn only(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
        let value = values.next().map(|&(_, value)| value);
        if values.next().is_some() {
            return Err(refusal("400 Bad Request", format!("{name} is there more than once.")));
        }
        Ok(value)
    }

    /// The words of all headers with a name.
    fn tokens(&self, name: &str) -> Vec<&'a str> {
        let values = self.headers.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
        values.flat_map(|(_, value)| value.split(',')).map(str::trim).collect()
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).iter().any(|it| it.eq_ignore_ascii_case(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request_with(change: (&str, &str)) -> String {
        String::from_utf8(request("broker:8083", "/mqtt", KEY)).unwrap().replacen(change.0, change.1, 1)
    }

    fn answer_to(request: &str) -> Result<String, Refusal> {
        let config = WebSocketConfig { origins: vec!["https://page.example".into()] };
        answer(request.as_bytes(), "/mqtt", &config).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
    // 3.1.1 [MQTT-6.0.0-3], [MQTT-6.0.0-4]
    #[test]
    fn an_upgrade_agrees_on_the_subprotocol() {
        // The key and the answer to it are those of RFC 6455, 1.3.
        let answer = answer_to(&request_with(("", ""))).unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
        assert_eq!(read_response(answer.as_bytes(), KEY), Ok(()));
        for (offered, chosen) in
            [("mqttv3.1", "mqttv3.1"), ("soap, mqtt, mqttv3.1", "mqtt"), ("mqttv3.1,mqtt", "mqttv3.1")]
        {
            let answer =
                answer_to(&request_with(("Protocol: mqtt", &format!("Protocol: {offered}")))).unwrap();
            assert!(answer.contains(&format!("Sec-WebSocket-Protocol: {chosen}\r\n")), "{answer}");
        }
        let several = ("Protocol: mqtt", "Protocol: soap\r\nSec-WebSocket-Protocol: mqtt");
        assert!(answer_to(&request_with(several)).is_ok());
    }

    #[test]
    fn other_ways_to_write_the_same_are_taken() {
        for change in [
            ("/mqtt", "/mqtt?x-signature=1"),
            ("Connection: Upgrade", "connection: keep-alive, upgrade"),
            ("Upgrade: websocket", "UPGRADE:WebSocket"),
            ("\r\n\r\n", "\r\nOrigin: https://PAGE.example\r\n\r\n"),
        ] {
            assert!(answer_to(&request_with(change)).is_ok(), "{change:?}");
        }
    }

    // [attack: websocket-subprotocol]
    #[test]
    fn what_is_no_upgrade_is_refused_with_the_reason() {
        let many = format!("\r\n{}\r\n", "a: b\r\n".repeat(64));
        for (change, status, reason) in [
            (("/mqtt", "/"), "404", "at /mqtt"),
            (("/mqtt", "/mqtt/"), "404", "at /mqtt"),
            (("GET", "POST"), "426", "GET with Upgrade"),
            (("Upgrade: websocket\r\n", ""), "426", "MQTT client"),
            (("Connection: Upgrade", "Connection: close"), "426", "MQTT client"),
            (("Version: 13", "Version: 8"), "426", "must be 13"),
            (("Host: broker:8083\r\n", ""), "400", "no Host"),
            ((KEY, "dGhlIHNhbXBsZQ=="), "400", "16 bytes"),
            ((KEY, "?"), "400", "16 bytes"),
            (("Protocol: mqtt", "Protocol: soap"), "400", "subprotocol mqtt"),
            (("Sec-WebSocket-Protocol: mqtt\r\n", ""), "400", "subprotocol mqtt"),
            (("Host: broker:8083", "Host: a\r\nHost: b"), "400", "Host is there more than once"),
            (("\r\n\r\n", "\r\nOrigin: https://other.example\r\n\r\n"), "403", "origin"),
            (("HTTP/1.1", "HTTP/1.0"), "426", "HTTP/1.1"),
            (("HTTP/1.1", "HTTP/2"), "400", "no request"),
            (("Host:", "Host"), "400", "no header"),
            (("Host:", " Host:"), "400", "no header"),
            (("Host:", "Host\n:"), "400", "no header"),
            (("broker", "\u{7f}"), "400", "control characters"),
            (("\r\n\r\n", &many), "431", "too many"),
        ] {
            let refusal = answer_to(&request_with(change)).unwrap_err();
            assert!(refusal.status.starts_with(status), "{change:?}: {refusal:?}");
            assert!(refusal.reason.contains(reason), "{change:?}: {refusal:?}");
            let response = String::from_utf8(refusal.response()).unwrap();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{response}");
        }
        assert!(answer(b"GET \xff HTTP/1.1\r\n\r\n", "/mqtt", &WebSocketConfig::default()).is_err());
    }

    #[test]
    fn a_client_takes_only_the_answer_to_its_request() {
        let good = answer_to(&request_with(("", ""))).unwrap();
        for (change, reason) in [
            (("101 Switching Protocols", "404 Not Found"), "404 Not Found"),
            (("s3p", "s3q"), "none to this request"),
            (("Upgrade: websocket", "Upgrade: h2c"), "none to this request"),
            (("Protocol: mqtt", "Protocol: mqttv3.1"), "subprotocol"),
        ] {
            let error = read_response(good.replacen(change.0, change.1, 1).as_bytes(), KEY).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(read_response(b"SSH-2.0\r\n", KEY).is_err());
    }
}
