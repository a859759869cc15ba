use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What a service is doing, for the manager that has started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// It does its work: what waits for it may start.
    Ready,
    /// It is ending in good order.
    Stopping,
}

/// Tells the service manager at `socket`, which it names in the environment as `NOTIFY_SOCKET`, what this service is doing:
/// in the protocol of systemd's `sd_notify`.
///
/// # Errors
/// There is nobody at the socket.
pub fn notify_service_manager(socket: &OsStr, state: ServiceState) -> io::Result<()> {
    let message = match state {
        ServiceState::Ready => "READY=1",
        ServiceState::Stopping => "STOPPING=1",
    };
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn the_manager_is_told_at_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        notify_service_manager(path.as_os_str(), ServiceState::Ready).unwrap();
        assert_eq!(received(&manager), "READY=1");
        let name = format!("lapwing-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notify_service_manager(OsStr::new(&format!("@{name}")), ServiceState::Stopping).unwrap();
        assert_eq!(received(&manager), "STOPPING=1");
        let nobody = folder.path().join("nobody");
        notify_service_manager(nobody.as_os_str(), ServiceState::Ready).unwrap_err();
    }
}
