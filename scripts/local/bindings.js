// The local front and the stand-ins for bindings, as one Worker beside the real one. Never deployed.
//
// WorkersAI and Vectorize can't run here: they are forwarded to the emulator (scripts/local/emulator.py). KV is
// miniflare's real one, behind an entry point that asks the control port for faults before each operation.
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";

const post = (url, body) =>
  fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

// Key records, for scripts/keys. No web page can send the header to another origin without asking first.
const KEYS_PATH = "/_local/keys";
const keyRecords = async (request, keys, id) => {
  if (request.headers.get("nearside-local") !== "keys") return new Response(null, { status: 403 });
  if (request.method === "GET" && id === "") {
    const { keys: found } = await keys.list({ prefix: "key:" });
    return Response.json({ ids: found.map(({ name }) => name.slice("key:".length)) });
  }
  if (request.method === "GET") {
    const record = await keys.get(`key:${id}`);
    return new Response(record, { status: record === null ? 404 : 200 });
  }
  if (request.method === "PUT") await keys.put(`key:${id}`, await request.text());
  else if (request.method === "DELETE") await keys.delete(`key:${id}`);
  else return new Response(null, { status: 405 });
  return new Response(null, { status: 204 });
};

// The front: turns `nearside-emulate-cf: {"colo": "SIN", …}` into `request.cf`, which in production comes from
// Cloudflare. Without the header the caller seems to come from nowhere: no colo is invented.
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith(KEYS_PATH)) return keyRecords(request, env.KEYS, pathname.slice(KEYS_PATH.length + 1));
    let cf = {};
    const emulated = request.headers.get("nearside-emulate-cf");
    if (emulated !== null) {
      try {
        cf = JSON.parse(emulated);
      } catch {
        return Response.json(
          { error: { message: "nearside-emulate-cf is not JSON", type: "invalid_request_error", param: null, code: "invalid_json" } },
          { status: 400 },
        );
      }
    } else {
      cf = JSON.parse(env.DEFAULT_CF);
    }
    const forwarded = new Request(request, { cf });
    forwarded.headers.delete("nearside-emulate-cf");
    return env.NEARSIDE.fetch(forwarded);
  },
};

// Same results and errors as the binding's own code: workerd, src/cloudflare/internal/ai-api.ts.
export class WorkersAI extends WorkerEntrypoint {
  async run(model, inputs, options = {}) {
    const response = await post(`${this.env.AI_URL}/ai/run`, { model, inputs, options: { ...options, returnRawResponse: undefined } });
    if (options.returnRawResponse) return response;
    if (!response.ok) {
      const text = await response.text();
      let message = text;
      let name = "InferenceUpstreamError";
      try {
        const parsed = JSON.parse(text);
        message = `${parsed.internalCode}: ${parsed.description}`;
        name = parsed.name ?? name;
      } catch {
        // not the service's own error: its text is all there is
      }
      const error = new Error(message);
      error.name = name;
      throw error;
    }
    if (response.headers.get("content-type") === "application/json") return response.json();
    return response.body;
  }
}

const vectorize = async (env, op, args) => {
  const response = await post(`${env.AI_URL}/vectorize/${op}`, { args });
  if (!response.ok) throw new Error(`VECTOR_${op.toUpperCase()}_ERROR: ${await response.text()}`);
  return response.json();
};

export class Vectorize extends WorkerEntrypoint {
  query(...args) { return vectorize(this.env, "query", args); }
  queryById(...args) { return vectorize(this.env, "queryById", args); }
  insert(...args) { return vectorize(this.env, "insert", args); }
  upsert(...args) { return vectorize(this.env, "upsert", args); }
  deleteByIds(...args) { return vectorize(this.env, "deleteByIds", args); }
  getByIds(...args) { return vectorize(this.env, "getByIds", args); }
  describe(...args) { return vectorize(this.env, "describe", args); }
}

const GARBAGE = "\u0000\u0001 not what was stored {";

// Asks the control port what is to go wrong with this operation; throws or waits accordingly.
const intercept = async (env, target, op) => {
  const response = await post(`${env.CONTROL_URL}/intercept`, { target, op });
  const { fault, delay_ms: delayMs, after_chunks: afterChunks } = await response.json();
  if (delayMs > 0) await scheduler.wait(delayMs);
  if (fault === "timeout") await scheduler.wait(600_000);
  if (fault === "cut" && target !== "kv") return { cutAfter: afterChunks };
  if (fault && fault !== "malformed" && fault !== "slow") {
    throw new Error(`${target} ${op} failed: 500 Internal Server Error (emulated ${fault})`);
  }
  return fault;
};

// `props.namespace` names the real namespace bound to this Worker.
export class FaultyKV extends WorkerEntrypoint {
  get #namespace() {
    return this.env[this.ctx.props.namespace];
  }
  async get(key, options) {
    const fault = await intercept(this.env, "kv", "get");
    return fault === "malformed" ? GARBAGE : this.#namespace.get(key, options);
  }
  async put(key, value, options) {
    await intercept(this.env, "kv", "put");
    return this.#namespace.put(key, value, options);
  }
  async delete(key) {
    await intercept(this.env, "kv", "delete");
    return this.#namespace.delete(key);
  }
  async list(options) {
    await intercept(this.env, "kv", "list");
    return this.#namespace.list(options);
  }
}

// A body that breaks off after some pieces, as that of an object that dies.
const cut = (body, pieces) => {
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = pieces-- > 0 ? await reader.read() : {};
      if (value) return controller.enqueue(value);
      if (done) return controller.close();
      controller.error(new Error("do fetch failed (emulated cut)"));
      await reader.cancel();
    },
    cancel: (reason) => reader.cancel(reason),
  });
};

// Stands before the Worker's own Durable Object of the same name and passes everything on to it.
const faultyObject = (target, binding) =>
  class extends DurableObject {
    async fetch(request) {
      const fault = await intercept(this.env, target, "fetch");
      if (fault === "malformed") return new Response(GARBAGE);
      const response = await this.env[binding].getByName(this.ctx.id.name).fetch(request);
      return fault?.cutAfter === undefined ? response : new Response(cut(response.body, fault.cutAfter), response);
    }
  };

export const FaultyFlight = faultyObject("do", "REAL_FLIGHTS");
export const FaultyLedger = faultyObject("ledger", "REAL_LEDGER");
