//! rumqttc, MQTT 5.0.

use std::collections::VecDeque;
use std::time::Duration;

use interop_rust::{Broker, HOST};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, Filter, LastWill, LastWillProperties, Packet, Publish, PublishProperties,
    RetainForwardRule, SubscribeProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(10);
const EVERY_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A client whose packets can be waited for.
struct Peer {
    client: AsyncClient,
    connack: ConnAck,
    packets: mpsc::UnboundedReceiver<Packet>,
    /// What arrived while something else was waited for.
    passed_over: VecDeque<Packet>,
    event_loop: JoinHandle<()>,
}

impl Peer {
    async fn connect(broker: &Broker, client_id: &str) -> Self {
        Self::connect_with(broker, client_id, |_| {}).await
    }

    async fn connect_with(broker: &Broker, client_id: &str, change: impl FnOnce(&mut MqttOptions)) -> Self {
        let mut options = MqttOptions::new(client_id, HOST, broker.port());
        change(&mut options);
        let (client, mut events) = AsyncClient::new(options, 100);
        let (send, mut packets) = mpsc::unbounded_channel();
        // Ends with the connection: rumqttc would connect again at the next poll.
        let event_loop = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(packet) = event {
                    let _ = send.send(packet);
                }
            }
        });
        let first = timeout(TIMEOUT, packets.recv()).await.expect("a CONNACK in time");
        let Some(Packet::ConnAck(connack)) = first else { panic!("{first:?} instead of a CONNACK") };
        Self { client, connack, packets, passed_over: VecDeque::new(), event_loop }
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
        self.subscribed(qos).await;
    }

    /// Waits for a SUBACK that grants `qos`.
    async fn subscribed(&mut self, qos: QoS) {
        let codes = self
            .wait(|packet| match packet {
                Packet::SubAck(suback) => Some(suback.return_codes.clone()),
                _ => None,
            })
            .await;
        assert_eq!(codes, [SubscribeReasonCode::Success(qos)]);
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    async fn publish(
        &mut self,
        topic: &str,
        retain: bool,
        payload: &'static str,
        properties: PublishProperties,
    ) {
        self.client
            .publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
            .await
            .expect("a running event loop");
        self.wait(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    async fn receive(&mut self) -> Publish {
        self.wait(|packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
        .await
    }

    /// Ends with a DISCONNECT.
    async fn disconnect(self) {
        self.client.disconnect().await.expect("a running event loop");
        timeout(TIMEOUT, self.event_loop).await.expect("the connection ends in time").expect("no panic");
    }

    /// Closes the socket without a DISCONNECT.
    async fn drop_connection(self) {
        self.event_loop.abort();
        assert!(self.event_loop.await.expect_err("aborted").is_cancelled());
    }
}

#[tokio::test]
async fn a_thousand_messages_arrive_in_order_at_every_qos() {
    let broker = Broker::start();
    let mut subscriber = Peer::connect(&broker, "subscriber").await;
    let publisher = Peer::connect(&broker, "publisher").await;
    for qos in EVERY_QOS {
        let topic = format!("楼/{}", qos as u8);
        subscriber.subscribe(&topic, qos).await;
        for number in 0..1000_u32 {
            publisher
                .client
                .publish(&topic, qos, false, number.to_string())
                .await
                .expect("a running event loop");
        }
        for number in 0..1000_u32 {
            let message = subscriber.receive().await;
            assert_eq!((message.payload, message.qos), (number.to_string().into(), qos));
            assert_eq!(message.topic, topic);
        }
    }
}

#[tokio::test]
async fn publish_properties_reach_the_subscriber() {
    let broker = Broker::start();
    let mut subscriber = Peer::connect(&broker, "subscriber").await;
    let mut publisher = Peer::connect(&broker, "publisher").await;
    let identifier = SubscribeProperties { id: Some(300), user_properties: vec![] };
    subscriber.client.subscribe_with_properties("a", QoS::AtLeastOnce, identifier).await.expect("running");
    subscriber.subscribed(QoS::AtLeastOnce).await;
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        response_topic: Some("reply".into()),
        correlation_data: Some(vec![0, 255].into()),
        user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    publisher.publish("a", false, "payload", sent.clone()).await;
    let received = subscriber.receive().await.properties.expect("properties");
    assert_eq!(received, PublishProperties { subscription_identifiers: vec![300], ..sent });
}

#[tokio::test]
async fn the_will_of_a_lost_connection_keeps_its_properties() {
    let broker = Broker::start();
    let mut watcher = Peer::connect(&broker, "watcher").await;
    watcher.subscribe("will/#", QoS::AtLeastOnce).await;
    let will = |topic: &'static str| {
        move |options: &mut MqttOptions| {
            let properties = LastWillProperties {
                delay_interval: None,
                payload_format_indicator: None,
                message_expiry_interval: None,
                content_type: Some("text/plain".into()),
                response_topic: None,
                correlation_data: None,
                user_properties: vec![("floor".into(), "1".into())],
            };
            options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false, Some(properties)));
        }
    };
    Peer::connect_with(&broker, "clean", will("will/clean")).await.disconnect().await;
    Peer::connect_with(&broker, "lost", will("will/lost")).await.drop_connection().await;
    let message = watcher.receive().await;
    assert_eq!((message.topic.as_ref(), message.payload.as_ref()), (&b"will/lost"[..], &b"gone"[..]));
    let properties = message.properties.expect("properties");
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.user_properties, [("floor".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn a_session_waits_as_long_as_it_asked_for() {
    let broker = Broker::start();
    let keep = |options: &mut MqttOptions| {
        options.set_clean_start(false).set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(3600),
            ..ConnectProperties::new()
        });
    };
    let mut client = Peer::connect_with(&broker, "sleeper", keep).await;
    assert!(!client.connack.session_present);
    client.subscribe("a", QoS::AtLeastOnce).await;
    client.drop_connection().await;
    let mut publisher = Peer::connect(&broker, "publisher").await;
    publisher.publish("a", false, "waited", PublishProperties::default()).await;
    let mut client = Peer::connect_with(&broker, "sleeper", keep).await;
    assert!(client.connack.session_present);
    assert_eq!(client.receive().await.payload, "waited");
}

#[tokio::test]
async fn subscribe_options() {
    let broker = Broker::start();
    let mut client = Peer::connect(&broker, "client").await;
    let mut other = Peer::connect(&broker, "other").await;
    other.publish("a", true, "retained", PublishProperties::default()).await;
    let mut filter = Filter::new("a", QoS::AtLeastOnce);
    filter.nolocal = true;
    filter.preserve_retain = true;
    filter.retain_forward_rule = RetainForwardRule::Never;
    client.client.subscribe_many([filter]).await.expect("a running event loop");
    client.subscribed(QoS::AtLeastOnce).await;
    client.publish("a", false, "my own", PublishProperties::default()).await;
    other.publish("a", true, "another's", PublishProperties::default()).await;
    let message = client.receive().await;
    assert_eq!((message.payload.as_ref(), message.retain), (&b"another's"[..], true));
}
