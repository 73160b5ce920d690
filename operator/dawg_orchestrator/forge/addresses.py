"""Addresses: of a forge's API, and whether two clone addresses are of one repository. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import unquote

from yarl import URL

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.models import ForgeKind

PUBLIC: Final = {ForgeKind.GITHUB: "https://api.github.com", ForgeKind.GITLAB: "https://gitlab.com/api/v4"}
_API: Final = {ForgeKind.GITHUB: "/api/v3", ForgeKind.GITLAB: "/api/v4", ForgeKind.GITEA: "/api/v1"}
_SITE: Final = "github.com"
_PORTS: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_SCP = re.compile(r"(?:[^@/:\s]+@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\s\[\]]+):(?P<path>[^\s]+)")
_MOST = 2048  # characters of an address


class _Clone(NamedTuple):
    host: str
    path: str
    over_http: bool
    port: int


def api_base(kind: ForgeKind, url: str, *, allow_http: bool = False) -> URL:
    """Where a forge's API is: ``url`` as written, with the path that this kind of forge has if it names none.

    Raises InvalidSpec for what is no such address, and for http, which shows the token to the network, unless the
    host is this machine or ``allow_http`` is set.
    """
    if not url:
        if kind not in PUBLIC:
            raise InvalidSpec("url", f"it is missing, and there is no public {kind}; write https://HOST")
        url = PUBLIC[kind]
    base = _web_address(url)
    if base.scheme == "http" and not (allow_http or _is_loopback(base.host or "")):
        told = "http would show the token to the network; write https://, or set allow-http to true"
        raise InvalidSpec("url", told)
    if kind is ForgeKind.GITHUB and base.host == _SITE:
        return URL(PUBLIC[kind])
    path = base.raw_path.rstrip("/")
    if not path.endswith(_API[kind]) and not (kind is ForgeKind.GITHUB and (base.host or "").startswith("api.")):
        path += _API[kind]
    return URL.build(scheme=base.scheme, authority=base.raw_authority, path=path, encoded=True)


def same_repository(one: str, other: str, *, ignore_case: bool = False) -> bool:
    """Whether two clone addresses name one repository of one host, whichever way each of them goes.

    Hosts are compared without regard to case, paths only with ``ignore_case``, as the three forges do. Ports count
    between two addresses of http, or two of ssh; one of each says nothing, since no port serves both. An address that
    is not understood, or is a local path, is the same as none.
    """
    first, second = _clone(one), _clone(other)
    if first is None or second is None or first.host != second.host:
        return False
    if first.over_http == second.over_http and first.port != second.port:
        return False
    return first.path.lower() == second.path.lower() if ignore_case else first.path == second.path


def host_of(address: str) -> str:
    """The host, without its port, that a clone address or a web address leads to; empty where it is none."""
    found = _clone(address)
    return found.host if found is not None else ""


def _web_address(url: str) -> URL:
    wrong = InvalidSpec("url", "not an address of a forge; write https://HOST, or https://HOST/PATH")
    if len(url) > _MOST or not re.fullmatch(r"[!-~]+", url):
        raise wrong
    try:
        base = URL(url)
        _ = base.port
    except ValueError:
        raise wrong from None
    if base.scheme not in ("http", "https") or not base.host:
        raise wrong
    if base.user is not None or base.password is not None or base.raw_query_string or base.raw_fragment:
        raise InvalidSpec("url", "it must hold no user, password, query or fragment; leave them out")
    return base


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _clone(address: str) -> _Clone | None:
    if len(address) > _MOST:
        return None
    scheme, separator, _ = address.partition("://")
    return _with_scheme(scheme.lower(), address) if separator else _scp(address)


def _with_scheme(scheme: str, address: str) -> _Clone | None:
    scheme = scheme.removeprefix("git+")
    if scheme not in _PORTS:
        return None
    try:
        url = URL(f"{scheme}://{address.partition('://')[2]}", encoded=True)
        host, port = url.host, url.explicit_port
    except ValueError:
        return None
    path = _path(unquote(url.raw_path))
    if not host or path is None or url.raw_query_string or url.raw_fragment:
        return None
    over_http = scheme in ("http", "https")
    # http and https are one server where each is at its usual port.
    usual = port is None or port == _PORTS[scheme]
    return _Clone(host.lower().rstrip("."), path, over_http, 0 if usual else port or 0)


def _scp(address: str) -> _Clone | None:
    found = _SCP.fullmatch(address)
    path = _path(found["path"]) if found else None
    if found is None or path is None:
        return None
    return _Clone(found["host"].strip("[]").lower().rstrip("."), path, over_http=False, port=0)


def _path(path: str) -> str | None:
    parts = path.strip("/").removesuffix(".git").split("/")
    whole = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    return "/".join(parts) if whole else None
