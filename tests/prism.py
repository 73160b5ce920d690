"""A server that holds requests against GitHub's published description of its API, and answers by its examples.

The programs are npm's, of the versions that tests/npm/prism pins; they are kept in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import debian
import realparts
from environment import cache_folder

_PINNED = Path(__file__).parent / "npm" / "prism"
_DESCRIPTION = "@octokit/openapi/generated/api.github.com.json"
_PROGRAM = "@stoplight/prism-cli/dist/index.js"
_WITHIN = 60.0
# Reading all of it would take Prism minutes.
_PATHS = (
    "/user", "/repos/{owner}/{repo}/statuses/{sha}", "/repos/{owner}/{repo}/commits/{ref}/status",
    "/repos/{owner}/{repo}/pulls", "/repos/{owner}/{repo}/pulls/{pull_number}",
)  # fmt: skip
_REFERENCE = re.compile(r'"\$ref": "#/components/([^/"]+)/([^/"]+)')
ENTERPRISE = "/api/v3"  # below which every GitHub but the public one has its API


@contextmanager
def github_contract(folder: Path) -> Iterator[str]:
    """The server while the block runs; gives the URL of a GitHub Enterprise."""
    installed = _installed()
    description, log, port = folder / "github.json", folder / "prism.log", realparts.free_port()
    description.write_text(json.dumps(_part(json.loads((installed / _DESCRIPTION).read_text()))))
    command = ["node", installed / _PROGRAM, "mock", "-h", "127.0.0.1", "-p", str(port), description]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        realparts.until_listening(process, port, log, _WITHIN)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _installed() -> Path:
    """The folder of packages, named by what decides its content; one process installs, others wait."""
    for program, package in (("node", "nodejs"), ("npm", "npm")):
        if shutil.which(program) is None:
            debian.install(package)
    lock = (_PINNED / "package-lock.json").read_bytes()
    folder = cache_folder() / "npm" / f"prism-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(_PINNED, folder)
            install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(install, cwd=folder, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "complete").touch()
    return folder / "node_modules"


def _part(whole: dict[str, Any]) -> dict[str, Any]:
    """What the description says of the paths that are used, where an Enterprise has them."""
    part = {name: whole[name] for name in ("openapi", "info")}
    part["paths"] = {ENTERPRISE + path: whole["paths"][path] for path in _PATHS}
    components: dict[str, dict[str, Any]] = {}
    unseen = [part["paths"]]
    while unseen:
        for kind, name in set(_REFERENCE.findall(json.dumps(unseen.pop()))):
            if name not in components.setdefault(kind, {}):
                components[kind][name] = whole["components"][kind][name]
                unseen.append(components[kind][name])
    return {**part, "components": components}
