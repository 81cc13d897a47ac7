// One burst of load by autocannon, with exact latencies: its own histogram counts whole milliseconds.
//
// Reads a JSON object from the first argument: {url, method, headers, body, connections, seconds, variants}; "{n}" in
// body and headers becomes 0 … variants - 1 in turn, where variants are given, and "[<id>]" in the body a new text each time.
// Prints one JSON line {requests, seconds, errors, p50_ms, p99_ms}; errors: failures and answers other than 2xx.
import { createRequire } from "node:module";

const autocannon = createRequire(import.meta.url)("autocannon");
const { url, method, headers, body, connections, seconds, variants = 1 } = JSON.parse(process.argv[2]);

const variant = (n) => ({
  method,
  headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.replaceAll("{n}", n)])),
  body: body?.replaceAll("{n}", n),
});
const requests = variants > 1 ? Array.from({ length: variants }, (_, n) => variant(n)) : undefined;

const idReplacement = body?.includes("[<id>]"); // by a text of its own in each request

const latencies = [];
const run = autocannon({ url, method, headers, body: body ?? undefined, requests, connections, duration: seconds, idReplacement });
run.on("response", (client, status, bytes, ms) => latencies.push(ms));
const result = await run;

const sorted = Float64Array.from(latencies).sort();
const percentile = (percent) => sorted[Math.ceil((sorted.length * percent) / 100) - 1] ?? null;
process.stdout.write(
  `${JSON.stringify({
    requests: result["2xx"],
    seconds: result.duration,
    errors: result.errors + result.non2xx,
    p50_ms: percentile(50),
    p99_ms: percentile(99),
  })}\n`,
);
