//! A client of MQTT 3.1.1 with no more than the measurements need: it waits for what it is owed, and checks it.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;
/// How long a broker may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of which the session outlives the connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    /// What is still to be written.
    out: Vec<u8>,
    next_id: u16,
}

/// What a broker has sent.
pub(super) struct Packet {
    /// The first byte.
    pub(super) head: u8,
    pub(super) body: Vec<u8>,
}

impl Client {
    /// Connects, and waits for the CONNACK. `number` also chooses one of this machine's own addresses, of which each has
    /// its own ports.
    pub(super) fn connect(port: u16, client_id: &str, number: usize) -> Result<Self> {
        let mut client = Self::open(port, number)?;
        client.put_connect(client_id);
        client.flush()?;
        client.expect(CONNACK)?;
        Ok(client)
    }

    fn open(port: u16, number: usize) -> Result<Self> {
        let [low, high] = [number % 250, number / 250 % 250].map(|part| part as u8 + 1);
        let stream =
            TcpStream::connect((Ipv4Addr::new(127, 1, high, low), port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream), out: Vec::new(), next_id: 1 })
    }

    /// Begins a session with one subscription at QoS 1, and leaves it behind.
    pub(super) fn leave_session(port: u16, client_id: &str, number: usize, filter: &str) -> Result<()> {
        let mut client = Self::open(port, number)?;
        client.put_connect(client_id);
        let mut body = vec![0, 1];
        put_text(&mut body, filter);
        body.push(1);
        client.put(0x82, &body);
        client.put(0xE0, &[]);
        client.flush()?;
        client.expect(CONNACK)?;
        let suback = client.expect(SUBACK)?;
        ensure!(suback.body.get(2) == Some(&1), "the subscription was refused");
        Ok(())
    }

    fn put_connect(&mut self, client_id: &str) {
        // MQTT 3.1.1, clean session 0, no keep alive.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0];
        put_text(&mut body, client_id);
        self.put(0x10, &body);
    }

    /// Adds a PUBLISH at QoS 1 to what is to be written.
    pub(super) fn put_publish(&mut self, topic: &str, payload: &[u8]) {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
        put_text(&mut body, topic);
        body.extend(self.next_id.to_be_bytes());
        body.extend(payload);
        self.next_id = if self.next_id == u16::MAX { 1 } else { self.next_id + 1 };
        self.put(PUBLISH | 0b10, &body);
    }

    /// Adds the PUBACK of a PUBLISH at QoS 1 to what is to be written.
    pub(super) fn put_puback(&mut self, publish: &Packet) -> Result<()> {
        let name = publish.body.first_chunk().map(|&length| usize::from(u16::from_be_bytes(length)));
        let id = name.and_then(|name| publish.body.get(name + 2..name + 4));
        let id = id.context("a PUBLISH without an identifier")?.to_vec();
        self.put(PUBACK, &id);
        Ok(())
    }

    /// Waits for a PUBACK.
    pub(super) fn take_puback(&mut self) -> Result<()> {
        self.expect(PUBACK).map(|_| ())
    }

    /// Waits for a PUBLISH.
    pub(super) fn take_publish(&mut self) -> Result<Packet> {
        let packet = self.receive()?;
        ensure!(packet.head & 0xF0 == PUBLISH, "{:#04x} instead of a PUBLISH", packet.head);
        Ok(packet)
    }

    /// Whether more has been read already.
    pub(super) fn has_more(&self) -> bool {
        !self.stream.buffer().is_empty()
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.out).context("the broker does not read")?;
        self.out.clear();
        Ok(())
    }

    fn put(&mut self, head: u8, body: &[u8]) {
        self.out.push(head);
        let mut rest = body.len();
        loop {
            let more = rest > 127;
            self.out.push((rest % 128) as u8 | u8::from(more) << 7);
            rest /= 128;
            if !more {
                break;
            }
        }
        self.out.extend(body);
    }

    fn expect(&mut self, head: u8) -> Result<Packet> {
        let packet = self.receive()?;
        ensure!(packet.head == head, "{:#04x} instead of {head:#04x}", packet.head);
        let is_refused = head == CONNACK && packet.body.get(1) != Some(&0);
        ensure!(!is_refused, "refused: {:?}", packet.body);
        Ok(packet)
    }

    fn receive(&mut self) -> Result<Packet> {
        let mut head = [0; 1];
        match self.stream.read_exact(&mut head) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("nothing came within {} s", PATIENCE.as_secs())
            }
            result => result.context("the broker has closed the connection")?,
        }
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut byte = [0; 1];
            self.stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] & 128 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Packet { head: head[0], body })
    }
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}
