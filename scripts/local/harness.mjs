// Runs Workers in the real runtime through wrangler's test harness and serves them on one fixed port.
//
// Reads a JSON object from the first argument: {root, workers, port, state: folder, watch: [folders],
// seed: {worker, entries: {BINDING: {key: value}}}, cron: {worker, on_time: [expressions]}}. Prints one JSON line {"url"} when it answers; stops on SIGTERM, SIGINT or when
// its standard input ends. A line {cron: expression, at_s} there runs the cron and is answered by a line {cron, outcome}.
import { watch } from "node:fs";
import { readFile } from "node:fs/promises";
import net from "node:net";
import readline from "node:readline";
import { createTestHarness, unstable_DevEnv as DevEnv } from "wrangler";

const spec = JSON.parse(await readFile(process.argv[2], "utf8"));

// The harness sends every request that a Worker makes through Node's fetch, which hides a caller's disconnect from
// the server and turns a refused connection into an answer with status 500. workerd's own network, which
// `wrangler dev` uses, does as Cloudflare does. And what Workers store would go with the harness: kept in a folder of
// ours, a Worker that is started again finds it.
const useOwnNetworkAndState = async () => {
  const probe = new DevEnv();
  const config = Object.getPrototypeOf(probe.config);
  const set = config.set;
  config.set = function (input, ...rest) {
    if (typeof input.dev?.outboundService !== "function") {
      throw new Error("wrangler's test harness has changed: look at useOwnNetworkAndState in scripts/local/harness.mjs");
    }
    delete input.dev.outboundService;
    input.dev.persist = spec.state;
    return set.call(this, input, ...rest);
  };
  await probe.teardown();
};
await useOwnNetworkAndState();

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

const runCron = async (cron, scheduledTime = new Date()) => {
  const { outcome } = await harness.getWorker(spec.cron.worker).scheduled({ cron, scheduledTime });
  return outcome;
};
const commands = readline.createInterface({ input: process.stdin });
commands.on("close", () => stop(0));
commands.on("line", async (line) => {
  const { cron, at_s: atS } = JSON.parse(line);
  const outcome = await runCron(cron, new Date(1000 * atS)).catch((error) => `${error?.message ?? error}`);
  process.stdout.write(`${JSON.stringify({ cron, outcome })}\n`);
});

// As Cloudflare does, for the two forms that wrangler.toml uses: "* * * * *" and "*/n * * * *".
const runDueCrons = () => {
  const minute = new Date().getMinutes();
  for (const cron of spec.cron.on_time) {
    const every = Number(/^\*\/(\d+) /.exec(cron)?.[1] ?? 1);
    if (minute % every === 0) runCron(cron).catch((error) => process.stderr.write(`cron ${cron}: ${error?.message ?? error}\n`));
  }
  setTimeout(runDueCrons, 60_000 - (Date.now() % 60_000));
};

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
setTimeout(runDueCrons, 60_000 - (Date.now() % 60_000));

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
