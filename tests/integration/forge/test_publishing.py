"""What an agent publishes to a real Gitea: only what a Secret allows, in order, with an answer whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dawg_agent.publishing import Publishing
from dawg_orchestrator.resources.model import Model
from dawg_orchestrator.resources.protocol import FROM_AGENT, LeaseId, Publish, Published
from dawg_orchestrator.resources.reasons import Reason
from forgeshop import Shop

CONTEXT, WORKFLOW = "dawg/checks", "checks"


class Ear:
    """What the controller hears; each word as it would come off the wire."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Published] = asyncio.Queue()

    async def __call__(self, message: Model) -> bool:
        word = FROM_AGENT.validate_json(message.model_dump_json(by_alias=True, exclude_none=True))
        assert isinstance(word, Published)
        self.heard.put_nowait(word)
        return True

    async def next(self) -> Published:
        async with asyncio.timeout(30):
            return await self.heard.get()


@asynccontextmanager
async def publishing(secrets: Path, ear: Ear) -> AsyncIterator[Publishing]:
    made = Publishing(ear, secrets)
    try:
        yield made
    finally:
        await made.close()


def put_secret(folder: Path, shop: Shop, name: str = "forge", **changed: str) -> Path:
    """A forge Secret as a pool's agents see it."""
    keys = {"type": "gitea", "url": shop.server.url, "token": shop.bot.token, "repositories": shop.name,
            "workflows": WORKFLOW, **changed}  # fmt: skip
    place = folder / "secrets" / name
    place.mkdir(parents=True)
    for key, value in keys.items():
        (place / key).write_text(value)
    return folder / "secrets"


def a_message(shop: Shop, state: str = "pending", number: int = 1, **fields: Any) -> Publish:
    said = {
        "serial": LeaseId(term=1, number=number), "repository": shop.name, "context": CONTEXT,
        "commit": shop.local.commits[-1], "workflow": WORKFLOW, "url": f"{shop.server.url}/{shop.name}.git",
        "state": state, "description": f"{state}, as it stands", "run": "run-1", **fields,
    }  # fmt: skip
    return Publish.model_validate(said)


def shown(shop: Shop, commit: str = "") -> list[str]:
    found = shop.server.call("GET", f"/repos/{shop.name}/commits/{commit or shop.local.commits[-1]}/status")
    return [one["status"] for one in found["statuses"] or ()]


async def test_what_is_published_is_shown_and_answered_with_where(shop: Shop, tmp_path: Path) -> None:
    ear = Ear()
    async with publishing(put_secret(tmp_path, shop), ear) as agent:
        agent.take(a_message(shop))
        answer = await ear.next()

    assert (answer.serial.number, answer.reason) == (1, None)
    assert answer.url == f"{shop.server.url}/{shop.name}/commit/{shop.local.commits[-1]}"
    assert shown(shop) == ["pending"]


async def test_for_one_place_the_newest_word_is_the_last_that_is_written(shop: Shop, tmp_path: Path) -> None:
    ear = Ear()
    async with publishing(put_secret(tmp_path, shop), ear) as agent:
        for number, state in enumerate(("pending", "success", "failure"), 1):
            agent.take(a_message(shop, state, number))
        agent.take(a_message(shop, "success", 2))  # late, or repeated
        answers = [await ear.next()]
        while answers[-1].serial.number != 3:
            answers.append(await ear.next())

    assert shown(shop) == ["failure"]
    assert len(answers) <= 3


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"repositories": "others/*"}, "does not name the repository"),
        ({"contexts": "ci/*"}, "does not name the context"),
        ({"workflows": "another"}, "does not let the Workflow 'checks' gate"),
        ({"type": "githob"}, "Secret forge: type"),
        ({"url": "https://elsewhere.example.org"}, "is for elsewhere.example.org, and the commit lies at 127.0.0.1"),
    ],
)
async def test_what_no_secret_allows_is_not_sent_and_says_what_would_allow_it(
    changed: dict[str, str], told: str, shop: Shop, tmp_path: Path
) -> None:
    ear = Ear()
    async with publishing(put_secret(tmp_path, shop, **changed), ear) as agent:
        agent.take(a_message(shop))
        answer = await ear.next()

    assert answer.reason is Reason.GATE_NOT_ALLOWED
    assert told in answer.message
    assert shop.bot.token not in answer.message
    assert shown(shop) == []


async def test_a_pool_without_forge_secrets_says_so(shop: Shop, tmp_path: Path) -> None:
    ear = Ear()
    async with publishing(tmp_path / "none", ear) as agent:
        agent.take(a_message(shop))
        answer = await ear.next()

    assert (answer.reason, "builtin.forgeSecrets" in answer.message) == (Reason.GATE_NOT_ALLOWED, True)


async def test_of_several_secrets_the_one_that_allows_it_is_used(shop: Shop, tmp_path: Path) -> None:
    ear = Ear()
    put_secret(tmp_path, shop, "a-broken-one", type="?")
    async with publishing(put_secret(tmp_path, shop, "b-right-one"), ear) as agent:
        agent.take(a_message(shop))
        assert (await ear.next()).reason is None


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (lambda _: {"token": "wrong"}, Reason.FORGE_REFUSED),
        (lambda _: {"url": "http://127.0.0.1:9"}, Reason.FORGE_UNREACHABLE),
    ],
)
async def test_what_the_forge_refuses_or_does_not_answer_is_told_apart(
    spoilt: Callable[[Shop], dict[str, str]], reason: Reason, shop: Shop, tmp_path: Path
) -> None:
    ear = Ear()
    async with publishing(put_secret(tmp_path, shop, **spoilt(shop)), ear) as agent:
        agent.take(a_message(shop))
        answer = await ear.next()

    assert answer.reason is reason
    assert answer.message
