"""Runs Nearside on this machine until it is stopped: the real Worker, two cloud regions, simulated models.

    scripts/dev                 on http://127.0.0.1:8787, with a key made for this run
    scripts/dev --no-auth       no key needed
    scripts/dev --port 9000     control port: the port plus 1

Real models: set NEARSIDE_AI_UPSTREAM (any OpenAI-compatible server, for the edge models), and CLOUD_UPSTREAM_URL
with CLOUD_UPSTREAM_KEY (for the cloud).
"""

import argparse
import os
import signal
import sys
import threading

from scripts.local.stack import Address, StackError, running_stack


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/dev", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8787, help="where the gateway answers (default: 8787)")
    parser.add_argument("--no-auth", action="store_true", help="let everyone in")
    arguments = parser.parse_args()

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    print("starting: emulators, two cloud regions, the Worker …", file=sys.stderr)
    try:
        control_port = arguments.port + 1 if arguments.port else 0
        auth = "open" if arguments.no_auth else "keys"
        with running_stack(port=arguments.port, control_port=control_port, auth=auth, reload=True) as (stack, address):
            print(_welcome(address), flush=True)
            while not stopped.wait(1.0):
                ended = stack.ended_part()
                if ended:
                    raise ended
    except StackError as exc:
        print(f"scripts/dev: {exc}", file=sys.stderr)
        return 1
    return 0


def _welcome(address: Address) -> str:
    edge = "NEARSIDE_AI_UPSTREAM" if os.environ.get("NEARSIDE_AI_UPSTREAM") else "simulated"
    cloud = "CLOUD_UPSTREAM_URL" if os.environ.get("CLOUD_UPSTREAM_URL") else "simulated"
    authorization = f" \\\n    -H 'authorization: Bearer {address.key}'" if address.key else ""
    regions = ", ".join(f"{region} {url}" for region, url in address.region_urls.items())
    return f"""
nearside   {address.url}   (edge models: {edge}, cloud: {cloud})
control    {address.control_url}   counters, faults, latencies
regions    {regions}

Try:
  curl -i {address.url}/v1/chat/completions{authorization} \\
    -H 'content-type: application/json' \\
    -d '{{"model": "auto", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

Stop with Ctrl-C.
"""


if __name__ == "__main__":
    sys.exit(main())
