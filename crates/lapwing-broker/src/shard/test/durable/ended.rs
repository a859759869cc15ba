//! A session that an administrator ends is gone for good, and that is said once it is so.

use std::sync::mpsc::{Receiver, sync_channel};

use lapwing_store::engine::FaultyDisk;

use super::super::broker::{Broker, lasting};
use super::*;
use crate::control::{ControlError, Inquiry};
use crate::mail::Mail;
use crate::shard::SessionKey;

/// One shard, which is the one that is asked.
fn alone() -> Broker {
    Broker::with(|setup| {
        setup.shards = 1;
        setup.disk = Some(FaultyDisk::new(7));
    })
}

fn end(broker: &Broker, client_id: &str) -> Receiver<Result<(), ControlError>> {
    let (reply, answer) = sync_channel(1);
    let key = SessionKey::ClientId(client_id.into());
    broker.send(Mail::Inquiry(Box::new(Inquiry::EndSession { key, reply })));
    answer
}

#[test]
fn the_answer_comes_when_the_end_is_durable() {
    for cut in CUTS {
        for is_connected in [true, false] {
            let broker = alone();
            let client = broker.join(&lasting(V5, "a"));
            client.subscribe("t", 1);
            if !is_connected {
                client.disconnect();
                send(&broker.connect(V5, "p"), "t", "1", 1);
            }
            broker.hold_store();
            let answer = end(&broker, "a");
            assert!(answer.try_recv().is_err(), "it is not durable yet");
            broker.release_store();
            assert_eq!(answer.try_recv(), Ok(Ok(())));
            broker.restart(cut);
            let back = broker.resume(V5, "a");
            back.expect_nothing();
            assert_eq!(end(&broker, "b").try_recv(), Ok(Err(ControlError::NoSession)));
        }
    }
}

/// Its messages have not been looked at since the start.
#[test]
fn a_session_that_nobody_has_come_back_to_ends_as_well() {
    let broker = alone();
    let client = broker.join(&lasting(V5, "a"));
    client.subscribe("t", 2);
    client.disconnect();
    for payload in ["1", "2"] {
        send(&broker.connect(V5, "p"), "t", payload, 2);
    }
    broker.restart(Cut::Power);
    assert_eq!(end(&broker, "a").try_recv(), Ok(Ok(())));
    broker.restart(Cut::Power);
    assert_eq!(broker.stat().sessions, 0);
    broker.expect_no_remains();
}
