"""Runs inside a pod in the api role's place: it says who asked, and breaks off answers at will. Standard library only.

Path /v1/whoami: the token's subject. A patch that is brought: its length, and the token's subject. /v1/viewers-only:
401 for everybody but dawg-viewer. A run's log: LOG from ``offset`` on, BREAK_AFTER bytes an answer, then the connection
breaks, without the end that HTTP asks for.
"""

from __future__ import annotations

import base64
import http.server
import json
import socket
from urllib.parse import parse_qs, urlsplit

LOG = b"".join(b"line %04d of the test's log\n" % number for number in range(400))
BREAK_AFTER = 3000


class StandIn(http.server.BaseHTTPRequestHandler):
    """Answers by the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer by the path."""
        url = urlsplit(self.path)
        if url.path == "/v1/whoami":
            self._json(200, {"subject": self._subject(), "path": self.path})
        elif url.path == "/v1/viewers-only":
            allowed = self._subject().endswith(":dawg-viewer")
            self._json(200 if allowed else 401, {"subject": self._subject(), "error": "unknown", "remedy": "sign in"})
        elif url.path == "/v1/version":
            self._json(200, {"version": "7.8.9"})
        elif url.path == "/v1/queue":
            self._json(200, {"queue": [{"position": 1, "namespace": "n", "run": "waits", "task": "unit"}]})
        elif url.path == "/v1/history":
            self._json(200, {"runs": [{"namespace": "n", "name": "ended", "verdict": "Passed"}], "before": None})
        elif url.path == "/v1/metrics":
            self._json(200, {"totalTasks": 3, "successRate": 1.0, "agentUtilization": 0.5})
        elif url.path.endswith("/log"):
            self._log(int(parse_qs(url.query)["offset"][0]))
        elif url.path.startswith("/v1/runs/") and url.path.endswith("/ended"):
            task = {"name": "unit", "index": 0, "attempt": 1, "verdict": "Failed"}
            status = {"verdict": "Failed", "mergeBlocked": True, "tasks": [task]}
            self._json(200, {"name": "ended", "uid": "uid-of-ended", "spec": {}, "status": status})
        else:
            self._json(404, {"error": f"no {url.path}", "remedy": "ask for something else"})

    def do_POST(self) -> None:
        """Take a patch."""
        patch = self.rfile.read(int(self.headers["Content-Length"]))
        self._json(200, {"ref": f"{self.path} {len(patch)} {self._subject()}"})

    def _subject(self) -> str:
        payload = self.headers["Authorization"].split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])

    def _json(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _log(self, offset: int) -> None:
        piece = LOG[offset : offset + BREAK_AFTER]
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if piece:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if offset + len(piece) >= len(LOG):
            self.wfile.write(b"0\r\n\r\n")
            return
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 8080), StandIn).serve_forever()
