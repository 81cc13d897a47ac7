// One question to the gateway: the request, its stream, and what the browser itself measures.
import { authorization } from "./key.js";
import { events } from "./sse.js";

export const PATH = "/v1/chat/completions";

/** An error of the gateway or of the way to it. code: OpenAI's, or `network` or `cut`. */
export class AskError extends Error {
  constructor(message, { status = null, code = null, param = null, retryAfterS = null, report = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfterS, report });
  }
}

/** The JSON body for what the form holds. An option that is left as deployed is left out. */
export function bodyOf({ prompt, model, temperature, cascade, cache }) {
  const body = { model, messages: [{ role: "user", content: prompt }], stream: true };
  if (temperature !== null) body.temperature = temperature;
  if (cascade) body.cascade = cascade;
  if (cache) body.use_cache = cache === "on";
  return body;
}

/**
 * Asks and streams. on.text(piece), on.report(nearside): as they come. Returns {ttftMs, totalMs} as seen from here.
 * Throws AskError; and AbortError when `signal` stopped it.
 */
export async function ask(body, { key, signal, on }) {
  const startedMs = performance.now();
  let ttftMs = null;
  const response = await connect(body, key, signal);
  let isDone = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") { isDone = true; break; }
      const chunk = JSON.parse(data);
      if (chunk.nearside) on.report(chunk.nearside);
      if (chunk.error) throw failure(chunk, response.status);
      const text = chunk.choices?.[0]?.delta?.content;
      if (text) {
        ttftMs ??= performance.now() - startedMs;
        on.text(text);
      }
    }
  } catch (error) {
    if (error instanceof AskError || error.name === "AbortError") throw error;
    throw new AskError("The connection broke off before the answer was complete.", { code: "cut" });
  }
  if (!isDone) throw new AskError("The answer ended before it was complete.", { code: "cut" });
  return { ttftMs, totalMs: performance.now() - startedMs };
}

async function connect(body, key, signal) {
  const headers = { "content-type": "application/json", ...authorization(key) };
  let response;
  try {
    response = await fetch(PATH, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new AskError("The gateway could not be reached.", { code: "network" });
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw failure(answer, response.status, Number(response.headers.get("retry-after")) || null);
}

function failure({ error, nearside }, status, retryAfterS = null) {
  const { message = `The gateway answered ${status}.`, code, param } = error ?? {};
  return new AskError(message, { status, code, param, retryAfterS: retryAfterS ?? nearside?.retry_after_s, report: nearside });
}
