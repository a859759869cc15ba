use std::io;
use std::net::TcpStream;
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

/// Connects to the first of the socket addresses of `address` that answers, waiting at most `timeout` for
/// each. The stream blocks.
pub fn dial(address: &Address, timeout: Duration) -> Result<TcpStream, DialError> {
    let resolved = address.resolve().map_err(|error| DialError::Resolve(address.clone(), error))?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for socket_address in resolved {
        match TcpStream::connect_timeout(&socket_address, timeout) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
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
