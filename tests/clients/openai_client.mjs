// npm's `openai` against a gateway: prints one JSON object of what it saw. Usage: node openai_client.mjs <base url>
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0, timeout: 30_000 });
const unique = () => `What is item ${process.pid}-${process.hrtime.bigint()}?`;
const messages = () => [{ role: "user", content: unique() }];

async function plain(model) {
  const answer = await client.chat.completions.create({ model, messages: messages() });
  return { finish: answer.choices[0].finish_reason, text: answer.choices[0].message.content, usage: answer.usage };
}

async function streamed(model) {
  const stream = await client.chat.completions.create({
    model,
    messages: messages(),
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return {
    text: chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? "")).join(""),
    usage: chunks.at(-1).usage,
  };
}

async function helper(model) {
  const runner = client.chat.completions.stream({ model, messages: messages() });
  return { text: await runner.finalContent() };
}

async function headers() {
  const { response, request_id: requestId } = await client.chat.completions
    .create({ model: "cloud", messages: messages() })
    .withResponse();
  return { servedBy: response.headers.get("nearside-served-by"), requestId };
}

async function embeddings() {
  const input = [unique(), unique()];
  const packed = await client.embeddings.create({ model: "auto", input });
  const numbers = await client.embeddings.create({ model: "auto", input, encoding_format: "float" });
  const difference = packed.data.flatMap((row, i) =>
    row.embedding.map((number, j) => Math.abs(number - numbers.data[i].embedding[j])),
  );
  return { lengths: packed.data.map((row) => row.embedding.length), difference: Math.max(...difference) };
}

async function text(model) {
  const answer = await client.completions.create({ model, prompt: [unique(), unique()] });
  return { choices: answer.choices.map((choice) => choice.text.length > 0) };
}

async function responses(model) {
  const answer = await client.responses.create({ model, input: unique() });
  const stream = client.responses.stream({ model, input: unique() });
  let deltas = "";
  stream.on("response.output_text.delta", (event) => (deltas += event.delta));
  const final = await stream.finalResponse();
  return { text: answer.output_text, deltas, streamed: final.output_text, status: final.status };
}

async function models() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  const found = await Promise.all(ids.map((id) => client.models.retrieve(id)));
  return { ids, found: found.map((model) => model.id) };
}

async function failure(request) {
  try {
    await request();
    return { kind: null };
  } catch (error) {
    const { status, code, param, type } = error;
    return { kind: error.constructor.name, status, code, param, type };
  }
}

console.log(
  JSON.stringify({
    plain: { edge: await plain("edge"), cloud: await plain("cloud") },
    streamed: { edge: await streamed("edge"), cloud: await streamed("cloud") },
    helper: { edge: await helper("edge"), cloud: await helper("cloud") },
    headers: await headers(),
    embeddings: await embeddings(),
    text: { edge: await text("edge"), cloud: await text("cloud") },
    responses: { edge: await responses("edge"), cloud: await responses("cloud") },
    models: await models(),
    errors: {
      range: await failure(() => client.chat.completions.create({ model: "auto", messages: messages(), temperature: 3 })),
      model: await failure(() => client.chat.completions.create({ model: "gpt-99", messages: messages() })),
      path: await failure(() => client.moderations.create({ input: "x" })),
      upstream: await failure(() => client.chat.completions.create({ model: "sim-500", messages: messages() })),
      busy: await failure(() => client.chat.completions.create({ model: "sim-429", messages: messages() })),
      broken: await failure(async () => {
        const request = { model: "sim-cut-after-5", messages: messages(), stream: true };
        for await (const _ of await client.chat.completions.create(request));
      }),
    },
  }),
);
