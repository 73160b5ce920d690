"""One name for a repository, whichever way people write its address: what was learnt of it is kept under that name."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

MOST = 512  # characters of a name
_SCP = re.compile(r"(?:[^@/:\s]+@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\s]+):(?P<path>[^\s]+)")
_OWN_PORTS = (None, 80, 443)


def repository_name(url: str) -> str:
    """``host/path`` without user, scheme and ``.git``; a port of http that is not the usual one stays.

    As git@host:path, ssh:// and https:// name one repository, so do they here.
    """
    if "://" not in url and (short := _SCP.fullmatch(url)):
        return _named(short["host"], short["path"])
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url[:MOST]
    over_http = parts.scheme in ("http", "https")
    return _named(f"{host}:{port}" if over_http and port not in _OWN_PORTS else host, parts.path)


def _named(host: str, path: str) -> str:
    plain = unquote(path).strip("/").removesuffix(".git").rstrip("/")
    return f"{host.lower()}/{plain}"[:MOST]
