// @nats-io clients with credentials, TLS and WebSocket, against the server that the environment names. Prints what
// has passed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import process from "node:process";
import { connect, nkeyAuthenticator, wsconnect } from "@nats-io/transport-node";
import WebSocket from "ws";

const { NATS_URL, TLS_URL, WS_URL, WSS_URL, CA_FILE, CLIENT_CERT, CLIENT_KEY, NKEY_SEED } = process.env;

setTimeout(() => {
  console.error("it takes too long");
  process.exit(1);
}, 60_000).unref();

// Node.js has none of its own in this version. The authority of the test is not one of the system's.
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { ca: readFileSync(CA_FILE) });
  }
};

async function exchange(name, make, options) {
  const one = await make(options);
  const two = await make(options);
  const sub = one.subscribe("a.*", { max: 2 });
  await one.flush();
  const sizes = [3, 100_000];
  for (const size of sizes) two.publish("a.b", new Uint8Array(size));
  const got = [];
  for await (const message of sub) got.push(message.data.length);
  assert.deepEqual(got, sizes);
  await one.close();
  await two.close();
  console.log(name);
}

async function refused(name, make, options) {
  await assert.rejects(make({ ...options, reconnect: false, maxReconnectAttempts: 0 }), undefined, name);
  console.log(name);
}

const alice = { user: "alice", pass: "secret" };
const trust = { caFile: CA_FILE };
const shown = { caFile: CA_FILE, certFile: CLIENT_CERT, keyFile: CLIENT_KEY };
const seed = new TextEncoder().encode(NKEY_SEED);

await exchange("user", connect, { servers: NATS_URL, ...alice });
await exchange("bcrypt", connect, { servers: NATS_URL, user: "hashed", pass: "s3cret" });
await exchange("nkey", connect, { servers: NATS_URL, authenticator: nkeyAuthenticator(seed) });
await refused("wrong password", connect, { servers: NATS_URL, user: "alice", pass: "wrong" });
await refused("no password", connect, { servers: NATS_URL });
await exchange("tls", connect, { servers: TLS_URL, tls: shown, token: "t0ken" });
await refused("tls without a certificate", connect, { servers: TLS_URL, tls: trust, token: "t0ken" });
await refused("tls with a wrong token", connect, { servers: TLS_URL, tls: shown, token: "wrong" });
await exchange("websocket", wsconnect, { servers: WS_URL, ...alice });
await exchange("websocket over tls", wsconnect, { servers: WSS_URL, token: "t0ken" });

process.exit(0);
