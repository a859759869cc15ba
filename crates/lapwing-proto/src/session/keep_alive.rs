use std::time::Duration;

use super::Instant;

/// The longest pause that a connection may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepAlive {
    seconds: u16,
}

impl KeepAlive {
    /// `seconds` as in CONNECT or as the server's answer has it; 0 for no limit.
    pub fn new(seconds: u16) -> Self {
        Self { seconds }
    }

    /// The interval in seconds; 0 for no limit.
    pub fn seconds(self) -> u16 {
        self.seconds
    }

    /// When a server gives up on a client from which it last heard at `heard`: one and a half times the
    /// interval later `[MQTT-3.1.2-22]`. `None`: never.
    pub fn server_deadline(self, heard: Instant) -> Option<Instant> {
        (self.seconds > 0).then(|| heard + Duration::from_millis(u64::from(self.seconds) * 1500))
    }

    /// When a client that last sent something at `sent` must send a PINGREQ, at the latest
    /// `[MQTT-3.1.2-20]`. `None`: never.
    pub fn client_deadline(self, sent: Instant) -> Option<Instant> {
        (self.seconds > 0).then(|| sent + Duration::from_secs(u64::from(self.seconds)))
    }
}
