"""HTTP/1.1 through a Kubernetes port-forward: no listening port on this machine, so nobody else can use it.

The port-forward is one WebSocket to the apiserver. Its frames begin with the number of a channel: 0 carries the
port's bytes, 1 what went wrong; the first frame of each only repeats the port's number. They are read in the
caller's thread, as http.client asks for them, so that no byte is lost when the pod hangs up after its answer.
"""

from __future__ import annotations

import http.client
import io
from typing import Any

import websocket
from kubernetes.stream.ws_client import create_websocket, get_websocket_url

from dawg_orchestrator.client.connection import CONNECT_SECONDS, Cluster, resource_path
from dawg_orchestrator.client.exits import DoorClosed

_DATA, _ERROR, _CLOSED = 0, 1, 255
_SEND = 1 << 16


class ForwardedConnection(http.client.HTTPConnection):
    """A connection to a pod's port whose bytes travel through the apiserver, with the person's rights."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, port: int, read_seconds: float) -> None:
        super().__init__("localhost", port)
        self._cluster = cluster
        self._pod = f"{namespace}/{pod}"
        self._path = resource_path("pods", namespace, pod, api="api/v1") + "/portforward"
        self._read_seconds = read_seconds

    def connect(self) -> None:
        """Open the port-forward; DoorClosed says why it cannot be had."""
        url, headers = self._cluster.signed_url(self._path, {"ports": str(self.port)})
        websocket.setdefaulttimeout(CONNECT_SECONDS)
        try:
            address = get_websocket_url(url)  # type: ignore[no-untyped-call]
            opened = create_websocket(self._cluster.configuration, address, headers)  # type: ignore[no-untyped-call]
        except (websocket.WebSocketException, OSError) as error:
            reason = getattr(error, "resp_body", None) or str(error)
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
            raise DoorClosed(f"no port-forward to pod {self._pod}: {' '.join(text.split())}") from error
        opened.settimeout(self._read_seconds)
        self.sock = PodSocket(opened)


class PodSocket:
    """As much of a socket as http.client uses."""

    def __init__(self, opened: Any) -> None:
        self._websocket = opened
        self._rest = b""
        self._begun: set[int] = set()
        self._users = 1  # this object and the files made of it: the last one closes

    def sendall(self, data: Any) -> None:
        """Send to the port."""
        whole = bytes(data)
        for at in range(0, len(whole), _SEND):
            self._websocket.send_binary(bytes((_DATA,)) + whole[at : at + _SEND])

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """The bytes that come from the port."""
        self._users += 1
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        """One user less; the last one ends the port-forward."""
        self._users -= 1
        if self._users == 0:
            self._websocket.shutdown()

    def receive(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end. OSError if the port-forward failed or nothing came in time."""
        while not self._rest:
            try:
                opcode, frame = self._websocket.recv_data(control_frame=True)
            except websocket.WebSocketTimeoutException as error:
                raise TimeoutError("nothing came in time") from error
            except websocket.WebSocketException:
                return b""
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return b""
            if opcode != websocket.ABNF.OPCODE_BINARY or not frame:
                continue
            if frame[0] == _CLOSED:
                return b""
            self._take(frame[0], frame[1:])
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def _take(self, channel: int, content: bytes) -> None:
        if channel not in self._begun:
            self._begun.add(channel)
        elif channel == _DATA:
            self._rest = content
        elif channel == _ERROR and content:
            raise ConnectionError(content.decode("utf-8", "replace"))


class _Incoming(io.RawIOBase):
    def __init__(self, socket: PodSocket) -> None:
        self._socket = socket

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        received = self._socket.receive(len(buffer))
        buffer[: len(received)] = received
        return len(received)

    def close(self) -> None:
        if not self.closed:
            self._socket.close()
        super().close()
