"""`python -m cloud_fallback`: the service under uvicorn, with logs as JSON lines on stderr."""

import argparse
import os
import tempfile
from contextlib import ExitStack

import uvicorn

from cloud_fallback.logs import stdlib_config
from cloud_fallback.server import BoundedProtocol
from cloud_fallback.settings import load_settings

EXAMPLE = """example:
  FALLBACK_KEYS=k1:$(openssl rand -hex 32) CLOUD_UPSTREAM_URL=https://api.openai.com/v1 CLOUD_UPSTREAM_KEY=sk-... \\
    python -m cloud_fallback --host 127.0.0.1 --port 8000
  curl -s http://127.0.0.1:8000/ready

The edge signs its calls with the first of the same FALLBACK_KEYS. Models and upstreams: CLOUD_MODELS_FILE.
At SIGTERM /ready says 503, after CLOUD_NOTICE_S no more calls are taken, and open ones get CLOUD_DRAIN_S to end.
"""
# Between the end of the last stream and the end of the process, should something hang.
SPARE_S = 5


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cloud_fallback",
        description="Nearside's cloud side: relays OpenAI requests to the upstreams of its catalog.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--drain-s", type=float, help="seconds that open requests get at the end; as CLOUD_DRAIN_S")
    args = parser.parse_args(argv)
    if args.drain_s is not None:
        os.environ["CLOUD_DRAIN_S"] = str(args.drain_s)
    settings = load_settings()  # what is wrong with it is said once, and not by each worker
    with ExitStack() as until_the_end:
        if args.workers > 1:
            os.environ["WEB_CONCURRENCY"] = str(args.workers)
            if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
                folder = tempfile.TemporaryDirectory(prefix="nearside-metrics-", ignore_cleanup_errors=True)
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = until_the_end.enter_context(folder)
        uvicorn.run(
            "cloud_fallback.app:create_app",
            factory=True,
            host=args.host,
            port=args.port,
            workers=args.workers,
            http=BoundedProtocol,
            loop="uvloop",
            log_config=stdlib_config(),
            access_log=False,
            server_header=False,
            backlog=4096,
            timeout_graceful_shutdown=int(settings.drain_s) + SPARE_S,
        )


if __name__ == "__main__":
    main()
