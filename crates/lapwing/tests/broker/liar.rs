//! What stands before the broker and breaks its word.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use lapwing_proto::packet::{Ack, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode};

use super::Broker;
use super::peer::encoded;

/// How it does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Every so often a QoS 1 message to a client is acknowledged instead of delivered.
    Lose,
    /// Every so often a QoS 2 message to a client comes once more, under another packet identifier.
    Repeat,
    /// On each connection an early QoS 1 message to a client comes after the next one to its topic. A later one might be
    /// the last to its topic, and so be lost.
    Swap,
}

/// One message in so many is concerned.
const EVERY: usize = 50;
/// Which one is concerned where it is only one.
const EARLY: usize = 10;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// Accepts connections and passes their bytes to the broker and back, until the test ends. Where it listens.
pub(crate) fn start(broker: &Broker, lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let (own, broker) = (listener.local_addr().expect("an address"), broker.address());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(broker) else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            pass(client, server, lie);
        }
    });
    own
}

fn pass(client: TcpStream, server: TcpStream, lie: Lie) {
    let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor is free");
    let to_server = Arc::new(Mutex::new(copy(&server)));
    let forth = Arc::clone(&to_server);
    let (mut from_client, to_client) = (copy(&client), client);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer) {
            if send(&forth, &buffer[..count]).is_err() {
                break;
            }
        }
        let _ = forth.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let mut back = Back { lie, to_client, to_server, messages: 0, held: None };
        let _ = back.run(server);
        let _ = back.to_client.shutdown(Shutdown::Both);
    });
}

fn send(stream: &Mutex<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
}

/// The way from the broker to a client.
struct Back {
    lie: Lie,
    to_client: TcpStream,
    to_server: Arc<Mutex<TcpStream>>,
    /// Of the QoS that is lied about.
    messages: usize,
    /// The topic and the bytes of one that the next one to its topic overtakes.
    held: Option<(String, Vec<u8>)>,
}

impl Back {
    fn run(&mut self, mut server: TcpStream) -> std::io::Result<()> {
        let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            received.extend_from_slice(&buffer[..count]);
            let mut input = &received[..];
            loop {
                let start = input;
                let Some(frame) = Frame::split(&mut input, u32::MAX).expect("well formed") else { break };
                let bytes = &start[..start.len() - input.len()];
                match Packet::decode(frame, V5) {
                    Ok(Packet::Publish(publish)) => self.publish(&publish, bytes)?,
                    _ => self.to_client.write_all(bytes)?,
                }
            }
            let rest = input.len();
            received.drain(..received.len() - rest);
        }
        Ok(())
    }

    fn publish(&mut self, publish: &Publish<'_>, bytes: &[u8]) -> std::io::Result<()> {
        let qos = if self.lie == Lie::Repeat { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let topic = publish.topic.expect("there are no aliases").as_str();
        if publish.qos != qos || !topic.contains("/load/") {
            return self.to_client.write_all(bytes);
        }
        self.messages += 1;
        let is_concerned = self.messages.is_multiple_of(EVERY);
        let packet_id = publish.packet_id.expect("it has one");
        match self.lie {
            Lie::Lose if is_concerned => {
                let ack = Packet::PubAck(Ack::new(packet_id, ReasonCode::Success));
                return send(&self.to_server, &encoded(&ack, V5));
            }
            Lie::Swap if self.messages == EARLY => {
                self.held = Some((topic.to_owned(), bytes.to_vec()));
                return Ok(());
            }
            _ => self.to_client.write_all(bytes)?,
        }
        if self.lie == Lie::Repeat && is_concerned {
            let other = PacketId::new(packet_id.get() ^ 0x4000).expect("not 0");
            let again = Publish { packet_id: Some(other), ..*publish };
            self.to_client.write_all(&encoded(&Packet::Publish(again), V5))?;
        }
        match self.held.take_if(|(held, _)| held == topic) {
            Some((_, held)) => self.to_client.write_all(&held),
            None => Ok(()),
        }
    }
}
