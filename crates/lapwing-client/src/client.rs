use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use lapwing_net::{Address, BlockingStream, ClientTls};
use lapwing_proto::packet::{
    Disconnect, MAXIMUM_PACKET_SIZE, Packet, Publish, QoS, ReasonCode, SubscribeProperties, Subscription,
    SubscriptionOptions,
};
use lapwing_proto::session::{
    ClientError, ClientSession, ConnectOptions, Event, Instant, Message, PublishError,
};
use lapwing_proto::topic::TopicFilter;

use crate::Error;

/// How long each address of the server may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to close the connection after a DISCONNECT.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages kept for the caller while something else is waited for.
const MESSAGES_MAXIMUM: usize = 10_000;

/// A connected client.
///
/// It has no thread: PINGREQs are sent only while one of its calls waits. A program that does something else for
/// longer than the keep alive is disconnected by the server. Dropping the client closes the connection without a DISCONNECT, so that the server publishes
/// its will.
#[derive(Debug)]
pub struct Client {
    session: ClientSession,
    stream: BlockingStream,
    origin: std::time::Instant,
    buffer: Box<[u8]>,
    /// Messages that came while something else was waited for.
    messages: VecDeque<Message>,
}

impl Client {
    /// Connects, and waits for the server to accept the client.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] and [`Error::NotMqtt`] if there is no MQTT broker at the address.
    pub fn connect(address: &Address, options: ConnectOptions) -> Result<Self, Error> {
        Self::connect_with(address, options, &ClientTls::default())
    }

    /// As [`connect`](Self::connect), with this use of TLS where the address asks for TLS.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(
        address: &Address,
        mut options: ConnectOptions,
        tls: &ClientTls,
    ) -> Result<Self, Error> {
        // One message is sent at a time, however large it may be.
        options.limits.stored_bytes = options.limits.stored_bytes.max(MAXIMUM_PACKET_SIZE as usize);
        let timeout = options.connack_timeout;
        let session = ClientSession::new(options)?;
        let stream = BlockingStream::dial_with(address, DIAL_TIMEOUT, tls)?;
        let mut client = Self {
            session,
            stream,
            origin: std::time::Instant::now(),
            buffer: vec![0; 64 * 1024].into(),
            messages: VecDeque::new(),
        };
        client.session.connected(client.now());
        client.accepted().map_err(|error| match error {
            Error::Protocol(ClientError::ConnAckTimeout) => Error::NoAnswer(address.clone(), timeout),
            Error::Protocol(error) => Error::NotMqtt { address: address.clone(), error: Some(error) },
            Error::Lost(_) => Error::NotMqtt { address: address.clone(), error: None },
            error => error,
        })?;
        Ok(client)
    }

    /// Waits for CONNACK.
    fn accepted(&mut self) -> Result<(), Error> {
        self.wait(|event| match event {
            Event::Connected(_) => Some(Ok(())),
            Event::Refused(packet) => {
                let connack = packet.connack();
                let reason_code = connack.map_or(ReasonCode::UnspecifiedError, |connack| connack.reason_code);
                let reason_string = connack.and_then(|connack| connack.properties.reason_string);
                Some(Err(Error::Refused { reason_code, reason_string: reason_string.map(str::to_owned) }))
            }
            _ => None,
        })?
    }

    /// Publishes a message and waits until the server has it: until it is written at QoS 0, until it is
    /// acknowledged at QoS 1 and 2.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Result<(), Error> {
        let token = self.session.publish(publish)?;
        if publish.qos == QoS::AtMostOnce {
            return self.flush();
        }
        self.wait(|event| match event {
            Event::Published { token: published, reason_code, .. } if *published == token => {
                Some(if reason_code.is_error() { Err(Error::PublishRefused(*reason_code)) } else { Ok(()) })
            }
            Event::PublishFailed { token: failed, error } if *failed == token => Some(Err((*error).into())),
            _ => None,
        })?
    }

    /// Subscribes, and waits for the server's answer. Messages come at `qos` at most.
    pub fn subscribe(&mut self, filters: &[&str], qos: QoS) -> Result<(), Error> {
        let mut subscriptions = Vec::new();
        for &filter in filters {
            let valid = TopicFilter::new(filter).map_err(|error| Error::Topic(filter.to_owned(), error))?;
            subscriptions.push(Subscription { filter: valid, options: SubscriptionOptions::new(qos) });
        }
        let token = self.session.subscribe(&subscriptions, SubscribeProperties::default())?;
        self.wait(|event| match event {
            Event::Subscribed { token: subscribed, packet } if *subscribed == token => {
                let mut results = filters.iter().zip(packet.reason_codes());
                let refused = results.find(|(_, reason_code)| reason_code.is_error());
                Some(match refused {
                    Some((&filter, reason_code)) => {
                        Err(Error::SubscribeRefused(filter.to_owned(), reason_code))
                    }
                    None => Ok(()),
                })
            }
            _ => None,
        })?
    }

    /// Waits for the next message.
    pub fn receive(&mut self) -> Result<Message, Error> {
        if let Some(message) = self.messages.pop_front() {
            return Ok(message);
        }
        loop {
            while let Some(event) = self.session.poll_event() {
                match event {
                    Event::Message(message) => {
                        self.flush()?; // its acknowledgement
                        return Ok(message);
                    }
                    Event::Disconnected(cause) => return Err(cause.into()),
                    _ => {}
                }
            }
            self.turn()?;
        }
    }

    /// Sends a DISCONNECT, and waits for the server to close the connection. The server discards the will.
    ///
    /// # Errors
    /// If the server has ended the connection before, so that it may not have taken what was sent last at
    /// QoS 0.
    pub fn disconnect(mut self) -> Result<(), Error> {
        // What the server says from here on is heard: once told of a DISCONNECT, the session would not listen.
        let mut goodbye = Vec::new();
        let disconnect = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        disconnect.encode(self.session.options().version, &mut goodbye).map_err(PublishError::from)?;
        self.flush()?;
        let lost = |error| Error::Lost(Some(error));
        self.stream.write_all(&goodbye).map_err(lost)?;
        self.stream.finish().map_err(lost)?;
        let deadline = self.now() + CLOSE_TIMEOUT;
        while self.now() < deadline {
            let timeout = Some(deadline.since(self.now()));
            match self.stream.read_within(&mut self.buffer, timeout).map_err(lost)? {
                None | Some(0) => return Ok(()),
                Some(count) => {
                    let now = self.now();
                    if self.session.receive(&self.buffer[..count], now).is_err() || self.session.is_closing()
                    {
                        self.session.disconnected();
                    }
                }
            }
            while let Some(event) = self.session.poll_event() {
                if let Event::Disconnected(cause) = event {
                    return Err(cause.into());
                }
            }
        }
        Ok(())
    }

    /// Waits for an event that `found` knows; messages that come meanwhile are kept.
    fn wait<T>(&mut self, mut found: impl FnMut(&Event) -> Option<T>) -> Result<T, Error> {
        loop {
            while let Some(event) = self.session.poll_event() {
                if let Some(result) = found(&event) {
                    // The answer to the last message is sent as well.
                    self.flush()?;
                    return Ok(result);
                }
                match event {
                    Event::Message(_) if self.messages.len() >= MESSAGES_MAXIMUM => {
                        return Err(Error::TooManyMessages);
                    }
                    Event::Message(message) => self.messages.push_back(message),
                    Event::Disconnected(cause) => return Err(cause.into()),
                    _ => {}
                }
            }
            self.turn()?;
        }
    }

    /// Writes what there is to write, then waits for bytes from the server or for what is due.
    fn turn(&mut self) -> Result<(), Error> {
        self.flush()?;
        let timeout = self.session.poll_timeout().map(|at| at.since(self.now()));
        let read = self.stream.read_within(&mut self.buffer, timeout);
        let now = self.now();
        // An error closes the connection; what caused it comes as an event.
        match read {
            Ok(Some(0)) => self.session.disconnected(),
            Ok(Some(count)) => {
                if self.session.receive(&self.buffer[..count], now).is_err() {
                    self.close();
                }
            }
            Ok(None) => {
                if self.session.handle_timeout(now).is_err() {
                    self.close();
                }
            }
            Err(error) => return Err(Error::Lost(Some(error))),
        }
        if self.session.is_closing() {
            self.close();
        }
        Ok(())
    }

    /// Sends the server what is left to say to it, if it still listens.
    fn close(&mut self) {
        let _ = self.stream.write_all(self.session.output());
        self.session.disconnected();
    }

    fn flush(&mut self) -> Result<(), Error> {
        while !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(count) => self.session.consume(count, self.now()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Lost(Some(error))),
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
