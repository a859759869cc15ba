//! rumqttc over TLS: with the certificate of the server alone, and with one of its own.

use std::time::Duration;

use interop_rust::{Broker, HOST};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport,
};
use tempfile::TempDir;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(10);

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(parameters, key).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key, for a server of this name or for a client.
    fn certify(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut parameters = CertificateParams::new([name.to_owned()]).expect("a name");
        parameters.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// A broker that asks for certificates of clients if `is_mutual`, and the authority of all.
fn broker(is_mutual: bool) -> (Broker, Authority) {
    let (authority, data) = (Authority::new(), TempDir::new().expect("a folder"));
    let (certificate, key) = authority.certify(HOST, ExtendedKeyUsagePurpose::ServerAuth);
    for (name, text) in [("ca.pem", authority.pem()), ("server.pem", certificate), ("server.key", key)] {
        std::fs::write(data.path().join(name), text).expect("it can be written");
    }
    let client_ca = if is_mutual { "client_ca = \"{data}/ca.pem\"\n" } else { "" };
    let text = format!(
        "[listeners.secure]\nbind = \"tls://{HOST}:0\"\n[listeners.secure.tls]\n\
         certificate = \"{{data}}/server.pem\"\nkey = \"{{data}}/server.key\"\n{client_ca}"
    );
    (Broker::start_configured(&text, data), authority)
}

fn client(
    broker: &Broker,
    client_id: &str,
    ca: &str,
    own: Option<(String, String)>,
) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(client_id, HOST, broker.port());
    options.set_transport(Transport::Tls(TlsConfiguration::Simple {
        ca: ca.as_bytes().to_vec(),
        alpn: None,
        client_auth: own.map(|(certificate, key)| (certificate.into_bytes(), key.into_bytes())),
    }));
    AsyncClient::new(options, 10)
}

/// The payload of the first message that comes.
async fn first_message(events: &mut EventLoop) -> Result<Vec<u8>, ConnectionError> {
    loop {
        if let Event::Incoming(Packet::Publish(publish)) =
            timeout(TIMEOUT, events.poll()).await.expect("an event in time")?
        {
            return Ok(publish.payload.to_vec());
        }
    }
}

async fn sends_itself_a_message(client: AsyncClient, events: &mut EventLoop) -> Result<(), ConnectionError> {
    client.subscribe("tls/song", QoS::AtLeastOnce).await.expect("it is taken");
    // More than one record of TLS.
    let payload = vec![7; 100_000];
    client.publish("tls/song", QoS::AtLeastOnce, false, payload.clone()).await.expect("it is taken");
    assert_eq!(first_message(events).await?, payload);
    Ok(())
}

fn packet_sizes(events: &mut EventLoop) {
    events.mqtt_options.set_max_packet_size(1 << 20, 1 << 20);
}

#[tokio::test]
async fn messages_go_over_tls() {
    let (broker, authority) = broker(false);
    let (client, mut events) = client(&broker, "door", &authority.pem(), None);
    packet_sizes(&mut events);
    sends_itself_a_message(client, &mut events).await.expect("the broker is trusted");
}

#[tokio::test]
async fn a_broker_of_another_authority_is_not_trusted() {
    let (broker, _) = broker(false);
    let (client, mut events) = client(&broker, "door", &Authority::new().pem(), None);
    let error = sends_itself_a_message(client, &mut events).await.expect_err("it is not trusted");
    assert!(matches!(error, ConnectionError::Tls(_)), "{error}");
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (broker, authority) = broker(true);
    let own = authority.certify("door", ExtendedKeyUsagePurpose::ClientAuth);
    let (with, mut events) = client(&broker, "door", &authority.pem(), Some(own));
    packet_sizes(&mut events);
    sends_itself_a_message(with, &mut events).await.expect("its certificate is accepted");
    let (without, mut events) = client(&broker, "other", &authority.pem(), None);
    sends_itself_a_message(without, &mut events).await.expect_err("it has no certificate");
    let foreign = Authority::new().certify("door", ExtendedKeyUsagePurpose::ClientAuth);
    let (foreign, mut events) = client(&broker, "foreign", &authority.pem(), Some(foreign));
    sends_itself_a_message(foreign, &mut events).await.expect_err("its certificate is of another authority");
}
