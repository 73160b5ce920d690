"""The flags of `dawg run` become the TestRun that one would have written."""

from __future__ import annotations

from typing import Any

import pytest

from dawg_orchestrator.client.inline import InlineRun, in_namespace, manifest_of, manifest_of_documents
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.resources.testrun import TestRunSpec

A_RUN = {"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": "a"}, "spec": {}}


def flags(*command: str, **more: Any) -> InlineRun:
    return InlineRun(image=more.pop("image", None), command=command, **more)


def test_flags_become_a_testrun() -> None:
    asked = flags(
        "pytest", "-q", image="python:3.12", pool="gpu", priority="high", env=["A=1=2", "HOME"], junit=["junit*.xml"],
        git_url="https://git.example/shop.git", revision="main", task_timeout="10m",
    )  # fmt: skip

    manifest = manifest_of(asked, {"HOME": "/root"})

    assert manifest["metadata"] == {"generateName": "pytest-"}
    assert manifest["spec"] == {
        "pool": "gpu",
        "priority": "high",
        "timeout": "10m",
        "source": {"git": {"url": "https://git.example/shop.git", "revision": "main"}},
        "tasks": [
            {
                "name": "test",
                "image": "python:3.12",
                "command": ["pytest", "-q"],
                "env": [{"name": "A", "value": "1=2"}, {"name": "HOME", "value": "/root"}],
                "results": {"junit": ["junit*.xml"]},
                "timeout": "10m",
            }
        ],
    }
    assert TestRunSpec.model_validate(manifest["spec"])


def test_one_argument_with_blanks_is_a_script() -> None:
    task = manifest_of(flags("make && make test"), {})["spec"]["tasks"][0]

    assert task == {"name": "test", "run": "make && make test"}


@pytest.mark.parametrize(
    ("program", "prefix"),
    [("/usr/bin/Pytest", "pytest-"), ("./run_all.sh", "run-all-sh-"), ("試験", "run-"), ("go test ./...", "go-")],
)
def test_a_run_without_a_name_is_named_after_its_program(program: str, prefix: str) -> None:
    assert manifest_of(flags(program), {})["metadata"] == {"generateName": prefix}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (flags(image="alpine"), "--"),
        (flags("true", revision="main"), "--revision"),
        (flags("true", env=["1A=x"]), "--env"),
        (flags("true", env=["UNSET"]), "--env"),
    ],
)
def test_a_wrong_flag_is_named(asked: InlineRun, field: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        manifest_of(asked, {})

    assert refusal.value.field == field


@pytest.mark.parametrize(
    "documents",
    [[], [A_RUN, A_RUN], [{"kind": "Pod"}], ["text"], [A_RUN | {"metadata": {}}], [A_RUN | {"apiVersion": "v1"}]],
)
def test_a_file_holds_exactly_one_testrun(documents: list[Any]) -> None:
    with pytest.raises(InvalidSpec):
        manifest_of_documents(documents, "file")


def test_empty_documents_do_not_count() -> None:
    assert manifest_of_documents([None, A_RUN, None], "file") == A_RUN


def test_the_namespace_in_the_file_wins_over_the_context_and_may_not_be_contradicted() -> None:
    there = A_RUN | {"metadata": {"name": "a", "namespace": "team"}}

    assert in_namespace(there, None, "default")["metadata"]["namespace"] == "team"
    assert in_namespace(A_RUN, "asked", "default")["metadata"]["namespace"] == "asked"
    with pytest.raises(InvalidSpec, match="team"):
        in_namespace(there, "other", "default")
