"""The first process of a test container, run by the real /bin/sh in a process namespace of its own.

It signals every process it can see, so it never runs outside such a namespace: where none can be made, those tests
are skipped.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

SCRIPT = resources.files("dawg_orchestrator.cluster").joinpath("entry.sh").read_text()
NAMESPACED = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
DEADLINE = 20.0  # seconds; a test waits for a condition, never for time


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACED, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="no process namespace can be made here")


class Container:
    """A test container whose shared volume is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "dawg"
        self.control = self.folder / "control"
        self.output = folder / "output"
        self.folder.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def start(self, script: str, **env: str) -> None:
        """Start the entry script as process 1 with this script of the user's."""
        entry = SCRIPT.replace("/dawg", str(self.folder))
        variables = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "DAWG_RESULTS": f"{self.folder}/results",
            "DAWG_OUTPUTS": f"{self.folder}/outputs", **env,
        }  # fmt: skip
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*NAMESPACED, "/bin/sh", "-c", entry, "dawg", script],
                env=variables,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def terminate(self) -> None:
        """What the kubelet does: TERM to process 1 of the container, a child of ``unshare``."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        wait_for(lambda: bool(children.read_text().split()))
        os.kill(int(children.read_text().split()[0]), signal.SIGTERM)

    def wait(self) -> tuple[int, str]:
        """Exit code and all output."""
        assert self.process is not None
        ended = os.pidfd_open(self.process.pid)  # Popen.wait with a timeout looks every 50 ms only
        try:
            assert select.select([ended], [], [], DEADLINE)[0], "it did not end"
        finally:
            os.close(ended)
        return self.process.wait(), self.output.read_text()

    def run(self, script: str, **env: str) -> tuple[int, str]:
        self.start(script, **env)
        return self.wait()

    @property
    def told(self) -> str:
        """What the sidecar reads."""
        file = self.control / "exit"
        return file.read_text().strip() if file.exists() else ""

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def container(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Container(tmp_path)
    yield made
    made.kill()


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 7", 7), ("false; echo not reached", 1)])
def test_the_exit_code_of_the_script_is_the_containers_and_is_told_to_the_sidecar(
    container: Container, script: str, code: int
) -> None:
    ended, output = container.run(script)

    assert (ended, container.told) == (code, str(code))
    assert "not reached" not in output
    assert not (container.control / "exit.new").exists()


def test_the_script_finds_its_folders_and_a_home_it_can_write(container: Container) -> None:
    code, output = container.run('touch "$DAWG_RESULTS/a" "$DAWG_OUTPUTS/b" "$HOME/c"; echo "at $HOME"')

    assert (code, output.strip()) == (0, f"at {container.folder}/home")


def test_the_script_keeps_its_quotes_and_reads_nothing(container: Container) -> None:
    assert container.run("""printf '%s|' "a  b" '$x'; cat; echo end""") == (0, "a  b|$x|end\n")


def test_the_script_starts_in_the_tree_once_it_is_there_and_knows_its_commit(container: Container) -> None:
    tree = container.folder / "workspace" / "sub"
    container.start("pwd; echo $DAWG_COMMIT", DAWG_WAITS_FOR_TREE="1", DAWG_WORKSPACE=str(tree))
    wait_for(container.control.exists)
    tree.mkdir(parents=True)
    (container.control / "commit").write_text("c" * 40)
    (container.control / "ready").touch()

    assert container.wait() == (0, f"{tree}\n{'c' * 40}\n")


def test_without_a_tree_the_script_does_not_start(container: Container) -> None:
    container.control.mkdir()
    (container.control / "failed").touch()

    code, output = container.run("echo started", DAWG_WAITS_FOR_TREE="1", DAWG_WORKSPACE=str(container.folder))

    assert (code, output, container.told) == (125, "", "")


def test_a_folder_that_the_source_does_not_have_is_named(container: Container) -> None:
    container.control.mkdir()
    (container.control / "ready").touch()

    code, output = container.run(
        "echo started", DAWG_WAITS_FOR_TREE="1", DAWG_WORKSPACE=f"{container.folder}/workspace/no"
    )

    assert (code, container.told) == (125, "125")
    assert "the source has no folder no" in output


def test_term_while_the_tree_is_awaited_ends_at_once(container: Container) -> None:
    container.start("echo started", DAWG_WAITS_FOR_TREE="1", DAWG_WORKSPACE="/")
    wait_for(container.control.exists)
    container.terminate()

    assert container.wait() == (143, "")


def test_term_reaches_the_script_which_may_end_in_its_own_way(container: Container) -> None:
    container.start('trap "echo bye; exit 5" TERM; touch "$DAWG_RESULTS/up"; while :; do sleep 0.05; done')
    wait_for((container.folder / "results" / "up").exists)
    container.terminate()

    code, output = container.wait()
    assert (code, container.told) == (5, "5")
    assert "bye" in output


def test_term_reaches_what_the_script_started_in_the_background(container: Container) -> None:
    child = """sh -c 'trap "echo child ends; exit 4" TERM; touch "$DAWG_RESULTS/up"; while :; do sleep 0.05; done' &"""
    container.start(
        f'trap : TERM; {child} child=$!; while kill -0 "$child" 2>/dev/null; do sleep 0.05 || :; done; exit 6'
    )
    wait_for((container.folder / "results" / "up").exists)
    container.terminate()

    code, output = container.wait()
    assert (code, container.told) == (6, "6")
    assert "child ends" in output


def test_a_script_that_ignores_term_is_killed_so_that_its_report_has_time(container: Container) -> None:
    entry = SCRIPT.replace("sleep 10", "sleep 0.3")
    assert entry != SCRIPT
    globals()["SCRIPT"], kept = entry, SCRIPT
    try:
        container.start('trap "" TERM; touch "$DAWG_RESULTS/up"; while :; do sleep 0.05; done')
    finally:
        globals()["SCRIPT"] = kept
    wait_for((container.folder / "results" / "up").exists)
    container.terminate()

    code, _ = container.wait()
    assert (code, container.told) == (137, "137")


def test_a_failed_script_holds_its_pod_but_tells_its_end_at_once_and_term_ends_the_hold(container: Container) -> None:
    container.start("exit 3", DAWG_HOLD_SECONDS="600")
    wait_for(lambda: "the pod is held for 600 s" in container.output.read_text())
    assert container.told == "3"
    assert container.process is not None
    assert container.process.poll() is None

    container.terminate()

    assert container.wait()[0] == 3


def test_a_script_that_passed_holds_nothing(container: Container) -> None:
    assert container.run("true", DAWG_HOLD_SECONDS="600") == (0, "")
