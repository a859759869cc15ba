// What only MQTT 5.0 has, with MQTT.js.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Broker } from "../broker.mjs";
import { peers } from "../peer.mjs";

const NO_SUBSCRIPTION_EXISTED = 0x11;
const SESSION_TAKEN_OVER = 0x8e;

let broker;
before(async () => {
  broker = await Broker.start();
});
after(() => broker.stop());

test("publish properties reach the subscriber", async (t) => {
  const peer = peers(t, broker);
  const [subscriber, publisher] = [await peer("5"), await peer("5")];
  await subscriber.subscribe("request", { qos: 1, properties: { subscriptionIdentifier: 300 } });
  const properties = {
    userProperties: { floor: ["1", "2"], 楼: "三" },
    contentType: "text/plain",
    responseTopic: "reply",
    correlationData: Buffer.from([0, 255]),
    payloadFormatIndicator: true,
  };
  await publisher.publish("request", "open", { qos: 1, properties });
  const received = (await subscriber.receive()).packet.properties;
  assert.deepEqual({ ...received.userProperties }, properties.userProperties);
  assert.equal(received.contentType, "text/plain");
  assert.equal(received.responseTopic, "reply");
  assert.ok(received.correlationData.equals(properties.correlationData));
  assert.equal(received.payloadFormatIndicator, true);
  assert.equal(received.subscriptionIdentifier, 300);
});

test("a will keeps its properties", async (t) => {
  const peer = peers(t, broker);
  const watcher = await peer("5");
  await watcher.subscribe("will", { qos: 1 });
  const properties = { contentType: "text/plain", userProperties: { floor: "1" } };
  await (await peer("5", { will: { topic: "will", payload: Buffer.from("gone"), qos: 1, properties } })).drop();
  const { text, packet } = await watcher.receive();
  assert.equal(text, "gone");
  assert.equal(packet.properties.contentType, "text/plain");
  assert.deepEqual({ ...packet.properties.userProperties }, { floor: "1" });
});

test("request and response", async (t) => {
  const peer = peers(t, broker);
  const [asker, answerer] = [await peer("5"), await peer("5")];
  await answerer.subscribe("sum", { qos: 1 });
  await asker.subscribe("answers/asker", { qos: 1 });
  const correlationData = Buffer.from("question 1");
  await asker.publish("sum", "1+2", { qos: 1, properties: { responseTopic: "answers/asker", correlationData } });
  const { text, packet } = await answerer.receive();
  assert.equal(text, "1+2");
  await answerer.publish(packet.properties.responseTopic, "3", {
    qos: 1,
    properties: { correlationData: packet.properties.correlationData },
  });
  const answer = await asker.receive();
  assert.equal(answer.text, "3");
  assert.ok(answer.packet.properties.correlationData.equals(correlationData));
});

test("topic aliases both ways", async (t) => {
  const peer = peers(t, broker);
  const subscriber = await peer("5", { properties: { topicAliasMaximum: 5 } });
  const publisher = await peer("5", { autoUseTopicAlias: true, autoAssignTopicAlias: true });
  await subscriber.subscribe("a/very/long/#", { qos: 1 });
  const topics = ["a/very/long/topic", "a/very/long/topic", "a/very/long/other", "a/very/long/topic", "a/very/long/other"];
  for (const topic of topics) await publisher.publish(topic, topic, { qos: 1 });
  for (const expected of topics) {
    const { topic, text } = await subscriber.receive();
    assert.deepEqual([topic, text], [expected, expected]);
  }
});

test("no local, retain as published, retain handling", async (t) => {
  const peer = peers(t, broker);
  const [client, other] = [await peer("5"), await peer("5")];
  await client.subscribe("options", { qos: 1, nl: true, rap: true });
  await client.publish("options", "my own", { qos: 1 });
  await other.publish("options", "another's", { qos: 1, retain: true });
  const { text, packet } = await client.receive();
  assert.deepEqual([text, packet.retain], ["another's", true]);

  const newcomer = await peer("5");
  await newcomer.subscribe("options", { qos: 1, rh: 2 });
  await other.publish("options", "live", { qos: 1 });
  assert.deepEqual(await newcomer.texts(1), ["live"]);
});

test("codes in UNSUBACK", async (t) => {
  const client = await peers(t, broker)("5");
  await client.subscribe("here", { qos: 1 });
  const codes = async (filter) => {
    const packet = await client.client.unsubscribeAsync(filter);
    return [...packet.granted];
  };
  assert.deepEqual(await codes("here"), [0]);
  assert.deepEqual(await codes("here"), [NO_SUBSCRIPTION_EXISTED]);
});

test("an assigned client identifier", async (t) => {
  const client = await peers(t, broker)("5", { clientId: "" });
  assert.ok(client.connack.properties.assignedClientIdentifier);
});

const takeover = { skip: process.env.INTEROP_BROKER_COMMAND && "Mosquitto 2.0 closes without a DISCONNECT" };
// [MQTT-3.1.4-3]
test("a taken over connection is told so", takeover, async (t) => {
  const peer = peers(t, broker);
  const first = await peer("5", { clientId: "door" });
  await peer("5", { clientId: "door" });
  assert.equal((await first.disconnects.take()).reasonCode, SESSION_TAKEN_OVER);
});
