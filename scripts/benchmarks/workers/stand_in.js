// Stands in for Workers AI, and for bindings that nothing measured here calls. A stream is paced, a token at a time.
import { WorkerEntrypoint } from "cloudflare:workers";

const TEXT = "Paris is the capital of France, and the Seine runs through it. ".repeat(8).trim();
const TOKENS = 60;
const GAP_MS = 10;
const VECTOR = new Array(384).fill(0.05);

const paced = () => {
  const encoder = new TextEncoder();
  let sent = 0;
  return new ReadableStream({
    async pull(controller) {
      await scheduler.wait(GAP_MS);
      const isLast = sent++ === TOKENS;
      const event = isLast ? { response: "", usage: { prompt_tokens: 40, completion_tokens: TOKENS } } : { response: " token" };
      controller.enqueue(encoder.encode(`data: ${JSON.stringify(event)}\n\n${isLast ? "data: [DONE]\n\n" : ""}`));
      if (isLast) controller.close();
    },
    type: "bytes",
  });
};

export default class extends WorkerEntrypoint {
  async run(model, inputs) {
    if (inputs?.stream) return new Response(paced(), { headers: { "content-type": "text/event-stream" } });
    if (inputs?.text) {
      const data = inputs.text.map(() => VECTOR);
      return Response.json({ data, shape: [data.length, VECTOR.length], pooling: inputs.pooling });
    }
    return Response.json({ response: TEXT, usage: { prompt_tokens: 40, completion_tokens: 120, total_tokens: 160 } });
  }
}
