"""A read-only git server over smart HTTP: `git http-backend` behind the standard library's HTTP server.

    python git_server.py FOLDER [PORT] [--tls FOLDER] [--basic-auth FOLDER]

Serves every bare repository NAME.git of FOLDER at http://HOST:PORT/NAME.git. Pushing is refused.
"""

import argparse
import base64
import os
import shutil
import ssl
import subprocess
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DEFAULT_PORT = 8080
# A client asks for what it lacks; no such question of an honest one is longer.
LONGEST_QUESTION = 16 * 1024 * 1024
READ_ONLY = {
    "GIT_HTTP_EXPORT_ALL": "1",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "http.receivepack",
    "GIT_CONFIG_VALUE_0": "false",
    # The folder is a volume, whose owner need not be who serves it.
    "GIT_CONFIG_KEY_1": "safe.directory",
    "GIT_CONFIG_VALUE_1": "*",
}


class GitHandler(BaseHTTPRequestHandler):
    """Hands each request to a `git http-backend` of its own, by the rules of CGI."""

    repositories: Path
    authorization: str | None = None  # the header that opens them; None: they are open to everybody
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        if length is None or not length.isdigit():
            self.close_connection = True
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > LONGEST_QUESTION:
            self.close_connection = True
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, question: bytes) -> None:
        if self.authorization in (None, self.headers.get("Authorization")):
            self._ask_git(question)
        else:
            self._send(HTTPStatus.UNAUTHORIZED, [("WWW-Authenticate", 'Basic realm="git"')], b"")

    def _ask_git(self, question: bytes) -> None:
        with subprocess.Popen(
            ["git", "http-backend"], env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as backend:
            assert backend.stdin is not None
            assert backend.stdout is not None
            # Without a question the backend may end, or answer in full, before it has read anything.
            try:
                backend.stdin.write(question)
                backend.stdin.close()
            except BrokenPipeError:
                self.log_message("git http-backend did not read the question")
            status, headers = HTTPStatus.OK, []
            while line := backend.stdout.readline().decode("latin-1").strip():
                name, _, value = line.partition(":")
                if name.lower() == "status":
                    status = HTTPStatus(int(value.split()[0]))
                else:
                    headers.append((name, value.strip()))
            self._send(status, headers, backend.stdout.read())

    def _send(self, status: HTTPStatus, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _environment(self) -> dict[str, str]:
        path, _, query = self.path.partition("?")
        return {
            **READ_ONLY,
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.repositories),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }


def basic_authorization(user: str, password: str) -> str:
    """The header that git sends for these."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve bare repositories to whoever wants to read them.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int, nargs="?", default=DEFAULT_PORT)
    parser.add_argument("--tls", type=Path, metavar="FOLDER", help="tls.crt and tls.key, to serve https")
    parser.add_argument("--basic-auth", type=Path, metavar="FOLDER", help="username and password, to ask for")
    chosen = parser.parse_args()
    if not chosen.folder.is_dir() or shutil.which("git") is None:
        parser.error("a folder and git are needed")
    GitHandler.repositories = chosen.folder.resolve()
    if chosen.basic_auth:
        words = ((chosen.basic_auth / name).read_text() for name in ("username", "password"))
        GitHandler.authorization = basic_authorization(*words)
    with ThreadingHTTPServer(("", chosen.port), GitHandler) as server:
        if chosen.tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(chosen.tls / "tls.crt", chosen.tls / "tls.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
