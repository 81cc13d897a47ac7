// Hands calls to one of the containers. It holds no key that they need not have, and checks nothing: they check the signature.
import { Container, getRandom } from "@cloudflare/containers";

const INSTANCES = 3;
const PASSED_ON = [
  "FALLBACK_KEYS",
  "CLOUD_UPSTREAM_KEY",
  "CLOUD_UPSTREAM_URL",
  "CLOUD_REGION",
  "CLOUD_NOTICE_S",
  "CLOUD_DRAIN_S",
];

export class CloudFallback extends Container {
  defaultPort = 8000;
  sleepAfter = "15m";

  constructor(ctx, env) {
    super(ctx, env);
    this.envVars = Object.fromEntries(PASSED_ON.filter((name) => env[name]).map((name) => [name, env[name]]));
  }
}

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/metrics") return new Response(null, { status: 404 });
    return (await getRandom(env.CLOUD_FALLBACK, INSTANCES)).fetch(request);
  },
};
