"""Running other programs: quietly with a telling error, or long ones into a log that the step shows."""

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster import paths
from localcluster.errors import ClusterError
from localcluster.progress import Step

# A root shell without a login may miss these, and Debian's network tools live there.
SEARCH_PATH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"]
)
LAST_LINES = 20


def find(program: str) -> Path | None:
    found = shutil.which(program, path=SEARCH_PATH)
    return Path(found) if found else None


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **(extra or {})}


def succeeds(command: Sequence[str | Path]) -> bool:
    """Whether a probe answers with exit code 0; a missing program is a no."""
    try:
        done = subprocess.run(command, env=environment(), capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    extra: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run a short command and return what it printed."""
    done = subprocess.run(
        command,
        env=environment(extra),
        cwd=folder,
        input=stdin,
        text=True,
        errors="replace",
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise failure(command, done.returncode, (done.stdout + done.stderr).splitlines())
    return done.stdout


def run_long(
    command: Sequence[str | Path],
    step: Step,
    *,
    log: str,
    extra: Mapping[str, str] | None = None,
    folder: Path | None = None,
    counted: str = "",
) -> None:
    """Run a command of seconds or minutes: output goes to a log, its last line (or a count of lines) to the step."""
    paths.BUILD_LOGS.mkdir(parents=True, exist_ok=True)
    last: deque[str] = deque(maxlen=LAST_LINES)
    with (
        (paths.BUILD_LOGS / f"{log}.log").open("w", encoding="utf-8") as kept,
        subprocess.Popen(
            command,
            env=environment(extra),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as running,
    ):
        for number, line in enumerate(running.stdout or (), start=1):
            kept.write(line)
            last.append(line.rstrip())
            step.note = f"{number} {counted}" if counted else last[-1]
    if not counted:
        step.note = ""
    if running.returncode != 0:
        raise failure(command, running.returncode, list(last))


def failure(command: Sequence[str | Path], code: int, lines: Sequence[str]) -> ClusterError:
    shown = " ".join(str(word) for word in command)
    output = "\n".join(f"    {line}" for line in lines[-LAST_LINES:])
    return ClusterError(f"`{shown[:300]}` ended with code {code}:\n{output}")
