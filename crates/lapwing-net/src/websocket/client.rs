//! One WebSocket of a client, over any stream whose reads and writes wait.

use std::io::{self, Read, Write};

use super::frame::{self, FrameReader, Role};
use super::upgrade::{HEAD_MAXIMUM, client_key, head_length, read_response, request};

/// Bytes of a frame to the server at most.
const FRAME_MAXIMUM: usize = 0xffff;

#[derive(Debug)]
pub(crate) struct WebSocketClient {
    reader: FrameReader,
    /// What came behind the answer to the upgrade.
    rest: Vec<u8>,
    has_ended: bool,
}

impl WebSocketClient {
    /// Upgrades a connection; `host` is that of the request. An error without a cause of the system's own is one that the
    /// server's answer has.
    pub(crate) fn upgrade(stream: &mut (impl Read + Write), host: &str, path: &str) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let key = client_key(random);
        stream.write_all(&request(host, path, &key))?;
        stream.flush()?;
        let mut head = Vec::new();
        let length = loop {
            if let Some(length) = head_length(&head) {
                break length;
            }
            if head.len() > HEAD_MAXIMUM {
                return Err(invalid("its answer is too long".into()));
            }
            let mut piece = [0; 1024];
            match stream.read(&mut piece)? {
                0 if head.is_empty() => {
                    return Err(invalid("it closed the connection without an answer".into()));
                }
                0 => return Err(invalid("it closed the connection within its answer".into())),
                count => head.extend_from_slice(&piece[..count]),
            }
        };
        let rest = head.split_off(length);
        read_response(&head, &key).map_err(invalid)?;
        Ok(Self { reader: FrameReader::new(Role::Client), rest, has_ended: false })
    }

    /// Reads bytes of MQTT. `WouldBlock` where only something else has come, too; 0 at the end.
    pub(crate) fn read(&mut self, stream: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        let count = if self.rest.is_empty() {
            stream.read(buffer)?
        } else {
            let count = self.rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.rest[..count]);
            self.rest.drain(..count);
            count
        };
        if count == 0 {
            return Ok(0);
        }
        let intake = match self.reader.read(&mut buffer[..count]) {
            Ok(intake) => intake,
            Err(fault) => {
                self.say_close(stream, Some(fault.code()))?;
                return Err(invalid(format!("WebSocket: {fault}")));
            }
        };
        if let Some(ping) = intake.ping {
            stream.write_all(&frame::pong(&ping, Some(mask()?)))?;
            stream.flush()?;
        }
        if let Some(code) = intake.close {
            self.say_close(stream, code)?;
        }
        if intake.count == 0 && !self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(intake.count)
    }

    /// Writes bytes of MQTT; how many.
    pub(crate) fn write(&mut self, stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(FRAME_MAXIMUM);
        if count == 0 {
            return Ok(0);
        }
        let mask = mask()?;
        let (header, length) = frame::header(count, Some(mask));
        let mut whole = [&header[..length], &bytes[..count]].concat();
        frame::unmask(&mut whole[length..], mask);
        stream.write_all(&whole)?;
        Ok(count)
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&mut self, stream: &mut impl Write) -> io::Result<()> {
        stream.write_all(&frame::close(Some(1000), Some(mask()?)))?;
        stream.flush()
    }

    fn say_close(&mut self, stream: &mut impl Write, code: Option<u16>) -> io::Result<()> {
        self.has_ended = true;
        stream.write_all(&frame::close(code, Some(mask()?)))?;
        stream.flush()
    }
}

fn mask() -> io::Result<[u8; 4]> {
    let mut mask = [0; 4];
    getrandom::fill(&mut mask).map_err(io::Error::other)?;
    Ok(mask)
}

fn invalid(fault: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}
