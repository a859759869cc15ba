// An MQTT.js client whose events can be waited for.

import mqtt from "mqtt";
import { Mailbox, TIMEOUT_MS } from "./mailbox.mjs";

export const VERSIONS = { "3.1": { protocolId: "MQIsdp", protocolVersion: 3 }, "3.1.1": { protocolVersion: 4 }, 5: { protocolVersion: 5 } };

let made = 0;

export class Peer {
  messages = new Mailbox("message");
  connacks = new Mailbox("CONNACK");
  closes = new Mailbox("end of the connection");
  disconnects = new Mailbox("DISCONNECT");

  /** A connected client of `broker`. It does not reconnect unless `reconnectPeriod` says so. */
  static async connect(broker, version, options = {}) {
    const peer = new Peer();
    peer.client = mqtt.connect(broker.url, {
      ...VERSIONS[version],
      clientId: `mqttjs-${process.pid}-${++made}`,
      reconnectPeriod: 0,
      connectTimeout: TIMEOUT_MS,
      ...options,
    });
    peer.client.on("message", (topic, payload, packet) => peer.messages.put({ topic, text: payload.toString(), packet }));
    peer.client.on("connect", (connack) => peer.connacks.put(connack));
    peer.client.on("close", () => peer.closes.put());
    peer.client.on("disconnect", (packet) => peer.disconnects.put(packet));
    peer.client.on("error", (error) => peer.connacks.put(error));
    peer.connack = await peer.connacks.take();
    if (peer.connack instanceof Error) throw peer.connack;
    return peer;
  }

  /** The codes in SUBACK. */
  async subscribe(filter, options = { qos: 0 }) {
    const granted = await this.client.subscribeAsync(filter, options);
    return granted.map(({ qos }) => qos);
  }

  publish(topic, payload, options) {
    return this.client.publishAsync(topic, payload, options);
  }

  /** The next message. */
  receive() {
    return this.messages.take();
  }

  /** The texts of the next `count` messages. */
  async texts(count) {
    const texts = [];
    while (texts.length < count) texts.push((await this.receive()).text);
    return texts;
  }

  /** Closes the socket without a DISCONNECT. */
  async drop() {
    this.client.stream.destroy();
    await this.closes.take();
  }

  async end() {
    if (!this.client.disconnected) await this.client.endAsync();
    else this.client.end(true);
  }
}

/** Gives a test clients that end with it: `const peer = peers(t, broker)`. */
export function peers(t, broker) {
  return async (version, options) => {
    const peer = await Peer.connect(broker, version, options);
    t.after(() => peer.end());
    return peer;
  };
}
