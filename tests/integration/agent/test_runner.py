"""A runner's promises, kept by a real runner process; what takes a container of its own is tested in integration."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dawg_agent import runner as program
from integration.agent.runners import PATIENCE, a_folder, a_pack, a_process, in_memory

VENV = str(Path(sys.executable).parent)
FEWER_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # those of this repository's tests take a second
QUIET = ("-q", "-p", "no:cacheprovider")


@dataclass
class Talk:
    """The agent's end of a runner's socket."""

    folder: Path
    line: socket.socket
    process: subprocess.Popen[bytes]
    hello: dict[str, Any] = field(default_factory=dict)
    number: int = 0

    @property
    def volume(self) -> Path:
        return self.folder / "dawg"

    @property
    def workspace(self) -> Path:
        return self.volume / "workspace"

    def hear(self) -> dict[str, Any]:
        """The next word; {} when the runner is gone."""
        content = self.line.recv(60_000)
        return json.loads(content) if content else {}

    def tell(self, do: str, *descriptors: int, **more: Any) -> None:
        packet = json.dumps({"do": do, "id": self.number, **more}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.line.sendmsg([packet], rights)
        for descriptor in descriptors:
            os.close(descriptor)

    def start(self, *argv: str, trees: tuple[int, ...] = (), **order: Any) -> tuple[dict[str, Any], int]:
        """Run a command; return the first word about it, and what to read its output from."""
        self.number += 1
        plain = {"env": {}, "cwd": str(self.workspace), "root": str(self.workspace), "preloaded": False}
        written = in_memory(json.dumps({"argv": argv, **plain, "readable": False, **order}).encode())
        output, inlet = os.pipe()
        self.tell("run", written, inlet, *trees)
        return self.hear(), output

    def run(self, *argv: str, **order: Any) -> tuple[dict[str, Any], str]:
        """Run a command to its end; return the last word about it, and its output."""
        word, output = self.start(*argv, **order)
        if word["say"] == "started":
            word = self.hear()
        with os.fdopen(output) as file:
            return word, file.read()

    def sh(self, script: str, **order: Any) -> tuple[dict[str, Any], str]:
        return self.run("sh", "-c", script, **order)

    def clean(self) -> dict[str, Any]:
        self.number += 1
        self.tell("clean")
        return self.hear()

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@contextmanager
def a_talk(*options: str, **env: str) -> Iterator[Talk]:
    with ExitStack() as stack:
        folder = stack.enter_context(a_folder())
        (folder / "dawg" / "workspace" / "left-by-an-earlier-one").mkdir(parents=True)
        door = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        door.bind(str(folder / "agent.sock"))
        door.listen()
        process = stack.enter_context(a_process(folder / "agent.sock", folder, *options, **env))
        door.settimeout(PATIENCE)
        line = stack.enter_context(door.accept()[0])
        line.settimeout(PATIENCE)
        (folder / "agent.sock").unlink()
        talk = Talk(folder, line, process)
        talk.hello = talk.hear()
        yield talk


@pytest.fixture(scope="module")
def shared() -> Iterator[Talk]:
    with a_talk("--processes", "20", DAWG_RUNNER_OWN="1", PRIVATE="container", HOME="/nonexistent") as talk:
        yield talk


@pytest.fixture
def talk(shared: Talk) -> Iterator[Talk]:
    """A runner that cleans up after the test."""
    yield shared
    assert shared.clean()["say"] == "clean"


def is_over(pid: int) -> bool:
    """Whether a process has ended, be it that somebody has still to take note of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# Starting


def test_it_greets_with_its_python_and_has_its_folders_ready(talk: Talk) -> None:
    python = ".".join(map(str, sys.version_info[:3]))

    assert talk.hello == {
        "say": "hello", "python": python, "pid": talk.process.pid, "preloaded": [], "preloadErrors": {}
    }  # fmt: skip
    assert talk.files() == ["dawg", "dawg/home", "dawg/outputs", "dawg/results", "dawg/workspace", "tmp"]


def test_a_command_sees_the_containers_variables_overlaid_by_its_own(talk: Talk) -> None:
    _, told = talk.sh("echo $PRIVATE $GIVEN $PATH_LIKE", env={"GIVEN": "ordered", "PATH_LIKE": "ü"})

    assert told == "container ordered ü\n"


def test_a_command_gets_nothing_that_is_the_runners_own(talk: Talk) -> None:
    _, variables = talk.sh("env")
    _, descriptors = talk.run("ls", "/proc/self/fd")
    _, signals = talk.run("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")

    assert "DAWG_RUNNER" not in variables
    assert descriptors.split() == ["0", "1", "2", "3"]  # the last one is that of ls itself
    assert [int(mask, 16) % 2**31 for mask in signals.split()[1::2]] == [0, 0]  # blocked, ignored


def test_a_command_has_a_home_that_it_can_write_to(talk: Talk) -> None:
    usable = str(talk.folder / "tmp")

    assert talk.sh("echo $HOME")[1] == f"{talk.volume}/home\n"
    assert talk.sh("echo $HOME", env={"HOME": usable})[1] == f"{usable}\n"


def test_a_command_runs_where_it_is_told_to_or_where_the_image_says(talk: Talk) -> None:
    assert talk.sh("pwd", cwd=str(talk.volume))[1] == f"{talk.volume}\n"
    assert talk.sh("pwd", cwd=None)[1] == f"{talk.folder}\n"


def test_start_and_end_are_told_with_their_times(talk: Talk) -> None:
    before = time.time()
    started, output = talk.start("true")
    ended = talk.hear()
    os.close(output)

    assert (started["say"], ended["say"], ended["code"]) == ("started", "ended", 0)
    assert before <= started["at"] <= ended["at"] <= time.time()


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["no-such-command"], "command not found: 'no-such-command' is in no folder of PATH"),
        (["/no/such/command"], "command not found: there is no /no/such/command"),
        (["./folder"], "./folder cannot be started: it is not executable"),
        (["./script"], "./script cannot be started: the interpreter that its first line names does not exist"),
        (["./text"], "Exec format error"),
        (["true", "nul\0"], "embedded null byte"),
        ([], "the command is empty"),
    ],
)
def test_a_command_that_cannot_be_started_is_named_with_the_reason(talk: Talk, argv: list[str], why: str) -> None:
    tree = a_pack(("d", "folder"), ("f", "script", 0o755, b"#!/no/such/shell\n"), ("f", "text", 0o755, b"hello"))

    word, _ = talk.run(*argv, trees=(tree,))

    assert (word["say"], word["id"]) == ("failed", talk.number)
    assert why in word["why"]


def test_a_folder_that_is_not_there_is_named(talk: Talk) -> None:
    assert talk.run("true", cwd="/no/such/folder")[0]["why"].startswith("cannot be started in /no/such/folder: ")


def test_where_libc_knows_no_sessions_a_command_starts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise NotImplementedError

    monkeypatch.setattr(os, "posix_spawn", refuse)
    output, inlet = os.pipe()

    pid = program._spawn("/bin/sh", ["sh", "-c", "exec cat /proc/$$/stat"], dict(os.environ), inlet)
    os.close(inlet)
    with os.fdopen(output) as file:
        session = file.read().rpartition(")")[2].split()[3]

    assert os.waitpid(pid, 0)[1] == 0
    assert int(session) == pid


# Ending


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)])
def test_a_command_ends_with_the_code_that_a_container_would_have(talk: Talk, script: str, code: int) -> None:
    assert talk.sh(script)[0]["code"] == code


def test_what_outlives_the_command_is_killed_and_counted(talk: Talk) -> None:
    word, told = talk.sh("sleep 600 & echo $!")

    assert (word["code"], word["leftovers"]) == (0, 1)
    assert is_over(int(told))


def test_a_stop_lets_a_command_end_by_itself(talk: Talk) -> None:
    word = a_stop(talk, "trap 'exit 5' TERM; echo; sleep 600 & wait", grace=60)

    assert word["code"] == 5


def test_a_command_that_ignores_a_stop_is_killed_after_the_grace(talk: Talk) -> None:
    word = a_stop(talk, "trap '' TERM; echo; sleep 600; sleep 600", grace=0.05)

    assert word["code"] == 137


def a_stop(talk: Talk, script: str, grace: float) -> dict[str, Any]:
    """Start a script and stop it when it has written its first line; return the word about its end."""
    _, output = talk.start("sh", "-c", script)
    with os.fdopen(output) as file:
        file.readline()
        talk.tell("stop", grace=grace)
        return talk.hear()


def test_a_stop_of_what_is_over_is_ignored(talk: Talk) -> None:
    talk.run("true")
    talk.tell("stop", grace=0)

    assert talk.run("true")[0]["code"] == 0


def test_too_many_processes_are_killed_and_said_to_be(talk: Talk) -> None:
    word, _ = talk.sh("for i in $(seq 30); do sleep 600 & done; wait")

    assert (word["code"], word["processes"]) == (137, True)


def test_a_clean_that_comes_before_the_end_ends_the_task(talk: Talk) -> None:
    _, output = talk.start("sleep", "600")
    os.close(output)

    assert talk.clean()["say"] == "ended"
    assert talk.hear()["say"] == "clean"


def test_a_second_task_is_refused_while_one_runs(talk: Talk) -> None:
    started, output = talk.start("sh", "-c", "trap 'exit 3' TERM; echo; sleep 600 & wait")
    with os.fdopen(output) as file:
        file.readline()
        refused, _ = talk.run("true")
        talk.number = started["id"]
        talk.tell("stop", grace=60)
        assert (refused["say"], talk.hear()["code"]) == ("failed", 3)
    talk.number += 1


# Cleaning

DISASTER = r"""
import os, socket
os.makedirs("a/b/c"); open("a/b/c/file", "w").close()
os.chmod("a/b/c", 0o000); os.chmod("a/b", 0o500); os.chmod("a", 0o000)
os.mkfifo("fifo"); socket.socket(socket.AF_UNIX).bind("socket")
open(b"\xff\n\t", "w").close(); open("n" * 255, "w").close()
os.symlink("../../kept", "link"); os.symlink("nowhere", "dangling")
for _ in range(1500): os.mkdir("deeper-and-deeper"); os.chdir("deeper-and-deeper")
open("file", "w").close()
"""


def test_nothing_that_a_task_left_is_there_after_a_clean(talk: Talk) -> None:
    (talk.folder / "kept").mkdir()
    (talk.folder / "kept" / "file").touch()
    assert talk.run(sys.executable, "-c", DISASTER)[0]["code"] == 0
    talk.sh("mkdir -p left/empty; chmod 000 .; echo > $HOME/left; rm -r ../results; ln -s ../../kept ../results")
    assert talk.sh("mkdir -p left/x/y; touch left/x/y/z", cwd=str(talk.folder / "tmp"))[0]["code"] == 0

    assert talk.clean()["say"] == "clean"

    folders = ["dawg", "dawg/home", "dawg/outputs", "dawg/results", "dawg/workspace", "kept", "kept/file", "tmp"]
    assert talk.files() == folders
    assert all((talk.volume / name).stat().st_mode & 0o7777 == 0o2775 for name in ("home", "results", "workspace"))
    (talk.folder / "kept" / "file").unlink()
    (talk.folder / "kept").rmdir()


# Trees


def test_trees_are_unpacked_in_order_later_over_earlier(talk: Talk) -> None:
    first = a_pack(
        ("d", "a"), ("d", "a/b"), ("f", "a/b/both", b"first"), ("f", "a/only", 0o755, b"run"), ("l", "a/link", "only"),
        ("d", "was-folder"), ("d", "was-folder/x"), ("f", "was-folder/x/y", b""), ("l", "was-link", "a"),
        ("f", "was-file", b""), ("f", "\udcff", b"no text"),
    )  # fmt: skip
    second = a_pack(
        ("d", "a"), ("d", "a/b"), ("f", "a/b/both", b"second"), ("f", "was-folder", b"now file"),
        ("d", "was-link"), ("f", "was-link/new", b"inside"), ("l", "was-file", "a/only"),
    )  # fmt: skip

    assert talk.run("true", trees=(first, second))[0]["code"] == 0

    tree = {
        os.fsencode(path.relative_to(talk.workspace)): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in talk.workspace.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    assert tree == {
        b"a/b/both": b"second", b"a/only": b"run", b"a/link": Path("only"), b"was-folder": b"now file",
        b"was-link/new": b"inside", b"was-file": Path("a/only"), b"\xff": b"no text",
    }  # fmt: skip
    assert (talk.workspace / "a/only").stat().st_mode & 0o777 == 0o755


def test_a_tree_may_be_deeper_than_any_path(talk: Talk) -> None:
    names = [f"{number:050}" for number in range(120)]
    deep = [("d", "/".join(names[:depth])) for depth in range(1, len(names) + 1)]

    word, _ = talk.run("true", trees=(a_pack(*deep, ("f", "/".join([*names, "file"]), b"x"), ("f", "file", b"y")),))

    assert word.get("code") == 0
    assert talk.run("find", ".", "-type", "f")[1].count("file") == 2


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ([("f", "/dawg-stray", b"")], "leads out of its folder"),
        ([("f", "../stray", b"")], "leads out of its folder"),
        ([("d", "a"), ("f", "a/./../../stray", b"")], "leads out of its folder"),
        ([("f", "out/stray", b"")], "Not a directory"),
        ([("f", "through/out/stray", b"")], "Not a directory"),
        ([("d", "out/stray")], "Not a directory"),
        ([("f", "missing/file", b"")], "No such file"),
        ([("x", "odd")], "unknown kind"),
        ([("f", "n" * 300, b"")], "File name too long"),
    ],
)
def test_a_tree_that_would_lead_out_of_its_folder_is_refused(talk: Talk, second: list[Any], why: str) -> None:
    first = a_pack(("l", "out", str(talk.folder)), ("d", "through"), ("l", "through/out", "../.."))

    word, _ = talk.run("true", trees=(first, a_pack(*second)))

    assert word["say"] == "failed"
    assert word["why"].startswith("tree 2 cannot be unpacked: ")
    assert why in word["why"]
    assert not any("stray" in name for name in talk.files())


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        ({"magic": b"NOTATREE"}, "it is no packed tree"),
        ({"cut": 1}, "it is shorter than its index says"),
        ({"cut": 30}, "cannot be unpacked"),
        ({"cut": 1000}, "cannot be unpacked"),
    ],
)
def test_what_is_no_whole_tree_is_refused(talk: Talk, pack: dict[str, Any], why: str) -> None:
    word, _ = talk.run("true", trees=(a_pack(("f", "file", b"content"), **pack),))

    assert word["say"] == "failed"
    assert why in word["why"]


def test_what_the_test_wrote_is_younger_than_its_tree(talk: Talk) -> None:
    written = a_pack(("f", "of-tree", b""), ("f", "rewritten", b""))
    started, output = talk.start("sh", "-c", ": > rewritten; : > new", trees=(written,), readable=True)
    assert talk.hear()["code"] == 0
    os.close(output)

    dates = {path.name: path.stat().st_ctime_ns for path in talk.workspace.iterdir()}
    assert {name for name, date in dates.items() if date > started["treeSince"]} == {"rewritten", "new"}


def test_a_file_of_the_next_moment_is_younger_than_all_before(tmp_path: Path) -> None:
    for number in range(20):  # dates advance in steps: without a wait, most of these would be as old as the mark
        since = program._begin_new_time()
        (tmp_path / str(number)).touch()

        assert (tmp_path / str(number)).stat().st_ctime_ns > since


# What the agent may read


def test_the_group_may_read_what_it_is_to_read(talk: Talk) -> None:
    script = "mkdir -p ../results/a; echo > ../results/a/b; chmod 600 ../results/a/b; chmod 000 ../results/a"
    talk.sh(script, readable=True)

    folder = talk.volume / "results" / "a"
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "b")] == ["0o750", "0o640"]


def test_what_a_link_leads_to_stays_as_private_as_it_is(talk: Talk) -> None:
    secret = talk.folder / "tmp" / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").touch(mode=0o600)
    talk.sh("ln -s ../../tmp/secret ../results/a; rmdir ../outputs; ln -s ../tmp/secret ../outputs", readable=True)

    assert [path.stat().st_mode & 0o777 for path in (secret, secret / "file")] == [0o700, 0o600]


# The end of a runner


def test_a_runner_whose_agent_is_gone_ends_its_task_and_itself() -> None:
    with a_talk() as talk:
        _, output = talk.start("sh", "-c", "echo $$; exec sleep 600")
        with os.fdopen(output) as file:
            pid = int(file.readline())
        talk.line.shutdown(socket.SHUT_RDWR)

        assert talk.process.wait(PATIENCE) == 0
        assert is_over(pid)


def test_a_runner_that_is_to_stop_works_on_until_its_agent_leaves() -> None:
    with a_talk() as talk:
        talk.process.terminate()

        assert talk.run("true")[0]["code"] == 0
        talk.line.shutdown(socket.SHUT_RDWR)
        assert talk.process.wait(PATIENCE) == 0


def test_a_runner_that_a_task_has_changed_says_so_and_ends_instead_of_running_another() -> None:
    with a_talk() as talk:
        assert talk.run("renice", "5", "-p", str(talk.process.pid))[0]["code"] == 0

        word = talk.clean()
        assert (word["say"], word["why"]) == ("poisoned", "the task changed the runner's priority")
        assert talk.process.wait(PATIENCE) == 1


# Outside a container. No test here starts a runner without folders of its own: with a broken guard it would empty /tmp.


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 42)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("given", [[], ["--volume", "/nowhere"], ["--scratch", "/nowhere"]])
def test_outside_a_container_no_folder_goes_without_saying(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.parse(["--socket", "s", *given])

    assert "required" in capsys.readouterr().err


@pytest.mark.usefixtures("outside")
def test_a_folder_that_all_users_share_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "of-somebody").touch()
    tmp_path.chmod(0o1777)

    with pytest.raises(program.Poisoned, match="shared with the rest of the machine"):
        program.empty(str(tmp_path))
    assert (tmp_path / "of-somebody").exists()


def test_as_process_1_only_a_volume_of_its_own_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of-somebody").touch()
    monkeypatch.setattr(os, "getpid", lambda: 1)

    with pytest.raises(program.Poisoned, match="no volume of this container's own"):
        program.empty(str(tmp_path))
    assert (tmp_path / "of-somebody").exists()


@pytest.mark.usefixtures("outside")
def test_what_is_mounted_into_a_folder_is_not_emptied_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "of-somebody").touch()
    real = os.fstat
    elsewhere = mounted.stat().st_ino

    def fstat(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:])) if found.st_ino == elsewhere else found

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(program.Poisoned):
        program.empty(str(tmp_path))
    assert (mounted / "of-somebody").exists()


# Preloaded packages


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Talk]:
    path = f"{VENV}:{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": "", "DAWG_RUNNER_OWN": "1", **FEWER_PLUGINS}
    with a_talk("--preload", "pytest", "--preload", "no_such_package", **environment) as talk:
        yield talk


INSIDE = b"""
import json, os, sys
import neighbour

def links():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink("/proc/self/fd/" + name)
        except FileNotFoundError:  # of the listing
            pass

def test_inside():
    facts = {
        "forked": "runner.py" in open("/proc/self/cmdline").read(),
        "main": os.path.basename(sys.modules["__main__"].__file__),
        "argv": sys.argv[1:],
        "descriptors": [name for name in links() if name.startswith(("socket:", "/memfd:", "anon_inode:"))],
        "leads a session": os.getsid(0) == os.getpid(),
        "folder": os.path.basename(os.getcwd()),
        "variable": os.environ["GIVEN"],
        "runner's variable": "DAWG_RUNNER_OWN" in os.environ,
    }
    with open("../results/facts", "w") as file:
        json.dump(facts, file)
    assert neighbour.fine
"""


def test_a_package_that_cannot_be_preloaded_is_told_and_does_no_harm(preloaded: Talk) -> None:
    assert preloaded.hello["preloaded"] == ["pytest"]
    assert list(preloaded.hello["preloadErrors"]) == ["no_such_package"]


@pytest.mark.parametrize(
    ("argv", "main"),
    [
        (("pytest",), "pytest"),
        (("python", "-m", "pytest"), "__main__.py"),
        (("python3", "-m", "pytest"), "__main__.py"),
    ],
)
def test_pytest_starts_as_a_fork_that_looks_like_a_start_of_its_own(
    preloaded: Talk, argv: tuple[str, ...], main: str
) -> None:
    tree = a_pack(("f", "test_it.py", INSIDE), ("f", "neighbour.py", b"fine = True"))

    word, told = preloaded.run(*argv, *QUIET, trees=(tree,), preloaded=True, env={"GIVEN": "ordered"})

    assert (word["code"], "1 passed" in told) == (0, True)
    assert json.loads((preloaded.volume / "results" / "facts").read_text()) == {
        "forked": True, "main": main, "argv": list(QUIET), "descriptors": [], "leads a session": True,
        "folder": "workspace", "variable": "ordered", "runner's variable": False,
    }  # fmt: skip


def test_a_fork_imports_what_its_own_tree_has_and_ends_with_pytests_code(preloaded: Talk) -> None:
    preloaded.clean()
    tree = a_pack(("f", "test_it.py", INSIDE), ("f", "neighbour.py", b"fine = False"))

    word, told = preloaded.run("pytest", *QUIET, trees=(tree,), preloaded=True, env={"GIVEN": ""})

    assert (word["code"], "1 failed" in told) == (1, True)


@pytest.mark.parametrize("argv", [("pytest",), ("python", "-m", "pytest")])
def test_another_pytest_or_python_on_the_path_is_what_runs(preloaded: Talk, argv: tuple[str, ...]) -> None:
    tree = a_pack(("f", argv[0], 0o755, b"#!/bin/sh\necho the trees own"))

    _, told = preloaded.run(*argv, trees=(tree,), preloaded=True, env={"PATH": f"{preloaded.workspace}:{VENV}:/bin"})

    assert told == "the trees own\n"


def test_settings_that_an_interpreter_reads_at_its_start_are_heeded(preloaded: Talk) -> None:
    _, told = preloaded.run("pytest", "--version", preloaded=True, env={"PYTHONPROFILEIMPORTTIME": "1"})

    assert "import time:" in told
