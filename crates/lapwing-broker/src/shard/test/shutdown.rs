use lapwing_proto::packet::ReasonCode;

use super::broker::{Broker, lasting, will};
use super::{V5, VERSIONS};

#[test]
fn every_client_is_told_that_the_server_stops() {
    let broker = Broker::new();
    let clients: Vec<_> = VERSIONS.map(|version| broker.connect(version, &version.to_string())).into();
    let waiting = broker.open(V5);
    assert!(broker.world().shards[0].is_accepting());
    broker.shut_down();
    for client in clients {
        client.expect_end(ReasonCode::ServerShuttingDown);
    }
    waiting.expect_closed();
    assert!(broker.is_finished() && !broker.world().shards[0].is_accepting());
}

#[test]
fn what_waits_to_be_written_is_written_first() {
    let broker = Broker::new();
    let client = broker.connect(V5, "a");
    client.subscribe("t", 0);
    client.block();
    client.publish("t", "x", 0);
    broker.shut_down();
    assert!(!broker.is_finished());
    client.unblock();
    client.receive("t", "x", 0);
    client.expect_end(ReasonCode::ServerShuttingDown);
    assert!(broker.is_finished());
}

#[test]
fn a_stopping_server_publishes_no_wills() {
    for version in VERSIONS {
        let broker = Broker::new();
        let first = broker.connect(version, "0");
        first.subscribe("#", 0);
        let mut connect = lasting(version, "a");
        connect.will = Some(will("t", "gone", 1));
        broker.join(&connect);
        let last = broker.connect(version, "z");
        last.subscribe("#", 0);
        broker.shut_down();
        first.expect_end(ReasonCode::ServerShuttingDown);
        last.expect_end(ReasonCode::ServerShuttingDown);
    }
}
