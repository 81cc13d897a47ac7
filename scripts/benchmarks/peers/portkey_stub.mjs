// Stands for what Portkey's build imports only to serve under Node, when it is bundled for workerd.
export default class {}
export const serve = () => {};
export const createNodeWebSocket = () => ({});
