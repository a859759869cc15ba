use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::Address;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host stands for no address.
    #[error("cannot connect to {0}: the host name is not known ({1})")]
    Resolve(Address, io::Error),
    /// Nothing listens there.
    #[error("cannot connect to {0}: connection refused; is a broker running there?")]
    Refused(Address),
    /// No answer.
    #[error("cannot connect to {0}: no answer within {1:?}")]
    Timeout(Address, Duration),
    /// Anything else.
    #[error("cannot connect to {0}: {1}")]
    Other(Address, io::Error),
}

/// A connection to a server whose reads and writes wait.
#[derive(Debug)]
pub struct BlockingStream {
    stream: TcpStream,
}

impl BlockingStream {
    /// Connects to the first of the socket addresses of `address` that answers, waiting at most `timeout` for
    /// each.
    pub fn dial(address: &Address, timeout: Duration) -> Result<Self, DialError> {
        let resolved = address.resolve().map_err(|error| DialError::Resolve(address.clone(), error))?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for socket_address in resolved {
            match TcpStream::connect_timeout(&socket_address, timeout) {
                Ok(stream) => {
                    // Packets leave at once; what belongs together is written together anyway.
                    let _ = stream.set_nodelay(true);
                    return Ok(Self { stream });
                }
                Err(error) => last = error,
            }
        }
        Err(match last.kind() {
            io::ErrorKind::ConnectionRefused => DialError::Refused(address.clone()),
            io::ErrorKind::TimedOut => DialError::Timeout(address.clone(), timeout),
            _ => DialError::Other(address.clone(), last),
        })
    }

    /// Ends this end's direction: what was written before still arrives.
    pub fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads, waiting at most `timeout`, or for ever with `None`; `Ok(None)` when the time is over.
    pub fn read_within(&mut self, buffer: &mut [u8], timeout: Option<Duration>) -> io::Result<Option<usize>> {
        // A timeout of zero would mean none.
        self.stream.set_read_timeout(timeout.map(|timeout| timeout.max(Duration::from_millis(1))))?;
        match self.stream.read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl Write for BlockingStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
