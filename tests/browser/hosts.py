"""Pages of strangers, on an origin of their own."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

TAG = '<script async src="{service}/widget.js"></script>'
STRICT = (
    "default-src 'none'; script-src {service}; connect-src {service} {socket}; img-src {service}; style-src 'none'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HOSTILE = (
    "<style>* { all: unset !important; font-size: 30px !important; color: red !important }"
    " div { position: fixed; inset: 0; z-index: 2147483000 } button { display: none !important }</style>"
)
PAGES = {
    "/plain": ("<h1>A shop</h1>", ""),
    "/hostile": (HOSTILE + "<h1>A loud shop</h1>", ""),
    "/strict": ("<h1>A careful shop</h1>", STRICT),
}


class HostPages:
    """A small web server with the tag on each page."""

    def __init__(self, service: str) -> None:
        self._service = service
        tag = TAG.format(service=service)
        pages = {path: (content + tag, policy) for path, (content, policy) in PAGES.items()}
        self._pages = pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content, policy = pages.get(self.path, ("", ""))
                body = f'<!doctype html><html lang="en"><title>Shop</title><body>{content}</body></html>'.encode()
                self.send_response(200 if content else 204)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                if policy:
                    socket = service.replace("http", "ws", 1)
                    self.send_header("Content-Security-Policy", policy.format(service=service, socket=socket))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *values: object) -> None:  # noqa: A002  # the name is the base's
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="host pages", daemon=True)

    def put(self, path: str, content: str) -> None:
        """Add a page that says just this; `{service}` in it is where the chat is."""
        self._pages[path] = (content.format(service=self._service), "")

    def origin(self, host: str = "localhost") -> str:
        return f"http://{host}:{self._server.server_port}"

    def url(self, path: str, host: str = "localhost") -> str:
        return self.origin(host) + path

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
