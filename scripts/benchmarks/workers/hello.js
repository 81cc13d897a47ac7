// The floor of the runtime itself.
export default {
  async fetch() {
    return new Response("hello");
  },
};
