//! The other end of the admin channel: what the command line talks to it with.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::problem::Problem;
use crate::token::Token;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const ANSWER_MAXIMUM: usize = 64 * 1024 * 1024;

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
        let body = self.call(Method::GET, path)?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(&error))
    }

    /// Deletes what is at `path`.
    pub fn delete(&self, path: &str) -> Result<(), CallError> {
        self.call(Method::DELETE, path).map(drop)
    }

    fn call(&self, method: Method, path: &str) -> Result<Bytes, CallError> {
        let unreachable = |error| CallError::Unreachable(self.address.clone(), error);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
        let call = self.exchange(method, path);
        let (status, body) = runtime
            .block_on(async { tokio::time::timeout(TIMEOUT, call).await })
            .map_err(|_| CallError::TimedOut(self.address.clone()))??;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice(&body) {
            Ok(Problem { code, detail, .. }) => Err(CallError::Refused { code, detail }),
            Err(_) => Err(self.foreign(&status)),
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), CallError> {
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
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.foreign(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.foreign(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAXIMUM).collect().await;
        Ok((status, body.map_err(|error| self.foreign(&error))?.to_bytes()))
    }

    fn foreign(&self, error: &dyn std::fmt::Display) -> CallError {
        CallError::Foreign(self.address.clone(), error.to_string())
    }
}
