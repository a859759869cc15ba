//! Everything that is stored, as a stream of bytes.

use std::io::{self, BufWriter, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use lapwing_broker::ControlError;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::problem::Problem;
use crate::router::Api;

/// Bytes of a piece.
const PIECE: usize = 256 * 1024;
/// Pieces that may wait for the client.
const UNDER_WAY: usize = 4;
/// A client that takes nothing for so long gets nothing more: a broker that stops waits for the backup.
const STALL: Duration = Duration::from_secs(30);

/// How long to wait before the next look whether it has taken something.
const PAUSE: Duration = Duration::from_millis(1);

/// A piece, or the end of a complete archive.
type Piece = Result<Option<Bytes>, ControlError>;

/// Everything that is stored, as of one moment, while the broker goes on: what `lapwing store restore` reads. Sessions that
/// end with their connections are not stored. There is one backup at a time. The answer comes in chunks, and only a
/// complete one ends as it should; its own checksums show the same.
#[utoipa::path(get, path = "/api/v1/store/backup", tag = "store",
    responses(
        (status = 200, description = "The archive.", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 409, description = "There is nothing to save, or a backup is being made already: `nothing_stored`, `backup_running`.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store cannot be read, or the broker is stopping: `backup_failed`, `stopped`.", body = Problem, content_type = "application/problem+json")
    ))]
pub(crate) async fn backup(State(api): State<Api>) -> Result<Response, Problem> {
    let (sender, mut pieces) = mpsc::channel(UNDER_WAY);
    let out = Out(sender);
    let end = out.clone();
    let out = BufWriter::with_capacity(PIECE, out);
    api.control.backup(Box::new(out), move |result| {
        // It fails where nobody waits any more.
        let _ = end.send(result.map(|()| None));
    })?;
    match pieces.recv().await {
        Some(Ok(first)) => {
            let body = Body::new(Archive { first, pieces, is_over: false });
            Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
        }
        Some(Err(error)) => Err(error.into()),
        None => Err(ControlError::Stopped.into()),
    }
}

/// Takes the archive on the thread that writes it.
#[derive(Clone)]
struct Out(mpsc::Sender<Piece>);

impl Out {
    /// Waits without the runtime, which may end meanwhile.
    fn send(&self, mut piece: Piece) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < STALL {
            piece = match self.0.try_send(piece) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(TrySendError::Full(piece)) => piece,
            };
            std::thread::sleep(PAUSE);
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Ok(Some(Bytes::copy_from_slice(bytes))))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The archive on its way to the client.
struct Archive {
    first: Option<Bytes>,
    pieces: mpsc::Receiver<Piece>,
    is_over: bool,
}

impl HttpBody for Archive {
    type Data = Bytes;
    type Error = ControlError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ControlError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let piece = match ready!(self.pieces.poll_recv(context)) {
            Some(Ok(Some(bytes))) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Ok(None)) => None,
            // So that the client sees that it has not got everything.
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(ControlError::Stopped)),
        };
        self.is_over = true;
        Poll::Ready(piece)
    }
}
