//! The other end of the admin channel: what the command line talks to it with.

use std::io::{self, Read};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::problem::Problem;
use crate::token::Token;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long nothing may come of a long answer.
const STALL: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const ANSWER_MAXIMUM: usize = 64 * 1024 * 1024;

/// A long answer on its way.
#[derive(Debug)]
pub struct Download {
    runtime: Runtime,
    body: Incoming,
    /// What has come and has not been read.
    piece: Bytes,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let body = &mut self.body;
            let frame = self.runtime.block_on(async { tokio::time::timeout(STALL, body.frame()).await });
            match frame.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? {
                Some(frame) => self.piece = frame.map_err(io::Error::other)?.into_data().unwrap_or_default(),
                None => return Ok(0),
            }
        }
        let piece = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

/// Asks an admin channel, a connection for each request.
#[derive(Debug)]
pub struct Caller {
    address: String,
    token: Token,
}

/// Why there is no answer, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers there.
    #[error("no admin channel answers at {0}: {1}")]
    Unreachable(String, #[source] io::Error),
    /// It takes too long.
    #[error("the admin channel at {0} does not answer in time")]
    TimedOut(String),
    /// What answers does not speak the language.
    #[error("what answers at {0} is no admin channel: {1}")]
    Foreign(String, String),
    /// The request is refused.
    #[error("{detail}")]
    Refused {
        /// The stable code of the problem.
        code: String,
        /// What it is, for people.
        detail: String,
    },
}

impl Caller {
    /// For the channel at `HOST:PORT`, also written `http://HOST:PORT`.
    pub fn new(address: &str, token: Token) -> Self {
        let address = address.strip_prefix("http://").unwrap_or(address);
        Self { address: address.trim_end_matches('/').to_owned(), token }
    }

    /// Gets what is at `path`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let body = self.call(Method::GET, path, Bytes::new())?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(&error))
    }

    /// Deletes what is at `path`.
    pub fn delete(&self, path: &str) -> Result<(), CallError> {
        self.call(Method::DELETE, path, Bytes::new()).map(drop)
    }

    /// Sends `request` as JSON.
    pub fn post<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T, CallError> {
        let body = serde_json::to_vec(request).map_err(|error| self.foreign(&error))?;
        let body = self.call(Method::POST, path, body.into())?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(&error))
    }

    /// Begins to get what is at `path`, however long it is.
    pub fn download(&self, path: &str) -> Result<Download, CallError> {
        let runtime = self.runtime()?;
        let exchange = self.exchange(Method::GET, path, Bytes::new());
        let response = runtime
            .block_on(async { tokio::time::timeout(TIMEOUT, exchange).await })
            .map_err(|_| CallError::TimedOut(self.address.clone()))??;
        let status = response.status();
        if status.is_success() {
            return Ok(Download { runtime, body: response.into_body(), piece: Bytes::new() });
        }
        let body = runtime.block_on(Limited::new(response.into_body(), ANSWER_MAXIMUM).collect());
        let body = body.map_err(|error| self.foreign(&error))?.to_bytes();
        Err(self.problem(status, &body))
    }

    fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CallError> {
        let runtime = self.runtime()?;
        let call = async {
            let response = self.exchange(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAXIMUM).collect().await;
            Ok::<_, CallError>((status, body.map_err(|error| self.foreign(&error))?.to_bytes()))
        };
        let (status, body) = runtime
            .block_on(async { tokio::time::timeout(TIMEOUT, call).await })
            .map_err(|_| CallError::TimedOut(self.address.clone()))??;
        if status.is_success() {
            return Ok(body);
        }
        Err(self.problem(status, &body))
    }

    fn runtime(&self) -> Result<Runtime, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| CallError::Unreachable(self.address.clone(), error))
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> CallError {
        match serde_json::from_slice(body) {
            Ok(Problem { code, detail, .. }) => CallError::Refused { code, detail },
            Err(_) => self.foreign(&status),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let unreachable = |error| CallError::Unreachable(self.address.clone(), error);
        let stream = tokio::net::TcpStream::connect(&*self.address).await.map_err(unreachable)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.foreign(&error))?;
        // It ends with the answer, or with an error that the sender reports as well.
        tokio::spawn(connection);
        let mut token = HeaderValue::from_str(&format!("Bearer {}", self.token.reveal()))
            .map_err(|error| self.foreign(&error))?;
        token.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &*self.address)
            .header(AUTHORIZATION, token)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.foreign(&error))?;
        sender.send_request(request).await.map_err(|error| self.foreign(&error))
    }

    fn foreign(&self, error: &dyn std::fmt::Display) -> CallError {
        CallError::Foreign(self.address.clone(), error.to_string())
    }
}
