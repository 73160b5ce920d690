"""A shop over HTTP on port 8080: ready as soon as it listens. Its orders do not work where ORDERS is broken."""

import os
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8080


class Shop(BaseHTTPRequestHandler):
    """What a customer may ask for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/orders" and os.environ.get("ORDERS") == "broken":
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"the orders are broken\n")
        elif self.path in ("/", "/orders"):
            self._answer(HTTPStatus.OK, b"open\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is no such page\n")

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    with ThreadingHTTPServer(("", PORT), Shop) as server:
        server.serve_forever()
