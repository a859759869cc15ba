// WebSocket and TLS, with MQTT.js.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Broker } from "../broker.mjs";
import { peers } from "../peer.mjs";

const skip = process.env.INTEROP_BROKER_COMMAND && "the reference broker has no such listeners";

describe("transports", { skip }, () => {
  let broker;
  let folder;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "lapwing-pki-"));
    const made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10"];
    const names = ["-subj", "/CN=broker", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    execFileSync("openssl", [...made, "-keyout", "key.pem", "-out", "cert.pem", ...names], { cwd: folder, stdio: "ignore" });
    const tls = `tls.certificate = "${folder}/cert.pem"\ntls.key = "${folder}/key.pem"\n`;
    broker = await Broker.start(
      '[listeners.z]\nbind = "127.0.0.1:0"\n[listeners.ws]\nbind = "ws://127.0.0.1:0/some/path"\n' +
        `[listeners.tls]\nbind = "tls://127.0.0.1:0"\n${tls}[listeners.wss]\nbind = "wss://127.0.0.1:0"\n${tls}`,
    );
  });
  after(async () => {
    rmSync(folder, { recursive: true });
    await broker.stop();
  });

  // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
  // 3.1.1 [MQTT-6.0.0-3], [MQTT-6.0.0-4]
  for (const scheme of ["ws", "wss", "tls"]) {
    for (const version of ["3.1.1", "5"]) {
      test(`MQTT ${version} over ${scheme}`, async (t) => {
        const url = broker.urlOf(scheme);
        const ca = readFileSync(join(folder, "cert.pem"));
        const peer = peers(t, { ...broker, url: url.replace("tls://", "mqtts://") });
        const options = { ca, wsOptions: { ca } };
        const [one, other] = [await peer(version, options), await peer(version, options)];
        await other.subscribe("a/#", { qos: 2 });
        const texts = ["hello", "x".repeat(300_000), "", "楼"];
        for (const text of texts) await one.publish("a/b", text, { qos: 1 });
        assert.deepEqual(await other.texts(texts.length), texts);
      });
    }
  }

  test("another path is not there, and the answer says where it is", async () => {
    const answer = await fetch(broker.urlOf("ws").replace("ws://", "http://").replace("/some/path", "/mqtt"));
    assert.equal(answer.status, 404);
    assert.match(await answer.text(), /MQTT over WebSocket is at \/some\/path/);
  });
});
