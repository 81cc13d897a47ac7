"""A web page of another origin that brings the official openai client, bundled as a front-end would."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scripts.local.worker_spec import ROOT

PAGE = b"""<!doctype html><html lang="en"><title>App</title><link rel="icon" href="data:,">
<script type="module">import OpenAI from "/openai.js"; window.OpenAI = OpenAI;</script>"""


@contextlib.contextmanager
def running_site() -> Iterator[int]:
    """The port at which it answers; `localhost` and `127.0.0.1` are two origins."""
    bundle = subprocess.run(
        [ROOT / "node_modules" / ".bin" / "esbuild", "--bundle", "--format=esm", "--target=es2022"],
        input=b'export { default } from "openai";',
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_script = self.path == "/openai.js"
            self.send_response(200)
            self.send_header("content-type", "text/javascript" if is_script else "text/html")
            self.end_headers()
            self.wfile.write(bundle if is_script else PAGE)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
