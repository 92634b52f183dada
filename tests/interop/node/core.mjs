// @nats-io/transport-node against the server that NATS_URL names. Prints the name of each part that has passed.

import assert from "node:assert/strict";
import process from "node:process";
import { connect, headers } from "@nats-io/transport-node";

const servers = process.env.NATS_URL;
const text = (message) => new TextDecoder().decode(message.data);
const passed = (name) => console.log(name);

setTimeout(() => {
  console.error("it takes too long");
  process.exit(1);
}, 60_000).unref();

async function take(sub, count) {
  const all = [];
  for await (const message of sub) {
    all.push(message);
    if (all.length === count) break;
  }
  return all;
}

const client = await connect({ servers, reconnectTimeWait: 50, maxReconnectAttempts: -1 });
const other = await connect({ servers });

let sub = client.subscribe("a.b", { max: 1 });
client.publish("a.b", "one");
assert.equal(text((await take(sub, 1))[0]), "one");
passed("publish");

const star = client.subscribe("w.*", { max: 1 });
const tail = client.subscribe("w.>", { max: 2 });
client.publish("w.x", "1");
client.publish("w.x.y", "2");
assert.deepEqual((await take(star, 1)).map(text), ["1"]);
assert.deepEqual((await take(tail, 2)).map(text), ["1", "2"]);
passed("wildcards");

const got = [];
const everything = new Promise((resolve) => {
  for (let member = 0; member < 3; member++) {
    client.subscribe("q", {
      queue: "g",
      callback: (error, message) => {
        assert.equal(error, null);
        got.push([member, text(message)]);
        if (got.length === 200) resolve();
      },
    });
  }
});
await client.flush();
for (let number = 0; number < 200; number++) other.publish("q", `${number}`);
await everything;
await other.flush();
assert.equal(new Set(got.map(([, data]) => data)).size, 200);
assert.equal(new Set(got.map(([member]) => member)).size, 3);
passed("queue");

other.subscribe("reverse", {
  callback: (_, message) => message.respond([...text(message)].reverse().join("")),
});
await other.flush();
assert.equal(text(await client.request("reverse", "abc", { timeout: 30_000 })), "cba");
passed("request");

await assert.rejects(client.request("nobody", "", { timeout: 30_000 }), /no responders/i);
passed("no responders");

sub = client.subscribe("h", { max: 1 });
const block = headers();
block.append("A", "1");
block.append("A", "2");
client.publish("h", "body", { headers: block });
const [message] = await take(sub, 1);
assert.deepEqual(message.headers.values("A"), ["1", "2"]);
assert.equal(text(message), "body");
passed("headers");

const survivor = client.subscribe("survives", { max: 1 });
await client.flush();
const reconnected = (async () => {
  for await (const status of client.status()) {
    if (status.type === "reconnect") return;
  }
})();
passed("restart");
await new Promise((resolve) => process.stdin.once("data", resolve));
await reconnected;
client.publish("survives", "again");
assert.equal(text((await take(survivor, 1))[0]), "again");
passed("reconnect");

const draining = await connect({ servers });
let count = 0;
draining.subscribe("d", { callback: () => count++ });
await draining.flush();
for (let number = 0; number < 500; number++) client.publish("d", "x");
await client.flush();
await draining.drain();
assert.equal(count, 500);
passed("drain");

process.exit(0);
