// Runs Workers in the real runtime through wrangler's test harness and serves them on one fixed port.
//
// Reads a JSON object from the first argument: {root, workers, port, watch: [folders], seed: {BINDING: {key: value}}}.
// Prints one JSON line {"url"} when it answers; stops on SIGTERM, SIGINT or when its standard input ends.
import { watch } from "node:fs";
import { readFile } from "node:fs/promises";
import net from "node:net";
import { createTestHarness, unstable_DevEnv as DevEnv } from "wrangler";

// The harness sends every request that a Worker makes through Node's fetch, which hides a caller's disconnect from
// the server and turns a refused connection into an answer with status 500. workerd's own network, which
// `wrangler dev` uses, does as Cloudflare does.
const useOwnNetwork = async () => {
  const probe = new DevEnv();
  const config = Object.getPrototypeOf(probe.config);
  const set = config.set;
  config.set = function (input, ...rest) {
    if (typeof input.dev?.outboundService !== "function") {
      throw new Error("wrangler's test harness has changed: look at useOwnNetwork in scripts/local/harness.mjs");
    }
    delete input.dev.outboundService;
    return set.call(this, input, ...rest);
  };
  await probe.teardown();
};
await useOwnNetwork();

const spec = JSON.parse(await readFile(process.argv[2], "utf8"));
const harness = createTestHarness({ root: spec.root, workers: spec.workers });
let target;

const start = async () => {
  const { url } = await harness.listen();
  target = { host: url.hostname, port: Number(url.port) };
};

const seed = async () => {
  const env = await harness.getWorker(spec.seed.worker).getEnv();
  for (const [binding, entries] of Object.entries(spec.seed.entries)) {
    for (const [key, value] of Object.entries(entries)) await env[binding].put(key, value);
  }
};

// The harness picks its own port and may change it on reload; a plain TCP relay keeps ours fixed and lets
// every disconnect through as it is.
const relay = net.createServer({ noDelay: true }, (client) => {
  const server = net.connect({ ...target, noDelay: true });
  const end = () => { client.destroy(); server.destroy(); };
  client.on("error", end).on("close", end);
  server.on("error", end).on("close", end);
  client.pipe(server).pipe(client);
});

const printLogs = () => {
  for (const { level, message } of harness.getLogs()) process.stderr.write(`worker ${level}: ${message}\n`);
  harness.clearLogs();
};

let stopping = false;
const stop = async (code) => {
  if (stopping) return;
  stopping = true;
  relay.close();
  printLogs();
  await harness.close().catch(() => {});
  process.exit(code);
};
process.on("SIGTERM", () => stop(0));
process.on("SIGINT", () => stop(0));
process.stdin.on("end", () => stop(0)).resume();

try {
  await start();
  if (spec.seed) await seed();
} catch (error) {
  process.stderr.write(`${error?.stack ?? error}\n`);
  harness.debug();
  await stop(1);
}

relay.listen(spec.port, "127.0.0.1", () => {
  process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${relay.address().port}` })}\n`);
});
relay.on("error", (error) => {
  process.stderr.write(`port ${spec.port}: ${error.message}\n`);
  stop(1);
});
setInterval(printLogs, 250);

let reloading;
for (const folder of spec.watch ?? []) {
  watch(folder, { recursive: true }, (_, file) => {
    if (stopping || file?.includes("__pycache__")) return;
    clearTimeout(reloading);
    reloading = setTimeout(async () => {
      process.stderr.write(`reload: ${file}\n`);
      try {
        await harness.update({ root: spec.root, workers: spec.workers });
        await start();
        if (spec.seed) await seed();
      } catch (error) {
        process.stderr.write(`reload failed: ${error?.message ?? error}\n`);
      }
    }, 200);
  });
}
