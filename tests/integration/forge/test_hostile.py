"""A forge that is not what it should be gets no token by a trick, and costs neither memory nor time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.clients import open_forge
from dawg_orchestrator.forge.faults import Cause, RateLimited, Refused, Unreachable
from dawg_orchestrator.forge.models import Check, CheckState, ForgeKind
from dawg_orchestrator.forge.web import open_web
from httpserver import served
from tlsfiles import make_certificate

TOKEN = "token-that-nobody-may-see"
CHECK = Check("owner/shop", "a" * 40, "dawg/checks", CheckState.SUCCESS)
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def refusal_of(answer: Answer, kind: ForgeKind = ForgeKind.GITHUB) -> Refused | Unreachable:
    """What publishing raises before a server that answers so; it never holds the token."""
    async with served(answer) as url, open_forge(kind, url, TOKEN) as forge, asyncio.timeout(20):
        with pytest.raises((Refused, Unreachable)) as refusal:
            await forge.publish(CHECK)
    assert TOKEN not in f"{refusal.value!r} {refusal.value} {refusal.value.__cause__} {forge!r} {vars(forge)}"
    return refusal.value


def saying(status: int, *, text: str = "{}", headers: dict[str, str] | None = None) -> Answer:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers, content_type="application/json")

    return answer


async def test_one_pull_request_without_a_commit_hides_no_other():
    def a_pull(number: int, sha: str) -> dict[str, object]:
        side = {"ref": "work", "sha": sha, "repo": None}
        return {"number": number, "state": "open", "user": None, "head": side, "base": side}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        alone, everyone = a_pull(1, ""), [a_pull(1, ""), a_pull(2, "a" * 40)]
        return web.json_response(alone if request.path.endswith("/1") else everyone)

    async with served(answer) as url, open_forge(ForgeKind.GITEA, url, TOKEN) as forge:
        listed = await forge.open_pull_requests("owner/shop")
        with pytest.raises(Refused, match="has no commit"):
            await forge.pull_request("owner/shop", 1)

    assert [one.number for one in listed.items] == [2]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int):
    asked = []

    async def elsewhere(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.headers)
        return web.json_response({"statuses": []})

    async with served(elsewhere) as other:
        refusal = await refusal_of(saying(status, headers={"Location": f"{other}/"}))

    assert asked == []
    assert isinstance(refusal, Refused)
    assert refusal.cause is Cause.MOVED


async def test_an_endless_answer_is_cut_off():
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 2**30:
            await response.write(b'"endless",' * 6553)
            sent += 65530
        return response

    refusal = await refusal_of(answer)

    assert isinstance(refusal, Unreachable)
    assert sent < 2**27


async def test_a_forge_that_never_answers_is_not_waited_for():
    release = asyncio.Event()

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    async with served(answer) as url, open_web(URL(url), TOKEN, {}, "", patience=timedelta(seconds=0.2)) as slow:
        with pytest.raises(Unreachable, match="no answer in time"):
            await slow.get("user")
        release.set()


async def test_nobody_listening_is_worth_another_try():
    async with open_forge(ForgeKind.GITHUB, "http://127.0.0.1:1", TOKEN) as forge:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            await forge.who()


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "17"}, 17),
        (403, {"Retry-After": "17"}, 17),
        (429, {}, 60),
        (429, {"Retry-After": "999999"}, 3600),
        (429, {"Retry-After": "soon"}, 60),
        (429, {"Retry-After": "Mon, 01 Jan 2024 00:00:30 GMT", "Date": "Mon, 01 Jan 2024 00:00:00 GMT"}, 30),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1704067240",
               "Date": "Mon, 01 Jan 2024 00:00:00 GMT"}, 40),
    ],
)  # fmt: skip
async def test_being_asked_to_wait_says_how_long(status: int, headers: dict[str, str], seconds: int):
    refusal = await refusal_of(saying(status, headers=headers))

    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == timedelta(seconds=seconds)


@pytest.mark.parametrize("body", ["<html><body>Sign in</body></html>", "[]", '{"statuses": 7}', "[" * 100_000, "\x00"])
async def test_what_is_no_forge_is_told_from_one(body: str):
    refusal = await refusal_of(saying(200, text=body))

    assert isinstance(refusal, Refused)
    assert refusal.cause is Cause.NOT_A_FORGE


async def test_a_token_that_the_forge_repeats_is_not_repeated_here():
    refusal = await refusal_of(saying(422, text=f'{{"message": "bad token {TOKEN}\\u001b[31m in the header"}}'))

    assert "bad token *** [31m in the header" in str(refusal)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_forge_that_is_down_is_worth_another_try(status: int):
    assert type(await refusal_of(saying(status, text="<html>down</html>"))) is Unreachable


async def test_an_answer_that_unpacks_to_more_is_not_unpacked():
    refusal = await refusal_of(saying(200, headers={"Content-Encoding": "gzip"}))

    assert isinstance(refusal, Unreachable)


async def test_pages_end_though_the_forge_always_has_another():
    asked = 0

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        side = {"ref": "main", "sha": "a" * 40, "repo": {"full_name": "owner/shop"}}
        pull = {"number": asked, "state": "open", "user": None, "head": side, "base": side}
        return web.json_response([pull], headers={"Link": '<https://elsewhere.example/>; rel="next"'})

    async with served(answer) as url, open_forge(ForgeKind.GITHUB, url, TOKEN) as forge:
        listed = await forge.open_pull_requests("owner/shop")

    assert (asked, len(listed.items), listed.complete) == (20, 20, False)


async def test_a_list_that_repeats_itself_is_not_read_on():
    asked = 0

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.json_response([], headers={"Link": '<https://elsewhere.example/>; rel="next"'})

    async with served(answer) as url, open_forge(ForgeKind.GITHUB, url, TOKEN) as forge:
        listed = await forge.open_pull_requests("owner/shop")

    assert (asked, listed.items, listed.complete) == (1, (), False)


async def test_a_certificate_is_trusted_only_if_its_authority_is_given(tmp_path: Path):
    make_certificate(tmp_path / "own", "localhost")
    make_certificate(tmp_path / "other", "localhost")
    own, other = ((tmp_path / name / "tls.crt").read_text() for name in ("own", "other"))

    async with served(saying(200, text='{"login": "bot"}'), certificate=tmp_path / "own") as url:
        async with open_forge(ForgeKind.GITHUB, url, TOKEN, ca=own) as forge:
            assert await forge.who() == "bot"
        for ca in ("", other):
            async with open_forge(ForgeKind.GITHUB, url, TOKEN, ca=ca) as forge:
                with pytest.raises(Refused, match=r"ca\.crt") as refusal:
                    await forge.who()
            assert refusal.value.cause is Cause.CERTIFICATE


async def test_a_token_that_would_end_its_header_is_refused():
    with pytest.raises(InvalidSpec) as refusal:
        async with open_forge(ForgeKind.GITHUB, "", "abc\r\nX-Other: 1"):
            pass

    assert refusal.value.field == "token"
    assert "abc" not in str(refusal.value)
