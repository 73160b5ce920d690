"""What the apiserver has written down: accepted writes of statuses, and Jobs that were created."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from datetime import datetime
from io import BufferedReader
from typing import Any

from chaosruns.history import Write
from localcluster import paths

_STATUS = ("testruns", "status")


class BodyMissing(Exception):
    """The audit policy is an older one."""


class AuditLog:
    """Reads on from where it stopped, also when the log is rotated meanwhile."""

    def __init__(self, namespace: str) -> None:
        self._mark = f'"namespace":"{namespace}"'.encode()
        self._file: BufferedReader = paths.AUDIT_LOG.open("rb")
        self._file.seek(0, 2)
        self._rest = b""
        self.writes: list[Write] = []
        self.jobs_created: Counter[str] = Counter()

    def read_on(self) -> None:
        """Take in everything that has been written since."""
        self._read()
        with suppress(FileNotFoundError):  # for a moment, while it is rotated
            if paths.AUDIT_LOG.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                following = paths.AUDIT_LOG.open("rb")
                self._read()
                self._file.close()
                self._file = following
                self._read()

    def close(self) -> None:
        """Read no more."""
        self._file.close()

    def _read(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            if self._mark in line:
                self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        about = event.get("objectRef") or {}
        if not 200 <= (event.get("responseStatus") or {}).get("code", 0) < 300:
            return
        resource, verb = about.get("resource"), event["verb"]
        if verb == "create" and resource == "jobs" and "subresource" not in about:
            self.jobs_created[about.get("name", "")] += 1
        if verb == "update" and (resource, about.get("subresource")) == _STATUS:
            body = event.get("requestObject")
            if body is None:
                raise BodyMissing("the apiserver writes down no statuses; hack/up of this checkout lets it")
            asked_at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
            based_on = int((body.get("metadata") or {}).get("resourceVersion") or 0)
            self.writes.append(Write(about["name"], asked_at, based_on, body.get("status") or {}))
