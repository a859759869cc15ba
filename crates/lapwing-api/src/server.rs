//! The listener and the one thread of the admin channel.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lapwing_broker::Control;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::bans::BanFile;
use crate::events::EventStream;
use crate::metrics::MetricSource;
use crate::reload::Reload;
use crate::router::{Api, router};
use crate::tokens::Tokens;
use crate::watch::Streams;

/// Where the admin channel is without configuration.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:18830";

/// Connections at a time. More wait to be accepted.
const CONNECTIONS: u32 = 64;
/// How long the header of the next request may take, and how long a connection may do nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HEADER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// How long a connection is kept: so that one who does not read the answers holds no place for ever.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a request under way may still take when its connection is to end, and when the channel is.
const LAST_REQUEST: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Requests that wait for a shard at a time.
const WAITING_THREADS: usize = 4;
/// A thread that has waited and has nothing more to wait for ends after this.
const IDLE_THREAD: Duration = Duration::from_secs(2);
/// When the system has no descriptor for another connection, the next try is after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// An address on which nobody is answered yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    local: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("{0} is taken by another process")]
    Taken(String),
    /// Something else.
    #[error("cannot listen on {0}: {1}")]
    Other(String, #[source] io::Error),
}

impl Listener {
    /// Binds `HOST:PORT`; port 0 takes a free one.
    pub fn bind(address: &str) -> Result<Self, BindError> {
        let error = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken(address.to_owned()),
            _ => BindError::Other(address.to_owned(), error),
        };
        let listener = TcpListener::bind(&*resolve(address).map_err(error)?).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let local = listener.local_addr().map_err(error)?;
        Ok(Self { listener, local })
    }

    /// The address, with the port that the system chose where it was to choose.
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(address.to_socket_addrs()?.collect())
}

/// How the channel is to be.
pub struct Options {
    /// What opens it.
    pub tokens: Tokens,
    /// Whether the metrics need no token.
    pub metrics_public: bool,
    /// The directory in which bans outlive the process, if they are to.
    pub data: Option<PathBuf>,
    /// What is counted beside the broker, if anything is.
    pub metrics: Option<MetricSource>,
    /// What is told of all that happens, and tells those who watch.
    pub events: Arc<EventStream>,
    /// What reads the configuration anew, if anything does.
    pub reload: Option<Arc<dyn Reload>>,
}

/// A running admin channel. It stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers for a broker from now on.
    pub fn start(listener: Listener, control: Control, options: Options) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(WAITING_THREADS)
            .thread_keep_alive(IDLE_THREAD)
            .thread_name("admin-wait")
            .build()?;
        let bans = options.data.as_deref().map(BanFile::new);
        let (stop, is_stopping) = watch::channel(false);
        let api = Api {
            events: options.events,
            stopping: is_stopping.clone(),
            bans: bans.map(Arc::new),
            metrics: options.metrics,
            reload: options.reload,
            data: options.data.map(Arc::from),
            control,
            tokens: Arc::new(options.tokens),
            metrics_public: options.metrics_public,
            is_loopback: listener.local.ip().is_loopback(),
        };
        let accepting = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener.listener)?
        };
        let run = move || {
            runtime.block_on(serve(accepting, router(api), is_stopping));
            // Whoever still waits for a shard waits for nobody's sake.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("admin".into()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Answers what is under way, and returns when the thread has ended: at most about a second later.
    pub fn shut_down(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        // It fails only where the thread has ended.
        let _ = self.stop.send(true);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of the admin channel has panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: tokio::net::TcpListener, app: Router, mut is_stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    let accept = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(TokioIo::new(stream), app.clone(), place, is_stopping.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin channel cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let mut stopping = is_stopping.clone();
    tokio::select! {
        () = accept => {}
        // It fails where the other end is gone, which is as good a reason.
        _ = stopping.wait_for(|&is_stopping| is_stopping) => {}
    }
    is_stopping.mark_unchanged();
    drop(listener);
    // It fails where they have not all ended in time.
    let _ = tokio::time::timeout(STOP_TIMEOUT, places.acquire_many(CONNECTIONS)).await;
}

async fn connection(
    stream: TokioIo<tokio::net::TcpStream>,
    app: Router,
    _place: OwnedSemaphorePermit,
    mut is_stopping: watch::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.max_buf_size(HEADER_BYTES).max_headers(HEADERS);
    let (app, streams) = (TowerToHyperService::new(app), Streams::default());
    let service = service_fn({
        let streams = streams.clone();
        move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(streams.clone());
            app.call(request)
        }
    });
    let connection = builder.serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = is_stopping.wait_for(|&is_stopping| is_stopping) => None,
        () = lifetime(&streams) => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_REQUEST, connection).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "a connection to the admin channel has ended with an error");
    }
}

/// Returns when a connection is to end. A stream of events has a lifetime of its own, and its connection that of the stream.
async fn lifetime(streams: &Streams) {
    tokio::time::sleep(CONNECTION_LIFETIME).await;
    while streams.are_there() {
        tokio::time::sleep(CONNECTION_LIFETIME).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// By a clock that is moved by hand.
    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_stream_is_as_old_as_that() {
        let start = Instant::now();
        lifetime(&Streams::default()).await;
        assert_eq!(start.elapsed(), CONNECTION_LIFETIME);
        let streams = Streams::default();
        let guard = streams.begin();
        let ends = tokio::spawn({
            let streams = streams.clone();
            async move { lifetime(&streams).await }
        });
        let start = Instant::now();
        tokio::time::sleep(CONNECTION_LIFETIME * 9 / 2).await; // sleep: by a clock that is moved by hand
        assert!(!ends.is_finished());
        drop(guard);
        ends.await.expect("it ends");
        assert_eq!(start.elapsed(), CONNECTION_LIFETIME * 5);
    }
}
