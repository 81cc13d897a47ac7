// Starts Workers, each in a workerd of its own, on sockets that lead straight to them: no proxy before the Worker.
//
// Reads a JSON object from the first argument: {compatibilityDate, servers: [{name, modulesRoot, modules:
// [{type, path, file}], options: Miniflare's, services: {BINDING: file}, seed: {KV_BINDING: {key: value}}, inspect: whether
// V8's inspector listens}]}.
// Prints one JSON line {"servers": [{name, url, pid, inspector: its URL}]}; stops on SIGTERM, SIGINT or when its standard input ends.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";

const spec = JSON.parse(await readFile(process.argv[2], "utf8"));
const running = [];

const readModule = (root) => async ({ type, path, file }) => ({
  type,
  path: join(root, path),
  contents: await readFile(file, type === "Data" ? undefined : "utf8"),
});

const children = async () =>
  new Set((await readFile(`/proc/self/task/${process.pid}/children`, "utf8")).split(" ").filter(Boolean));

const workerOf = async (server) => ({
  name: server.name,
  compatibilityDate: spec.compatibilityDate,
  ...server.options,
  modulesRoot: server.modulesRoot,
  modules: await Promise.all(server.modules.map(readModule(server.modulesRoot))),
  serviceBindings: Object.fromEntries(Object.keys(server.services).map((binding) => [binding, binding.toLowerCase()])),
  unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
});

const serviceOf = async ([binding, file]) => ({
  name: binding.toLowerCase(),
  compatibilityDate: spec.compatibilityDate,
  modules: [{ type: "ESModule", path: "service.js", contents: await readFile(file, "utf8") }],
});

const start = async (server) => {
  const before = await children();
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      logRequests: false,
      ...(server.inspect ? { inspectorPort: 0 } : {}),
      workers: [await workerOf(server), ...(await Promise.all(Object.entries(server.services).map(serviceOf)))],
    }),
  );
  running.push(miniflare);
  await miniflare.ready;
  for (const [binding, entries] of Object.entries(server.seed)) {
    const namespace = await miniflare.getKVNamespace(binding, server.name);
    for (const [key, value] of Object.entries(entries)) await namespace.put(key, value);
  }
  const url = await miniflare.unsafeGetDirectURL(server.name);
  const started = [...(await children())].filter((pid) => !before.has(pid));
  if (started.length !== 1) throw new Error(`${server.name}: expected one workerd, found ${started.length}`);
  const inspector = server.inspect ? { inspector: (await miniflare.getInspectorURL()).href } : {};
  return { name: server.name, url: url.origin, pid: Number(started[0]), ...inspector };
};

let stopping = false;
const stop = async (code) => {
  if (stopping) return;
  stopping = true;
  await Promise.allSettled(running.map((miniflare) => miniflare.dispose()));
  process.exit(code);
};
process.on("SIGTERM", () => stop(0));
process.on("SIGINT", () => stop(0));
process.stdin.on("end", () => stop(0)).resume();

try {
  const servers = [];
  for (const server of spec.servers) servers.push(await start(server));
  process.stdout.write(`${JSON.stringify({ servers })}\n`);
} catch (error) {
  process.stderr.write(`${error?.stack ?? error}\n`);
  await stop(1);
}
