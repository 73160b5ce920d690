"""notify: tell people and programs, once.

What was said last to each address is kept under a key. It decides whether there is news, and it is written as soon as
an address has got its word: when the step is tried again, only those are told who were not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal

from dawg_agent.steps.about import About, StepOutcome
from dawg_agent.steps.faults import StepBroken, StepFailed
from dawg_agent.steps.telling import News, NotTold, tell_people, tell_webhook
from dawg_agent.steps.web import said
from dawg_orchestrator.resources.model import format_time
from dawg_orchestrator.resources.names import short_hash
from dawg_orchestrator.resources.steps import Notify, SecretAddress, Target
from dawg_orchestrator.resources.verdict import Verdict

_WITHIN = 90.0  # seconds for one address, with all its tries
_MOST_KEPT = 64  # addresses under one key
_MOST_LINES, _LONGEST_LINE = 20, 300

Said = Mapping[str, Any]  # what was said last to one address: healthy, step, run, at
When = Literal["Change", "Always", "Failure"]


@dataclass(frozen=True)
class Addressee:
    """One address. ``id`` stands for it in what is kept, which therefore holds no address."""

    id: str
    label: str
    target: Target
    webhook: bool


@dataclass(frozen=True)
class Heard:
    """What became of one address; ``fault`` is None when it was told."""

    label: str
    fault: str | None = None
    lasting: bool = False  # whether another try would fail in the same way
    noted: bool = True


async def carry_out(inputs: Notify, about: About) -> StepOutcome:
    """Tell those for whom there is news."""
    healthy = inputs.healthy if inputs.healthy is not None else not about.not_green
    key = about.kept_under("notify", inputs.key)
    last = await _said_last(about, key, healthy=healthy, when=inputs.when)
    due = [one for one in _addressees(inputs, about)
           if is_due(inputs.when, healthy=healthy, last=last.get(one.id), step=about.step)]  # fmt: skip
    if not due:
        return StepOutcome(True, why_nobody(inputs.when, healthy=healthy, last=last), {"sent": "0"})
    writing = asyncio.Lock()

    async def tell(one: Addressee) -> Heard:
        news = _news(inputs, about, healthy=healthy, before=last.get(one.id))
        heard = await _tell(one, news, about)
        if heard.fault is not None:
            return heard
        async with writing:
            return await _note(heard, one, news, about, key)

    return outcome_of(await asyncio.gather(*map(tell, due)))


def is_due(when: When, *, healthy: bool, last: Said | None, step: str) -> bool:
    """Whether an address is to be told, by what it heard last."""
    if last is not None and last.get("step") == step and last.get("healthy") is healthy:
        return False  # an earlier attempt of this step has told it
    if when == "Always":
        return True
    if when == "Failure":
        return not healthy
    return not healthy if last is None else last.get("healthy") is not healthy


def why_nobody(when: When, *, healthy: bool, last: Mapping[str, Said]) -> str:
    """Why nobody was told."""
    state = "healthy" if healthy else "not healthy"
    if when == "Failure" and healthy:
        return "nobody was told: all is well, and only failures are told (when: Failure)"
    if not last:
        return "nobody was told: all is well, and nobody had heard otherwise (when: Change)"
    at, run = max((str(one.get("at", "")), str(one.get("run", ""))) for one in last.values())
    return f"nobody was told: that it is {state} was said at {at} by run {run}"


def outcome_of(heard: list[Heard]) -> StepOutcome:
    """Who was told; StepBroken when another attempt may reach the others."""
    told = [one.label for one in heard if one.fault is None]
    missed = [f"{one.label}: {one.fault}" for one in heard if one.fault is not None]
    message = f"told {', '.join(told)}" if told else "told nobody"
    if missed:
        message += f"; not told: {'; '.join(missed)}"
    if any(not one.noted for one in heard):
        message += "; the api took no note of it, so it may be told again"
    if any(one.fault is not None and not one.lasting for one in heard):
        raise StepBroken(message)
    return StepOutcome(not missed, message, {"sent": str(len(told))})


async def _said_last(about: About, key: str, *, healthy: bool, when: When) -> dict[str, Said]:
    """What each address heard last. An alert does not wait for an api that is down: better told twice than never."""
    try:
        kept = await about.kept.read(key)
    except StepBroken:
        if healthy and when == "Change":
            raise
        return {}
    return dict(kept.get("told") or {})


def _addressees(inputs: Notify, about: About) -> list[Addressee]:
    """Each address once."""
    targets = [(target, False) for target in inputs.to] + [(target, True) for target in inputs.webhooks]
    found = [Addressee(_id(target), about.addresses.label(target), target, webhook) for target, webhook in targets]
    return list({one.id: one for one in found}.values())


def _id(target: Target) -> str:
    return f"${target.secret}" if isinstance(target, SecretAddress) else short_hash(target)


def _news(inputs: Notify, about: About, *, healthy: bool, before: Said | None) -> News:
    subject = inputs.key or about.workflow or about.run
    recovered = healthy and before is not None and before.get("healthy") is False
    state = "has recovered" if recovered else "is healthy" if healthy else "is not healthy"
    text = inputs.text or what_ended(about)
    return News(
        id=f"{about.step}/{'healthy' if healthy else 'unhealthy'}",
        type="dev.dawg.recovered" if recovered else "dev.dawg.healthy" if healthy else "dev.dawg.alert",
        healthy=healthy, title=inputs.title or f"{subject} {state}",
        text=f"{text}\n\nRun {about.run} in {about.namespace}".strip(),
        at=datetime.now(UTC), namespace=about.namespace, run=about.run, workflow=about.workflow, subject=subject,
        tasks={name: task.model_dump(mode="json", by_alias=True) for name, task in about.tasks.items()},
    )  # fmt: skip


def what_ended(about: About) -> str:
    """What came of the tasks before, those that ended badly first: whether tests pass and a rollback has helped."""
    bad = about.not_green
    ran = {name: task for name, task in about.tasks.items() if name not in bad and task.verdict != Verdict.SKIPPED}
    lines = (f"{name}: {task.verdict} {task.reason}: {task.message}" for name, task in (bad | ran).items())
    return "\n".join(line[:_LONGEST_LINE] for line in islice(lines, _MOST_LINES))


async def _tell(one: Addressee, news: News, about: About) -> Heard:
    try:
        address = about.addresses.of(one.target)
        async with asyncio.timeout(_WITHIN):
            await (tell_webhook if one.webhook else tell_people)(address, news)
    except (StepFailed, NotTold) as error:
        return Heard(one.label, str(error), lasting=isinstance(error, StepFailed))
    except TimeoutError:
        return Heard(one.label, f"no answer within {_WITHIN:.0f} s")
    except Exception as error:  # noqa: BLE001 - whatever a library raises: the others are told all the same
        return Heard(one.label, said(error))
    return Heard(one.label)


async def _note(heard: Heard, one: Addressee, news: News, about: About, key: str) -> Heard:
    """Keep that the address was told."""
    word = {"healthy": news.healthy, "step": about.step, "run": about.run, "at": format_time(news.at)}
    try:
        await about.kept.change(key, lambda value: with_told(value, one.id, word))
    except StepBroken:
        return Heard(heard.label, noted=False)
    return heard


def with_told(value: Mapping[str, Any], address: str, word: Said) -> dict[str, Any]:
    """What is kept, with what was said to one address; those who heard something last make room."""
    told = {**(value.get("told") or {}), address: dict(word)}
    newest = sorted(told, key=lambda one: str(told[one].get("at", "")), reverse=True)[:_MOST_KEPT]
    return {**value, "told": {one: told[one] for one in newest}}
