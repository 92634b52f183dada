// @nats-io/nats-core in a page of a headless Chromium, and a TCP client that it exchanges messages with. Prints what
// has passed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { connect } from "@nats-io/transport-node";
import { build } from "esbuild";

const { NATS_URL, WS_URL, CHROMIUM } = process.env;
const text = (message) => new TextDecoder().decode(message.data);

// What the page does. It reports by HTTP, because nothing else of a page can be seen from here.
const PAGE = `
import { wsconnect } from "@nats-io/nats-core";

const report = (body) => fetch("/report", { method: "POST", body: JSON.stringify(body) });
try {
  const nc = await wsconnect({ servers: ${JSON.stringify(WS_URL)}, user: "alice", pass: "secret" });
  const large = "x".repeat(300_000);
  nc.subscribe("page.greet", { callback: (_, m) => m.respond("hello, " + m.string()) });
  nc.subscribe("page.large", { callback: (_, m) => m.respond(large) });
  const answer = await nc.request("node.greet", "page", { timeout: 20_000 });
  let missing = "somebody";
  await nc.request("nobody", "").catch((error) => (missing = error.constructor.name));
  await nc.flush();
  await report({ answer: answer.string(), missing, agent: navigator.userAgent });
} catch (error) {
  await report({ error: String(error) });
}
`;

setTimeout(() => {
  console.error("it takes too long");
  process.exit(1);
}, 100_000).unref();

const bundle = await build({
  stdin: { contents: PAGE, resolveDir: process.cwd() },
  bundle: true,
  format: "esm",
  target: "es2022",
  write: false,
});
const script = bundle.outputFiles[0].text;

let reported;
const report = new Promise((resolve) => (reported = resolve));
const server = createServer((request, response) => {
  if (request.url === "/report") {
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => {
      response.end();
      reported(JSON.parse(body));
    });
  } else if (request.url === "/page.js") {
    response.setHeader("content-type", "text/javascript");
    response.end(script);
  } else {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>midge</title><script type=module src=/page.js></script>");
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const client = await connect({ servers: NATS_URL, user: "alice", pass: "secret" });
client.subscribe("node.greet", { callback: (_, m) => m.respond("hello, " + text(m)) });
await client.flush();

const profile = mkdtempSync(join(tmpdir(), "midge-chromium-"));
const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  `--user-data-dir=${profile}`,
];
const url = `http://127.0.0.1:${server.address().port}/`;
// A group of its own, because its helpers outlive it for a moment; what it leaves in the temporary folder goes with the
// profile.
const env = { ...process.env, TMPDIR: profile };
const chromium = spawn(CHROMIUM, [...flags, url], { stdio: "ignore", detached: true, env });
try {
  const { answer, missing, agent, error } = await report;
  assert.equal(error, undefined);
  assert.match(agent, /Chrome/);
  assert.equal(answer, "hello, page");
  console.log("the page is answered");
  assert.match(missing, /NoResponders|Request/);
  console.log("the page is told of missing responders");
  assert.equal(text(await client.request("page.greet", "node", { timeout: 20_000 })), "hello, node");
  console.log("the page answers");
  assert.equal((await client.request("page.large", "", { timeout: 20_000 })).data.length, 300_000);
  console.log("the page sends what is large");
} finally {
  const ended = new Promise((resolve) => chromium.once("exit", resolve));
  process.kill(-chromium.pid, "SIGKILL");
  await ended;
  rmSync(profile, { recursive: true, force: true, maxRetries: 20 });
}
process.exit(0);
