// The smallest JavaScript Worker that passes a request on and its answer back.
export default {
  async fetch(request, env) {
    const headers = { "content-type": "application/json" };
    const body = await request.text();
    return fetch(`${env.UPSTREAM}/v1/chat/completions`, { method: "POST", headers, body });
  },
};
