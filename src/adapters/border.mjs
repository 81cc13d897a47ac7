// What Python does in JavaScript, several operations a call: src/adapters/border.py.
//
// Numbers stand for what Python waits for, sends to or is told of: they cross for nothing, and nothing has to be destroyed.

import { waitUntil } from "cloudflare:workers";

let settle, fire, took, roomAgain, left; // Python's

export const begin = (functions) => {
  [settle, fire, took, roomAgain, left] = functions;
};

const tell = (number, promise) => {
  promise.then(
    (value) => settle(number, value),
    (error) => settle(number, undefined, error),
  );
};

// How events come in: src/adapters/entrance.py.

const ours = new WeakSet();

const instanceOf = (fetch, others = {}) => {
  const instance = { ...others, fetch };
  ours.add(instance);
  return instance;
};

// Of the entry class all instances are the same one; of a Durable Object's, each is known to Python by a number.

export const entryClass = (fetch, others) => {
  const instance = instanceOf(fetch, others);
  return () => instance;
};

let objects = 0;

// `answer`: of a number and the request's text.
export const objectClass = (answer) => () => {
  const number = ++objects;
  return instanceOf(async (request) => answer(number, await request.text()));
};

// Stands for the runtime's function of Python, which `otherwise` calls.
export const enterBy = (otherwise) => (relaxed, instance, name, ...args) =>
  name === "fetch" && ours.has(instance) ? instance.fetch(args[0]) : otherwise(relaxed, instance, name, ...args);

// Of a request and its answer.

const CF_FIELDS = ["colo", "clientTcpRtt", "clientQuicRtt", "country", "continent", "isEUCountry", "latitude", "longitude"];
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const headersOf = (message) => {
  const found = {};
  message.headers.forEach((value, name) => {
    found[name] = value;
  });
  return found;
};

export const readRequest = (request) => {
  const { cf } = request;
  const place = {};
  if (cf) for (const name of CF_FIELDS) place[name] = cf[name];
  return JSON.stringify([request.method, request.url, headersOf(request), place]);
};

// The text; how many bytes there are, if that is more than `most`; false for what is not UTF-8.
export const readBody = (number, request, most) => tell(number, boundedText(request, most));

const boundedText = async (request, most) => {
  const data = await request.arrayBuffer();
  if (data.byteLength > most) return data.byteLength;
  try {
    return strict.decode(data);
  } catch {
    return false;
  }
};

// An empty text is a body, which no 204 may have.
export const respond = (body, status, headers) => new Response(body || null, { status, headers: JSON.parse(headers) });

// Of an upstream's answer.

const headOf = (call) => JSON.stringify([call.response.status, headersOf(call.response)]);

// Each settles with the head; the call is given at once, so that it can be aborted.

const begun = (number, begin, controller) => {
  const call = { controller };
  call.answer = begin(controller?.signal);
  tell(
    number,
    call.answer.then((response) => {
      call.response = response;
      return headOf(call);
    }),
  );
  return call;
};

// `init`: JSON.
export const send = (number, url, init, body) =>
  begun(
    number,
    (signal) => fetch(url, { ...JSON.parse(init), body, redirect: "manual", signal }),
    new AbortController(),
  );

// Of one of our own Durable Objects. `body`: JSON.
const ofObject = (namespace, name, body, signal) => namespace.getByName(name).fetch("https://object/", { method: "POST", body, signal });

export const join = (number, namespace, name, body) =>
  begun(number, (signal) => ofObject(namespace, name, body, signal), new AbortController());

// Of Workers AI, which knows no abort. `inputs`, `options`: JSON.
export const run = (number, binding, model, inputs, options) =>
  begun(number, () => binding.run(model, JSON.parse(inputs), JSON.parse(options)));

export const text = (number, call) => tell(number, call.response.text());

const readerOf = (call) => (call.reader ??= call.response.body?.getReader());

// Settles with the next piece, or nothing at the end.
export const read = (number, call) => tell(number, Promise.resolve(readerOf(call)?.read()).then((result) => result?.value));

const waiting = new Map();
const early = new Set();

// Hands each piece to Python, as text, which says true when there is no room for the next one.
export const push = (number, call) => tell(number, pump(number, readerOf(call)));

const pump = async (number, reader) => {
  if (!reader) return;
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for (let isOver = false; !isOver; ) {
    const { done, value } = await reader.read();
    const piece = pieceOf(decoder, value, done);
    if (piece.length && took(number, piece) && !early.delete(number)) {
      await new Promise((resolve) => waiting.set(number, resolve));
    }
    isOver = done;
  }
};

// Text crosses at less cost than bytes. What is not UTF-8 is handed on as bytes that are none either.
const pieceOf = (decoder, value, isLast) => {
  try {
    return decoder.decode(value, { stream: !isLast });
  } catch {
    return Uint8Array.of(0xff, ...(value ?? []));
  }
};

export const goOn = (number) => {
  const resume = waiting.get(number);
  if (resume) {
    waiting.delete(number);
    resume();
  } else early.add(number);
};

// Whether there was something to abort.
export const abort = ({ controller }) => {
  controller?.abort();
  return Boolean(controller);
};

// Of a call whose head nobody waits for any more. What knows no abort is cancelled when its answer has come.
export const giveUp = (call) => {
  if (!abort(call)) call.answer.then(({ body }) => body?.cancel()).catch(() => {});
};

export const cancel = (number, call) => tell(number, Promise.resolve((call.reader ?? call.response.body)?.cancel()));

// What the current request waits for before it ends, at most 30 s after its response, until Python lets go.

const held = new Map();

export const hold = (number) => waitUntil(new Promise((resolve, reject) => held.set(number, { resolve, reject })));

// `failure`: a text, where there was one.
export const letGo = (number, failure) => {
  const { resolve, reject } = held.get(number);
  held.delete(number);
  if (failure) reject(new Error(failure));
  else resolve();
};

// A response whose stream Python fills; the request is held until its end.

const encoder = new TextEncoder();
const filled = new Map();

export const stream = (number, status, headers, uncheckedMost, unreadMost) => {
  const sink = { unchecked: 0, isFull: false, uncheckedMost, unreadMost };
  filled.set(number, sink);
  const readable = new ReadableStream({
    type: "bytes",
    start(controller) {
      sink.controller = controller;
    },
    pull() {
      if (!sink.isFull) return;
      sink.isFull = false;
      roomAgain(number);
    },
    cancel() {
      left(number);
    },
  });
  hold(number);
  return respond(readable, status, headers);
};

// True when too much is unread; Python is told when there is room again.
export const fill = (number, piece) => {
  const sink = filled.get(number);
  sink.controller.enqueue(encoder.encode(piece));
  sink.unchecked += piece.length; // each look costs microseconds
  if (sink.unchecked < sink.uncheckedMost) return false;
  sink.unchecked = 0;
  sink.isFull = sink.controller.desiredSize < -sink.unreadMost;
  return sink.isFull;
};

// A stream that is not whole breaks off: its reader must not take it for one that is.
export const endStream = (number, isWhole) => {
  const { controller } = filled.get(number);
  filled.delete(number);
  letGo(number);
  if (isWhole) controller.close();
  else controller.error(new Error("cut"));
};

// One of several responses whose streams are sent the same pieces.

const sharers = new Map();

export const share = (number, status, headers) => {
  const readable = new ReadableStream(
    {
      start(controller) {
        sharers.set(number, controller);
      },
      cancel() {
        sharers.delete(number);
        left(number);
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: 0 }),
  );
  return respond(readable, status, headers);
};

export const sendTo = (number, piece) => {
  try {
    sharers.get(number).enqueue(piece);
  } catch (error) {
    sharers.delete(number);
    throw error;
  }
};

export const unreadBy = (number) => -sharers.get(number).desiredSize;

export const endOf = (number) => {
  const controller = sharers.get(number);
  sharers.delete(number);
  controller.close();
};

// Of other bindings.

export const call = (number, target, method, ...values) => tell(number, target[method](...values));

export const mayPass = (number, limiter, key) => tell(number, limiter.limit({ key }).then(({ success }) => success));

// Of a Durable Object's side. Values and rows: JSON.

export const ask = (number, namespace, name, body) =>
  tell(number, ofObject(namespace, name, body).then((response) => response.text()));

export const textOf = (number, request) => tell(number, request.text());

export const query = (sql, statement, values) => JSON.stringify(sql.exec(statement, ...JSON.parse(values)).toArray());

// Timers.

const timers = new Map();

export const after = (number, ms) => {
  timers.set(
    number,
    setTimeout(() => {
      timers.delete(number);
      fire(number);
    }, ms),
  );
};

export const stop = (number) => {
  clearTimeout(timers.get(number));
  timers.delete(number);
};

// How many numbers JavaScript still knows something by, for measuring.

export const known = () => [waiting, early, held, filled, sharers, timers].reduce((sum, each) => sum + each.size, 0);
