"""Objects that the schemas take and nobody means well with: each ends or says why it waits, and nobody else pays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster_at_hand import JsonObject, Kubectl, eventually
from doors import CONTROLLER_PODS
from stories import Story, task

ONCE: JsonObject = {"retry": {"infra": {"limit": 0}}}
LIST = "[0,1,2,3,4,5,6,7,8,9]"
SHELL = "$(id) `id` ; rm -rf / & 'x' \"y\" ${IFS} | \\ \n> /dev/full"
ODD = "\u0130\u00df\u202e\U0001f4a5\u2028"
OURS = {"dawg.dev/run-uid": "0", "dawg.dev/index": "0", "dawg.dev/attempt": "9" * 63, "dawg.dev/role": "task"}


def dense(count: int, **first: Any) -> list[JsonObject]:
    """Tasks that need the 200 before them and take a file of the first."""
    names = [f"t{number}" for number in range(count)]
    later = [
        task(name, needs=names[max(0, number - 200) : number], inputs=[{"from": "t0", "path": "p"}])
        for number, name in enumerate(names[1:], 1)
    ]
    return [task("t0", **first), *later]


def circle(count: int) -> list[JsonObject]:
    return [task(f"t{number}", needs=[f"t{(number + 1) % count}"]) for number in range(count)]


def one(**fields: Any) -> JsonObject:
    """A run of one task, which is tried once."""
    return {"tasks": [task(**{**ONCE, **fields})]}


def command(*words: str, **fields: Any) -> JsonObject:
    return {"tasks": [{"name": "unit", "command": list(words), **ONCE, **fields}]}


DEEP = 'cd "$DAWG_RESULTS"; mkdir -p ' + "/".join(["a"] * 60)
GLOBS = one(run=DEEP, results={"junit": ["**/" * 60 + "x", "*a" * 60 + "b"]})

# Spec, what else its metadata say, and the reason that its Finished condition gives.
RUNS: dict[str, tuple[JsonObject, JsonObject, str]] = {
    "malformed annotations": (
        one(), {"annotations": {**OURS, "dawg.dev/spec-hash": "}{", "dawg.dev/key": "\x00", "a": "\u2028" * 9}},
        "TestsPassed",
    ),
    "labels that are ours": (one(), {"labels": OURS}, "TestsPassed"),
    "labels on the limit": (one(), {"labels": {"d" * 59 + ".dev/" + "l" * 63: "v" * 63}}, "TestsPassed"),
    "253 characters": (one(), {"name": "poison-" + "r" * 246}, "TestsPassed"),
    "a name of labels": (one(), {"name": ".".join(["p" * 63] * 3)}, "TestsPassed"),
    "a MiB of variables": (
        one(env=[{"name": f"V{number}", "value": "v" * 32768} for number in range(32)]), {}, "TestsPassed",
    ),
    "a MiB of needs": ({"tasks": dense(800, run="exit 1")}, {}, "ExitCode"),
    "a circle of 1000": ({"tasks": circle(1000)}, {}, "InvalidSpec"),
    "itself": (one(needs=["unit"]), {}, "InvalidSpec"),
    "64^8 cells": (
        one(matrix={f"m{n}": [str(value) for value in range(64)] for n in range(8)}), {}, "InvalidSpec",
    ),
    "cells of one key": (one(matrix={"a": ["1,b=2", "1"], "b": ["2", "2,b=2"]}), {}, "InvalidSpec"),
    "odd letters": (
        {**one(run=f"test \"$DAWG_PARAM_P\" = '{ODD}'", matrix={"m": [ODD]}), "parameters": {"p": ODD}}, {},
        "TestsPassed",
    ),
    "shell in parameters": (
        {**one(run='test "$(printf %s "$DAWG_PARAM_P" | wc -c)" -eq ' + str(len(SHELL))), "parameters": {"p": SHELL}},
        {}, "TestsPassed",
    ),
    "shell in an image": (one(image="localhost/$(id):`id`"), {}, "ImagePull"),
    "NUL in a parameter": ({**one(), "parameters": {"p": "a\x00b"}}, {}, "StartFailed"),
    "NUL in a command": (command("true", "\x00"), {}, "ExitCode"),
    "an endless condition": (one(when=f"{LIST}.all(a, " * 9 + "true" + ")" * 9), {}, "InvalidSpec"),
    "a deep condition": (one(when="(" * 900 + "true" + ")" * 900), {}, "InvalidSpec"),
    "a condition of shell": (one(when="$(id)"), {}, "InvalidSpec"),
    "a condition of no truth": (one(when="1/0 == params.x"), {}, "InvalidSpec"),
    "a huge regular expression": (one(when="'a'.matches('(a{999}){999}')"), {}, "InvalidSpec"),
    "parameters of one variable": ({**one(), "parameters": {"a-b": "", "a_b": ""}}, {}, "InvalidSpec"),
    "a URL of no port": (
        {**one(), "source": {"git": {"url": "ssh://h:99999999/r"}}}, {}, "InvalidSpec",
    ),
    "a URL of half a host": ({**one(), "source": {"git": {"url": "https://[::1"}}}, {}, "InvalidSpec"),
    "a negative amount": (one(resources={"limits": {"memory": -1}}), {}, "JobRefused"),
    "requests over limits": (
        one(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}), {}, "JobRefused",
    ),
    "no resource": (one(resources={"limits": {"": "1"}}), {}, "JobRefused"),
    "no node label": (one(scheduling={"nodeSelector": {"../..": "\x00"}}), {}, "JobRefused"),
    "a Secret elsewhere": (
        one(secrets=[{"name": "../configmaps/dawg-ca?watch=true", "key": "k", "env": "K"}]), {}, "SecretMissing",
    ),
    "globs without end": (GLOBS, {}, "ReportMissing"),
    "no time": ({**one(), "timeout": "0s"}, {}, "RunTimeout or Unschedulable"),  # whether or not it was granted before
}  # fmt: skip

WARM: dict[str, tuple[JsonObject, str]] = {
    "NUL in a parameter": ({**one(), "parameters": {"p": "a\x00b"}}, "StartFailed"),
    "NUL in a script": (one(run="true \x00"), "StartFailed"),
    "NUL in a command": (command("true", "\x00"), "StartFailed"),
    "a MiB of variables": (
        one(env=[{"name": f"V{number}", "value": "v" * 32768} for number in range(32)]), "TestsPassed",
    ),
    "globs without end": (GLOBS, "ReportMissing"),
}  # fmt: skip

# What its Ready condition says.
POOLS: dict[str, tuple[JsonObject, str]] = {
    "a negative amount": ({"template": {"resources": {"limits": {"memory": -1}}}}, "AgentsRefused"),
    "no node label": ({"template": {"scheduling": {"nodeSelector": {"../..": "x"}}}}, "AgentsRefused"),
    "no volume": (
        {"template": {"volumes": [{"name": "a", "mountPath": "/a:b", "configMap": {"name": 5}}]}}, "AgentsRefused",
    ),
    "a workspace below nothing": ({"executor": "Process", "warm": {"workspace": -1}}, "AgentsRefused"),
    "a Secret elsewhere": (
        {"executor": "Process", "warm": {"secrets": [{"name": "../pods", "key": "k", "env": "K"}]}}, "SecretMissing",
    ),
    "no time": (
        {"scaling": {"schedule": [{"cron": "0 0 30 2 *", "for": "99999d", "minAgents": 9}, {"cron": SHELL, "for": "0s",
                                                                                           "minAgents": 9}]}},
        "AgentsReady",
    ),
}  # fmt: skip


def an_object(kind: str, name: str, spec: JsonObject, **metadata: Any) -> JsonObject:
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def leaders(kubectl: Kubectl) -> tuple[dict[str, int], int]:
    """How often each controller was restarted, and how often the leader changed: also a process that starts anew."""
    restarts = {
        pod["metadata"]["name"]: sum(state["restartCount"] for state in pod["status"].get("containerStatuses", []))
        for pod in kubectl.items("pods", CONTROLLER_PODS)
    }
    lease = kubectl.get("lease", "dawg-leader")
    assert lease is not None
    return restarts, lease["spec"]["leaseTransitions"]


class Poisoned:
    """All of it, applied at once, among ordinary runs."""

    def __init__(self, shared: Story, pool: str, warm: str) -> None:
        self._story = shared
        self.before = leaders(shared.kubectl)
        self.ordinary = [shared.when_applied(task(), pool=warm) for _ in range(6)]
        made = {key: self._run(f"poison-{shared.mark}-{number}", pool, *RUNS[key]) for number, key in enumerate(RUNS)}
        hot = {
            key: self._run(f"warm-{shared.mark}-{number}", warm, WARM[key][0], {}) for number, key in enumerate(WARM)
        }
        empty = {"minAgents": 0}
        pools = {
            key: an_object("AgentPool", f"poison-{shared.mark}-{number}", {**empty, **spec})
            for number, (key, (spec, _)) in enumerate(POOLS.items())
        }
        for several in (made, hot, pools):
            for poison in several.values():
                shared.given_new(poison)
        self.runs, self.warm, self.pools = (
            {key: poison["metadata"]["name"] for key, poison in several.items()} for several in (made, hot, pools)
        )
        self.ordinary += [shared.when_applied(task(), pool=warm) for _ in range(6)]

    @staticmethod
    def _run(name: str, pool: str, spec: JsonObject, metadata: JsonObject | None = None, _: str = "") -> JsonObject:
        return an_object("TestRun", **{"name": name, **(metadata or {})}, spec={"pool": pool, **spec})


@pytest.fixture(scope="module")
def poisoned(shared: Story, pool: str) -> Poisoned:
    warm = shared.given_pool(executor="Process", minAgents=1, maxAgents=1, slots=4)
    shared.then_pool_has(warm, 1)
    return Poisoned(shared, pool, warm)


def why(story: Story, run: str) -> tuple[str, str]:
    """Reason and message of a run that has ended."""
    finished = next(entry for entry in story.then_finishes(run)["conditions"] if entry["type"] == "Finished")
    return finished["reason"], finished["message"]


@pytest.mark.parametrize("key", RUNS)
def test_a_poisoned_run_has_a_verdict_and_a_reason_of_its_own(key: str, poisoned: Poisoned, story: Story) -> None:
    reason, message = why(story, poisoned.runs[key])

    assert reason in RUNS[key][2].split(" or "), message


@pytest.mark.parametrize("key", WARM)
def test_a_poisoned_run_in_a_slot_has_a_verdict_and_a_reason(key: str, poisoned: Poisoned, story: Story) -> None:
    reason, message = why(story, poisoned.warm[key])

    assert reason == WARM[key][1], message


@pytest.mark.parametrize("key", POOLS)
def test_a_poisoned_pool_says_what_is_wrong(key: str, poisoned: Poisoned, story: Story) -> None:
    def look() -> JsonObject | None:
        conditions = {entry["type"]: entry for entry in story.pool(poisoned.pools[key]).get("conditions", [])}
        return conditions.get("Ready")

    ready = eventually(look, within=60)
    assert (ready or {}).get("reason") == POOLS[key][1], json.dumps(ready)


def test_ordinary_runs_among_them_pass(poisoned: Poisoned, story: Story) -> None:
    assert [story.then_finishes(run)["verdict"] for run in poisoned.ordinary] == ["Passed"] * len(poisoned.ordinary)


def test_no_controller_was_restarted_and_none_lost_its_lead(poisoned: Poisoned, kubectl: Kubectl) -> None:
    assert leaders(kubectl) == poisoned.before
