"""Takes mails over SMTP from who says the password, and JSON that is posted; tells all of it to who asks.

    MAIL_USER=… MAIL_PASSWORD=… python mailbox.py

SMTP on port 2525. On port 8080 POST / keeps the body, and GET / tells {"mails": [{from, to, subject, text}],
"posts": […]}.
"""

import json
import os
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

SMTP_PORT, HTTP_PORT = 2525, 8080
KEPT: dict[str, list[Any]] = {"mails": [], "posts": []}


class Mails:
    """What the SMTP server does with what it gets."""

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:  # noqa: N802
        message = cast("EmailMessage", message_from_bytes(cast("bytes", envelope.content), policy=default))
        body = message.get_body(("plain", "html"))
        KEPT["mails"].append({
            "from": envelope.mail_from, "to": envelope.rcpt_tos, "subject": str(message["subject"]),
            "text": body.get_content() if body is not None else "",
        })  # fmt: skip
        return "250 OK"

    def let_in(self, server: object, session: object, envelope: object, mechanism: str, said: object) -> AuthResult:
        known = os.environ["MAIL_USER"].encode(), os.environ["MAIL_PASSWORD"].encode()
        return AuthResult(success=isinstance(said, LoginPassword) and (said.login, said.password) == known)


class Posts(BaseHTTPRequestHandler):
    """What the HTTP server does with what it gets."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        KEPT["posts"].append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(HTTPStatus.NO_CONTENT, b"")

    def do_GET(self) -> None:
        self._answer(HTTPStatus.OK, json.dumps(KEPT).encode())

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    mails = Mails()
    smtp = Controller(
        mails, hostname="", port=SMTP_PORT, server_hostname="mailbox", authenticator=mails.let_in,
        auth_required=True, auth_require_tls=False,
    )  # fmt: skip
    smtp.start()
    with ThreadingHTTPServer(("", HTTP_PORT), Posts) as server:
        server.serve_forever()
