// An OpenAI-compatible upstream that streams at a fixed pace: argv[2] is {"ttftMs", "gapMs", "tokens"}.
// Prints one JSON line {"url"}; stops when its standard input ends.
import http from "node:http";

const { ttftMs, gapMs, tokens } = JSON.parse(process.argv[2]);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const chunk = (delta, finish = null) =>
  `data: ${JSON.stringify({
    id: "chatcmpl-paced",
    object: "chat.completion.chunk",
    created: 1,
    model: "paced",
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
  })}\n\n`;

const server = http.createServer(async (request, response) => {
  for await (const _ of request); // the body does not matter
  response.writeHead(200, { "content-type": "text/event-stream", "server-timing": "app;dur=0.1, upstream;dur=0" });
  response.socket.setNoDelay(true);
  await wait(ttftMs);
  response.write(chunk({ role: "assistant", content: " token" }));
  for (let i = 1; i < tokens; i++) {
    await wait(gapMs);
    response.write(chunk({ content: " token" }));
  }
  response.write(chunk({}, "stop"));
  response.end("data: [DONE]\n\n");
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })}\n`);
});
process.stdin.on("end", () => process.exit(0)).resume();
