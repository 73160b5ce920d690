"""The projects: released by other people, pinned by version and digest, with the tests that they ship.

Each script is what a user of that project would write, run by the project's own runner and by a TestRun alike; only the
TestRun's asks for a report as well. Chosen so that passed, failed, skipped, expected failures and subtests all occur.
"""

from collections.abc import Callable
from dataclasses import dataclass

from realsuites.counts import Counts, read_go, read_pytest

# A shard takes every n-th of the files that pytest finds tests in: a file that is named is run even where the project
# tells pytest to ignore it. Without shards it is all of them.
_PYTEST = """\
export PYTHONPATH="$PWD/{root}" PYTHONHASHSEED="${{DAWG_MATRIX_HASHSEED:-0}}"
set -- tests
if [ -n "${{DAWG_SHARD_TOTAL:-}}" ]; then
    set -- $(python -m pytest {options} --collect-only --quiet tests | sed -n 's/::.*//p' | sort -u |
        awk "NR % $DAWG_SHARD_TOTAL == $DAWG_SHARD_INDEX")
    [ $# -gt 0 ] || {{ echo "there are fewer files with tests than shards"; exit 64; }}
fi
python -m pytest {options} {report} "$@"
"""
_PYTEST_REPORT = '--junitxml="$DAWG_RESULTS/junit.xml"'
# Go has no files of tests, only packages of them, so a shard takes every n-th name.
_GO = """\
export GOMAXPROCS="${{DAWG_MATRIX_PROCESSORS:-2}}"
only=.
if [ -n "${{DAWG_SHARD_TOTAL:-}}" ]; then
    only="^($(go test -list . ./... | grep -E '^(Test|Example|Fuzz)' | sort -u |
        awk "NR % $DAWG_SHARD_TOTAL == $DAWG_SHARD_INDEX" | paste -s -d '|'))\\$"
fi
{go_test} -run "$only" ./...
"""
_GO_OWN = "go test -v"
_GO_REPORT = 'gotestsum --format=standard-verbose --junitfile="$DAWG_RESULTS/junit.xml" --'


@dataclass(frozen=True)
class Sdist:
    """A source distribution on the Python package index."""

    sha256: str


@dataclass(frozen=True)
class GoModule:
    """A Go module; `sum` is what go.sum calls h1."""

    path: str
    sum: str


@dataclass(frozen=True)
class Axis:
    """A matrix of one name. The first value is what the script takes where there is no matrix."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Runner:
    """How a kind of project is tested: its own command, the same with a report, and how its output is read."""

    own: str
    reporting: str
    read: Callable[[str], Counts]
    axis: Axis


@dataclass(frozen=True)
class Project:
    name: str
    version: str
    source: Sdist | GoModule
    runner: Runner
    shards: int


def _pytest(root: str, options: str = "") -> Runner:
    """`root` is where the packages lie below the top folder."""
    return Runner(
        own=_PYTEST.format(root=root, options=options, report=""),
        reporting=_PYTEST.format(root=root, options=options, report=_PYTEST_REPORT),
        read=read_pytest,
        axis=Axis("hashseed", ("0", "1")),
    )


_GO_TEST = Runner(
    own=_GO.format(go_test=_GO_OWN),
    reporting=_GO.format(go_test=_GO_REPORT),
    read=read_go,
    axis=Axis("processors", ("2", "1")),
)
# Examples that Hypothesis draws anew, and deadlines that a busy machine misses, would make counts that nobody can
# compare.
_SAME_EXAMPLES = "--hypothesis-profile=ci"

PROJECTS = (
    Project(
        "attrs",
        "26.1.0",
        Sdist("d03ceb89cb322a8fd706d4fb91940737b6642aa36998fe130a9bc96c985eff32"),
        _pytest("src", _SAME_EXAMPLES),
        shards=3,
    ),
    Project(
        "idna",
        "3.20",
        Sdist("a7db850025b95ded1eae8a46181a1a6c56c92c96f0e2b005d9ff8dc0210cab44"),
        _pytest("", _SAME_EXAMPLES),
        shards=2,
    ),
    Project(
        "itsdangerous",
        "2.2.0",
        Sdist("e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173"),
        _pytest("src"),
        shards=2,
    ),
    Project(
        "jinja2",
        "3.1.6",
        Sdist("0137fb05990d35f1275a587e9aee6d56da821fc83491a0fb838183be43f66d6d"),
        _pytest("src"),
        shards=3,
    ),
    Project(
        "markupsafe",
        "3.0.4",
        Sdist("2e9ad7dd851bf45fab9f75cbff4cb493fee9979e8d8c7c9c3ee119022518edd6"),
        _pytest("src"),
        shards=2,
    ),
    Project(
        "toml",
        "v1.6.0",
        GoModule("github.com/BurntSushi/toml", "h1:dRaEfpa2VI55EwlIW72hMRHdWouJeRF7TPYhI+AUQjk="),
        _GO_TEST,
        shards=2,
    ),
    Project(
        "uuid",
        "v1.6.0",
        GoModule("github.com/google/uuid", "h1:NIvaJDMOsjHA8n1jAhLSgzrAzy1Hgr+hNrb57e+94F0="),
        _GO_TEST,
        shards=2,
    ),
)
