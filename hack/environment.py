"""The virtual environment in which hack/check and hack/test run: made once from the lock file, kept in the cache.

It holds libraries only and is shared by all checkouts with the same lock file; the sources of the checkout at hand
come through PYTHONPATH. Nothing is imported here but the standard library, since nothing else is there yet.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
REQUIREMENTS = REPOSITORY / "requirements" / "dev.txt"
SOURCE_ROOTS = ("operator", "agent-image", "hack")
LEAST_PYTHON = (3, 11)
_RECIPE = 2  # of how the environment is made: to be raised when `_create` changes
_COMMAND = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


class EnvironmentUnusable(Exception):
    """There is no Python to work with; the text says what would change it."""


def ensure_venv() -> Path:
    """The folder of the virtual environment; made when there is none yet for this lock file and this Python.

    Raises EnvironmentUnusable when Python is too old or the libraries cannot be installed.
    """
    if sys.version_info < LEAST_PYTHON:
        raise EnvironmentUnusable(
            f"Python {'.'.join(map(str, LEAST_PYTHON))} or newer is needed; this is {sys.version}"
        )
    venv = cache_folder() / "venv" / _key()
    complete = venv / "complete"
    if complete.exists():
        return venv
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            print(
                "install the tools of requirements/dev.txt (about a minute the first time)", file=sys.stderr, flush=True
            )
            _create(venv)
            complete.touch()
    return venv


def cache_folder() -> Path:
    """Where everything lies that is worth keeping between checkouts."""
    chosen = os.environ.get("DAWG_CACHE")
    if chosen:
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "dawg"


def tool_environment(venv: Path) -> dict[str, str]:
    """The environment in which the venv's programs work on this checkout."""
    roots = [str(REPOSITORY / root) for root in SOURCE_ROOTS]
    path = os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", os.defpath)])
    # A checkout stays free of compiled files, and the next start need not compile again: not even where the machine
    # asks that none be written, since nobody meets those in the cache.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        "PATH": path,
        "PYTHONPATH": os.pathsep.join(roots),
        "VIRTUAL_ENV": str(venv),
        "PYTHONPYCACHEPREFIX": str(_bytecode()),
    }


def _bytecode() -> Path:
    return cache_folder() / "bytecode"


def _key() -> str:
    digest = hashlib.sha256(REQUIREMENTS.read_bytes())
    digest.update(repr((_RECIPE, sys.version_info[:3], sys.base_prefix, _scripts())).encode())
    return digest.hexdigest()[:12]


def _scripts() -> dict[str, str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    scripts: dict[str, str] = project["scripts"]
    return scripts


def _create(venv: Path) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    python = venv / "bin" / "python"
    _run([sys.executable, "-m", "venv", str(venv)])
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-compile"]
    _run([*pip, "--require-hashes", "--no-deps", "--requirement", str(REQUIREMENTS)])
    for name, target in _scripts().items():
        module, _, function = target.partition(":")
        script = venv / "bin" / name
        script.write_text(_COMMAND.format(python=python, module=module, function=function))
        script.chmod(0o755)
    # Into the cache, because Python looks for it there only; what cannot be compiled is nobody's to import.
    compiling = [str(python), "-m", "compileall", "-qq", "-j", "0", str(venv / "lib")]
    subprocess.run(compiling, check=False, env={**os.environ, "PYTHONPYCACHEPREFIX": str(_bytecode())})


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise EnvironmentUnusable(f"{command[0]} cannot be started: {error}") from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.decode(errors="replace").splitlines()[-15:])
        raise EnvironmentUnusable(f"`{' '.join(command)}` failed:\n{last}")
