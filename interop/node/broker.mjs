// One broker process: Lapwing, or the one that INTEROP_BROKER_COMMAND names.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

const HOST = "127.0.0.1";
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;
const LISTENING = /listening on tcp:\/\/127\.0\.0\.1:(\d+)/;

export class Broker {
  log = [];

  /** Starts a broker and waits until it listens; with these listeners in its configuration, of which one is plain TCP. */
  static async start(listeners) {
    const broker = new Broker();
    const data = await mkdtemp(join(tmpdir(), "lapwing-interop-"));
    const reference = process.env.INTEROP_BROKER_COMMAND;
    const port = reference ? await freePort() : 0;
    const [program, ...options] = reference
      ? reference.replaceAll("{port}", port).split(/\s+/)
      : [lapwing(), "serve", "--data", data, "--set", "admin.listen="];
    if (!reference && listeners) {
      await writeFile(join(data, "lapwing.toml"), listeners);
      options.push("--config", "lapwing.toml");
    } else if (!reference) {
      options.push("--listen", `tcp://${HOST}:0`);
    }
    broker.data = data;
    broker.isLapwing = !reference;
    broker.process = spawn(program, options, { cwd: data, stdio: ["ignore", "ignore", "pipe"] });
    broker.ended = once(broker.process, "exit");
    const listening = broker.#collect();
    try {
      broker.port = reference ? await untilItAccepts(broker, port) : await listening;
    } catch (error) {
      broker.process.kill("SIGKILL");
      throw error;
    }
    broker.url = `mqtt://${HOST}:${broker.port}`;
    return broker;
  }

  /** Where it listens with this scheme. They are named in the order of their names, of which that of plain TCP is the last. */
  urlOf(scheme) {
    const found = this.log.map((line) => new RegExp(`listening on (${scheme}://[^ ]+)`).exec(line)).find((match) => match);
    assert.ok(found, this.log.join("\n"));
    return found[1];
  }

  /** Asks it to stop with SIGTERM and checks that it does, in time and with status 0. */
  async stop() {
    assert.equal(this.process.exitCode, null, `the broker ended by itself\n${this.log.join("\n")}`);
    this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), STOP_TIMEOUT_MS);
    const [status, signal] = await this.ended;
    clearTimeout(timer);
    await rm(this.data, { recursive: true, force: true });
    assert.notEqual(signal, "SIGKILL", `the broker still ran ${STOP_TIMEOUT_MS} ms after SIGTERM`);
    if (this.isLapwing) assert.equal(status, 0, this.log.join("\n"));
  }

  #collect() {
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Error(`the broker did not start: ${why}\n${this.log.join("\n")}`));
      const timer = setTimeout(() => fail("no line names its address"), START_TIMEOUT_MS);
      timer.unref();
      createInterface({ input: this.process.stderr }).on("line", (line) => {
        this.log.push(line);
        const match = LISTENING.exec(line);
        if (match) {
          clearTimeout(timer);
          resolve(Number(match[1]));
        }
      });
      this.process.on("error", fail);
      if (this.isLapwing) this.process.on("exit", (status) => fail(`it ended with status ${status}`));
      else resolve();
    });
  }
}

function lapwing() {
  const binary = process.env.LAPWING_BIN;
  if (!binary) {
    throw new Error(
      "LAPWING_BIN is not set: run these tests through `cargo xtask test`, " +
        "or set it to the path of a built lapwing binary",
    );
  }
  return resolve(binary);
}

async function freePort() {
  const server = createServer().listen(0, HOST);
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function untilItAccepts(broker, port) {
  for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline; ) {
    const socket = connect(port, HOST);
    try {
      await once(socket, "connect");
      return port;
    } catch {
      // There is no event to wait for: a foreign broker's log is not ours to rely on.
      await pause(20);
    } finally {
      socket.destroy();
    }
  }
  throw new Error(`the reference broker did not start\n${broker.log.join("\n")}`);
}
