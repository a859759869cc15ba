//! A service over HTTP that says who a client is, as a test wants it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};

use serde_json::Value;

use super::SOON;

/// It answers on a thread of its own until the test is over.
pub(crate) struct Service {
    address: SocketAddr,
    /// Each question, as it came.
    questions: Receiver<Question>,
}

/// What the service was asked.
pub(crate) struct Question {
    /// The first line and the headers.
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// What it does.
pub(crate) enum Reply {
    /// Answers with this JSON.
    Json(Value),
    /// Sends these bytes.
    Raw(&'static str),
    /// Says nothing until the broker gives it up.
    Hang,
}

impl Service {
    pub(crate) fn start(reply: impl Fn(&Value) -> Reply + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, questions) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, reply) = (sender.clone(), reply.clone());
                std::thread::spawn(move || serve(stream, &sender, reply));
            }
        });
        Self { address, questions }
    }

    /// Where it is asked.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mqtt", self.address)
    }

    /// The next question, when it comes.
    pub(crate) fn next(&self) -> Question {
        self.questions.recv_timeout(SOON).expect("a question")
    }

    /// Whether nobody has asked anything that was not looked at.
    pub(crate) fn is_quiet(&self) -> bool {
        self.questions.try_recv().is_err()
    }
}

/// Until the connection ends.
fn serve(mut stream: TcpStream, sender: &Sender<Question>, reply: impl Fn(&Value) -> Reply) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?.to_lowercase();
        let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).ok()?;
        sender.send(Question { head, body: body.clone() }).ok()?;
        match reply(&body) {
            Reply::Raw(text) => stream.write_all(text.as_bytes()).ok()?,
            // The end of the connection is the next thing that comes.
            Reply::Hang => drop(stream.read(&mut [0])),
            Reply::Json(answer) => {
                let answer = answer.to_string();
                let length = answer.len();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
                write!(stream, "{head}Content-Length: {length}\r\n\r\n{answer}").ok()?;
            }
        }
    }
}
