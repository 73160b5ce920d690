"""Whose a path is, and which part of the product it belongs to."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.learning.components import ROOT, Component, touched_by
from dawg_orchestrator.learning.owners import Forge, Owners, forge_of, read_owners
from dawg_orchestrator.resources.globs import glob_pattern

GITHUB = r"""
# the last line that fits counts
*            @org/all
*.js         @js-owner #inline comment
/build/logs/ @doctocat
docs/*       docs@example.com
apps/        @octocat
/scripts/    @doctocat @octocat
**/logs      @logger
/apps/github
/folder\ with\ space/ @spacer
\#hash.txt   @hasher
!*.md        @nobody
[ab].txt     @nobody
*.rb         not-an-owner
"""

GITLAB = """
* @everybody
README.md @docs
/config/ @ops

[Backend][2] @backend-team
internal/api/
/cmd/*.go @go-team
!/cmd/generated.go

^[Database] @dba
*.sql
schema/** @schema-owner

[BACKEND]
/late/ @late
"""

GITEA = r"""
.*\.go @gophers
docs/.* @writers
!src/.* @not-src
(a+)+$ @evil
.*.*.*.*x @slow
"""


def owners_of(owners: Owners, path: str) -> tuple[str, ...]:
    return owners.of(path).get("", ())


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        ("README", ("@org/all",)),
        ("deep/er/x.js", ("@js-owner",)),
        ("build/logs/today.txt", ("@logger",)),
        ("other/build/logs", ("@logger",)),
        ("build/logs.txt", ("@org/all",)),
        ("docs/a.txt", ("docs@example.com",)),
        ("docs/deep/a.txt", ("@org/all",)),
        ("x/apps/y/z", ("@octocat",)),
        ("apps/github/x", ()),
        ("apps/githubber", ("@octocat",)),
        ("scripts/x", ("@doctocat", "@octocat")),
        ("sub/scripts/x", ("@org/all",)),
        ("folder with space/x", ("@spacer",)),
        ("#hash.txt", ("@hasher",)),
        ("a.md", ("@org/all",)),
        ("a.txt", ("@org/all",)),
        ("a.rb", ("@org/all",)),
    ],
)
def test_on_github_the_last_line_that_fits_counts(path: str, owners: tuple[str, ...]) -> None:
    assert owners_of(read_owners(GITHUB, "github"), path) == owners


@pytest.mark.parametrize(
    ("path", "sections"),
    [
        ("x.txt", {"": ("@everybody",)}),
        ("deep/README.md", {"": ("@docs",)}),
        ("config/a", {"": ("@ops",)}),
        ("sub/config/a", {"": ("@everybody",)}),
        ("a/internal/api/b.py", {"": ("@everybody",), "Backend": ("@backend-team",)}),
        ("cmd/main.go", {"": ("@everybody",), "Backend": ("@go-team",)}),
        ("cmd/generated.go", {"": ("@everybody",)}),
        ("cmd/sub/main.go", {"": ("@everybody",)}),
        ("a/b.sql", {"": ("@everybody",), "Database": ("@dba",)}),
        ("a/schema/b.sql", {"": ("@everybody",), "Database": ("@schema-owner",)}),
        ("late/x", {"": ("@everybody",), "Backend": ("@late",)}),
    ],
)
def test_on_gitlab_every_section_has_its_say(path: str, sections: dict[str, tuple[str, ...]]) -> None:
    assert read_owners(GITLAB, "gitlab").of(path) == sections


@pytest.mark.parametrize(
    ("path", "owners"),
    [
        ("src/main.go", ("@gophers",)),
        ("docs/x", ("@writers", "@not-src")),
        ("main.go", ("@gophers", "@not-src")),
        ("src/x.py", ()),
    ],
)
def test_on_gitea_expressions_fit_the_whole_path_and_all_of_them_count(path: str, owners: tuple[str, ...]) -> None:
    assert owners_of(read_owners(GITEA, "gitea"), path) == owners


def test_an_expression_that_python_would_try_for_ever_is_passed_over() -> None:
    owners = read_owners(GITEA, "gitea")

    began = time.process_time()
    owners.of("a" * 500 + "!")

    assert owners.passed_over == (5, 6)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("place", "text", "forge"),
    [
        (".github/CODEOWNERS", "[x]\n", "github"),
        (".gitlab/CODEOWNERS", "* @a\n", "gitlab"),
        ("CODEOWNERS", "* @a\n[Section] @b\n", "gitlab"),
        ("CODEOWNERS", ".*\\.py @a\n", "gitea"),
        ("docs/CODEOWNERS", "*.py @a\n", "github"),
    ],
)
def test_a_file_is_read_in_the_syntax_of_its_forge(place: str, text: str, forge: Forge) -> None:
    assert forge_of(place, text) == forge


def test_a_file_that_is_too_large_says_nothing_and_so_do_rules_beyond_the_limit() -> None:
    assert not read_owners("* @a\n" * 700_000, "github").sections
    many = read_owners("/x @a\n" * 3000 + "* @late\n", "github")
    assert owners_of(many, "y") == ()


@given(st.text(max_size=300), st.sampled_from(["github", "gitlab", "gitea"]), st.text(min_size=1, max_size=40))
def test_whatever_stands_in_the_file_is_read(text: str, forge: Forge, path: str) -> None:
    for names in read_owners(text, forge).of(path).values():
        assert names


@given(
    st.lists(st.sampled_from(["*", "**", "a", "b", "?", "x.py"]), min_size=1, max_size=6),
    st.text("ab/x.py", max_size=30),
)
def test_a_glob_fits_what_it_fits_folder_by_folder(parts: list[str], path: str) -> None:
    fits = bool(glob_pattern("/".join(parts)).match(path))
    assert fits == _fits(parts, path.split("/"))


def _fits(parts: list[str], names: list[str]) -> bool:
    """The meaning of a glob, written the slow and plain way."""
    if not parts:
        return not names
    if parts[0] == "**":
        if len(parts) == 1:
            return bool(names)
        return any(all(names[:count]) and _fits(parts[1:], names[count:]) for count in range(len(names) + 1))
    if not names:
        return False
    one = parts[0]
    fits = one == "*" or (one == "?" and len(names[0]) == 1) or one == names[0]
    return fits and _fits(parts[1:], names[1:])


def test_a_component_is_what_its_owners_call_it_else_its_package_else_its_top_folder() -> None:
    owners = read_owners("/shop/ @org/shop\n", "github")
    tree = ["pyproject.toml", "libs/cart/package.json", "libs/cart/sub/x.js", "go/srv/go.mod"]

    paths = ["shop/a.py", "libs/cart/sub/x.js", "go/srv/main.go", "web/x.css", "Makefile"]
    touched = touched_by(paths, owners, tree)

    assert touched.components == {
        Component("@org/shop", "owners"): ("shop/a.py",),
        Component("libs/cart", "manifest"): ("libs/cart/sub/x.js",),
        Component("go/srv", "manifest"): ("go/srv/main.go",),
        Component("web", "folder"): ("web/x.css",),
        Component(ROOT, "folder"): ("Makefile",),
    }
    assert touched.owners == {"@org/shop"}


def test_a_path_of_ten_thousand_folders_finds_its_package_soon() -> None:
    deep = "libs/cart/" + "a/" * 10_000 + "x.js"
    began = time.monotonic()

    touched = touched_by([f"{deep}{number}" for number in range(100)], None, ["libs/cart/package.json"])

    assert touched.names == ["libs/cart"]
    assert time.monotonic() - began < 5  # with each folder looked at it is half a minute
