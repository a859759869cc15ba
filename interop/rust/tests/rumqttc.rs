//! rumqttc, MQTT 3.1.1.

use std::collections::VecDeque;
use std::time::Duration;

use interop_rust::{Broker, HOST};
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, Publish, QoS, SubscribeReasonCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(10);
const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A client whose packets can be waited for.
struct Peer {
    client: AsyncClient,
    packets: mpsc::UnboundedReceiver<Packet>,
    /// What arrived while something else was waited for.
    passed_over: VecDeque<Packet>,
    event_loop: JoinHandle<()>,
    session_present: bool,
}

impl Peer {
    async fn connect(broker: &Broker, client_id: &str) -> Self {
        Self::connect_with(broker, client_id, |_| {}).await
    }

    async fn connect_with(broker: &Broker, client_id: &str, change: impl FnOnce(&mut MqttOptions)) -> Self {
        let mut options = MqttOptions::new(client_id, HOST, broker.port());
        options.set_max_packet_size(2 << 20, 2 << 20);
        change(&mut options);
        let (client, mut events) = AsyncClient::new(options, 100);
        let (send, packets) = mpsc::unbounded_channel();
        // Ends with the connection: rumqttc would connect again at the next poll.
        let event_loop = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(packet) = event {
                    let _ = send.send(packet);
                }
            }
        });
        let mut peer =
            Self { client, packets, passed_over: VecDeque::new(), event_loop, session_present: false };
        peer.session_present = peer
            .wait(|packet| match packet {
                Packet::ConnAck(connack) => Some(connack.session_present),
                _ => None,
            })
            .await;
        peer
    }

    /// Waits for the first packet that `pick` takes. The others stay for later.
    async fn wait<T>(&mut self, pick: impl Fn(&Packet) -> Option<T>) -> T {
        for at in 0..self.passed_over.len() {
            if let Some(picked) = pick(&self.passed_over[at]) {
                self.passed_over.remove(at);
                return picked;
            }
        }
        loop {
            let packet = timeout(TIMEOUT, self.packets.recv())
                .await
                .expect("a packet in time")
                .expect("the connection is there");
            if let Some(picked) = pick(&packet) {
                return picked;
            }
            self.passed_over.push_back(packet);
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).await.expect("a running event loop");
        let codes = self
            .wait(|packet| match packet {
                Packet::SubAck(suback) => Some(suback.return_codes.clone()),
                _ => None,
            })
            .await;
        assert_eq!(codes, [SubscribeReasonCode::Success(qos)]);
    }

    async fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).await.expect("a running event loop");
        self.wait(|packet| matches!(packet, Packet::UnsubAck(_)).then_some(())).await;
    }

    /// Publishes and waits until the broker has it, where the QoS says so.
    async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &[u8]) {
        self.client.publish(topic, qos, retain, payload).await.expect("a running event loop");
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.wait(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await,
            QoS::ExactlyOnce => self.wait(|packet| matches!(packet, Packet::PubComp(_)).then_some(())).await,
        }
    }

    async fn receive(&mut self) -> Publish {
        self.wait(|packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until the connection has ended.
    async fn ended(self) {
        timeout(TIMEOUT, self.event_loop).await.expect("the connection ends in time").expect("no panic");
    }

    /// Ends with a DISCONNECT.
    async fn disconnect(self) {
        self.client.disconnect().await.expect("a running event loop");
        self.ended().await;
    }

    /// Closes the socket without a DISCONNECT.
    async fn drop_connection(self) {
        self.event_loop.abort();
        assert!(self.event_loop.await.expect_err("aborted").is_cancelled());
    }
}

#[tokio::test]
async fn publish_and_subscribe_with_every_pair_of_qos() {
    let broker = Broker::start();
    let mut publisher = Peer::connect(&broker, "publisher").await;
    for published in EVERY_QOS {
        for subscribed in EVERY_QOS {
            let mut subscriber = Peer::connect(&broker, "subscriber").await;
            subscriber.subscribe("room/+/temperature", subscribed).await;
            publisher.publish("room/楼/temperature", published, false, b"21.5").await;
            let message = subscriber.receive().await;
            assert_eq!(message.topic, "room/楼/temperature");
            assert_eq!(message.payload, "21.5");
            assert_eq!(message.qos as u8, (published as u8).min(subscribed as u8));
            assert!(!message.retain && !message.dup);
            subscriber.disconnect().await;
        }
    }
}

#[tokio::test]
async fn a_thousand_messages_arrive_in_order() {
    let broker = Broker::start();
    let mut subscriber = Peer::connect(&broker, "subscriber").await;
    let publisher = Peer::connect(&broker, "publisher").await;
    for qos in EVERY_QOS {
        let topic = format!("order/{}", qos as u8);
        subscriber.subscribe(&topic, qos).await;
        for number in 0..1000_u32 {
            publisher
                .client
                .publish(&topic, qos, false, number.to_string())
                .await
                .expect("a running event loop");
        }
        for number in 0..1000_u32 {
            assert_eq!(subscriber.receive().await.payload, number.to_string());
        }
    }
}

#[tokio::test]
async fn retained_messages() {
    let broker = Broker::start();
    let mut publisher = Peer::connect(&broker, "publisher").await;
    publisher.publish("lamp", QoS::AtLeastOnce, true, b"on").await;
    let mut present = Peer::connect(&broker, "present").await;
    present.subscribe("lamp", QoS::AtLeastOnce).await;
    let message = present.receive().await;
    assert_eq!((message.payload.as_ref(), message.retain), (&b"on"[..], true));

    publisher.publish("lamp", QoS::AtLeastOnce, true, b"").await;
    let message = present.receive().await;
    assert_eq!((message.payload.as_ref(), message.retain), (&b""[..], false));
    let mut newcomer = Peer::connect(&broker, "newcomer").await;
    newcomer.subscribe("lamp", QoS::AtLeastOnce).await;
    publisher.publish("lamp", QoS::AtLeastOnce, false, b"live").await;
    assert_eq!(newcomer.receive().await.payload, "live");
}

#[tokio::test]
async fn the_will_of_a_lost_connection() {
    let broker = Broker::start();
    let mut watcher = Peer::connect(&broker, "watcher").await;
    watcher.subscribe("will/#", QoS::AtLeastOnce).await;
    let will = |topic: &'static str| {
        move |options: &mut MqttOptions| {
            options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false));
        }
    };
    Peer::connect_with(&broker, "clean", will("will/clean")).await.disconnect().await;
    Peer::connect_with(&broker, "lost", will("will/lost")).await.drop_connection().await;
    let message = watcher.receive().await;
    assert_eq!((message.topic.as_str(), message.payload.as_ref()), ("will/lost", &b"gone"[..]));
}

#[tokio::test]
async fn a_session_waits_for_its_client() {
    let broker = Broker::start();
    let keep = |options: &mut MqttOptions| {
        options.set_clean_session(false);
    };
    let mut client = Peer::connect_with(&broker, "sleeper", keep).await;
    assert!(!client.session_present);
    client.subscribe("a", QoS::ExactlyOnce).await;
    client.drop_connection().await;
    let mut publisher = Peer::connect(&broker, "publisher").await;
    for number in 0..20_u32 {
        publisher.publish("a", QoS::ExactlyOnce, false, number.to_string().as_bytes()).await;
    }
    let mut client = Peer::connect_with(&broker, "sleeper", keep).await;
    assert!(client.session_present);
    for number in 0..20_u32 {
        assert_eq!(client.receive().await.payload, number.to_string());
    }
}

#[tokio::test]
async fn a_second_connection_with_the_same_client_id_ends_the_first() {
    let broker = Broker::start();
    let first = Peer::connect(&broker, "door").await;
    let mut second = Peer::connect(&broker, "door").await;
    first.ended().await;
    second.subscribe("a", QoS::AtLeastOnce).await;
    second.publish("a", QoS::AtLeastOnce, false, b"alive").await;
    assert_eq!(second.receive().await.payload, "alive");
}

#[tokio::test]
async fn unsubscribe() {
    let broker = Broker::start();
    let mut client = Peer::connect(&broker, "client").await;
    client.subscribe("left", QoS::AtLeastOnce).await;
    client.subscribe("kept", QoS::AtLeastOnce).await;
    client.unsubscribe("left").await;
    client.publish("left", QoS::AtLeastOnce, false, b"1").await;
    client.publish("kept", QoS::AtLeastOnce, false, b"2").await;
    assert_eq!(client.receive().await.payload, "2");
}

#[tokio::test]
async fn user_name_and_password_and_a_payload_of_one_mebibyte() {
    let broker = Broker::start();
    let mut client = Peer::connect_with(&broker, "client", |options| {
        options.set_credentials("door", "any");
    })
    .await;
    client.subscribe("big", QoS::AtLeastOnce).await;
    let payload: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    client.publish("big", QoS::AtLeastOnce, false, &payload).await;
    assert!(client.receive().await.payload == payload);
}
