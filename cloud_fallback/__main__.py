"""`python -m cloud_fallback`: the service under uvicorn, with logs as JSON lines on stderr."""

import argparse

import uvicorn

from cloud_fallback.app import create_app
from cloud_fallback.logs import stdlib_config

EXAMPLE = """example:
  CLOUD_UPSTREAM_URL=https://api.openai.com/v1 CLOUD_UPSTREAM_KEY=sk-... \\
    python -m cloud_fallback --host 127.0.0.1 --port 8000
  curl -s http://127.0.0.1:8000/health
"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cloud_fallback",
        description="Nearside's cloud side: relays OpenAI requests to CLOUD_UPSTREAM_URL.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any (default: %(default)s)")
    parser.add_argument(
        "--drain-s", type=int, default=30, help="seconds that open requests get at the end (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    uvicorn.run(
        create_app(),
        host=args.host,
        port=args.port,
        log_config=stdlib_config(),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=args.drain_s,
    )


if __name__ == "__main__":
    main()
