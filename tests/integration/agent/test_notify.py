"""notify to real receivers: webhooks and a mail server. Who is told, once, and what is said of those who are not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

import realparts
from dawg_agent.steps import telling
from dawg_orchestrator.resources.protocol import EndedTask
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from integration.agent.stepbench import StepBench, a_bench, serving

# apprise asks for a module that newer Pythons no longer have
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

PASSWORD = "hidden-mail-password"
FAILED = {"check": EndedTask(verdict="Failed", reason="StepFailed", message="db does not answer")}
PASSED = {"check": EndedTask(verdict="Passed")}


@dataclass
class Receiver:
    """A webhook's other end. ``answers`` are the next statuses, then 204."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    asked: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)  # that were taken
    content_types: set[str] = field(default_factory=set)

    async def take(self, request: web.Request) -> web.Response:
        self.asked += 1
        status = self.answers.pop(0) if self.answers else 204
        if status == 204:
            self.content_types.add(request.content_type)
            self.events.append(await request.json())
        return web.Response(status=status)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@dataclass
class MailServer:
    """An SMTP server that wants a password."""

    port: int = 0
    mails: list[tuple[list[str], Message]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
        return AuthResult(success=right, handled=False)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other without rests."""
    monkeypatch.setattr(telling, "_PAUSES", (0.01, 0.01))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[StepBench]:
    async with a_bench(tmp_path) as made:
        made.patience = 0.3
        yield made


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with serving(web.post("/take/{token}", receiver.take)) as url:
        receiver.url = f"{url}/take/hidden-token"
        yield receiver


@pytest.fixture
async def other() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with serving(web.post("/", receiver.take)) as url:
        receiver.url = url
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer()
    controller = Controller(
        server, hostname="127.0.0.1", port=realparts.free_port(), server_hostname="tests",
        authenticator=server.authenticate, auth_require_tls=False,
    )  # fmt: skip
    controller.start()
    server.port = controller.port
    yield server
    controller.stop()


def address(mail: MailServer, password: str = PASSWORD) -> str:
    return f"mailto://shop:{password}@127.0.0.1:{mail.port}?from=dawg@shop.test&to=ops@shop.test&smtp=127.0.0.1&mode=insecure"


async def tell(bench: StepBench, run: str, tasks: dict[str, EndedTask], **inputs: Any) -> TaskResult:
    return await bench.carry_out("notify", run=run, tasks=tasks, **inputs)


def sent(result: TaskResult) -> str:
    assert result.summary is not None
    return result.summary.outputs["sent"]


async def test_people_hear_of_trouble_once_and_of_its_end_once(bench: StepBench, hook: Receiver) -> None:
    bench.secrets["HOOK"] = hook.url
    story = [PASSED, FAILED, FAILED, PASSED, PASSED, FAILED]

    results = [await tell(bench, f"run-{number}", tasks, webhooks=[{"secret": "HOOK"}])
               for number, tasks in enumerate(story)]  # fmt: skip

    assert hook.types == ["dev.dawg.alert", "dev.dawg.recovered", "dev.dawg.alert"]
    assert [sent(result) for result in results] == ["0", "1", "0", "1", "0", "1"]
    assert all(result.exit_code == 0 for result in results)
    assert results[0].message == "nobody was told: all is well, and nobody had heard otherwise (when: Change)"
    assert results[1].message == "told HOOK"
    assert results[2].message.startswith("nobody was told: that it is not healthy was said at 20")
    assert results[2].message.endswith("by run run-1-name")


async def test_a_webhook_gets_a_cloud_event(bench: StepBench, hook: Receiver) -> None:
    await tell(bench, "run-1", FAILED, webhooks=[hook.url])

    event = hook.events[0]
    assert hook.content_types == {"application/cloudevents+json"}
    assert {name: event[name] for name in ("specversion", "id", "source", "type", "subject")} == {
        "specversion": "1.0", "id": "run-1/1/unhealthy", "source": "/namespaces/shop/testruns/run-1-name",
        "type": "dev.dawg.alert", "subject": "watch",
    }  # fmt: skip
    assert event["data"]["title"] == "watch is not healthy"
    assert "check: Failed StepFailed: db does not answer" in event["data"]["text"]
    assert event["data"]["tasks"]["check"]["verdict"] == "Failed"


async def test_what_is_kept_holds_no_address(bench: StepBench, hook: Receiver) -> None:
    bench.secrets["HOOK"] = hook.url
    await tell(bench, "run-1", FAILED, webhooks=[{"secret": "HOOK"}, f"{hook.url}/"])

    assert set(bench.api.states) == {"notify/watch/the-task"}
    assert "hidden-token" not in str(bench.api.states)


async def test_always_and_failure_tell_in_every_run_and_not_twice_in_one(bench: StepBench, hook: Receiver) -> None:
    for run in ("run-1", "run-1", "run-2"):
        await tell(bench, run, PASSED, webhooks=[hook.url], when="Always")
        await tell(bench, run, PASSED, webhooks=[hook.url], when="Failure", key="failures")
        await tell(bench, run, FAILED, webhooks=[hook.url], when="Failure", key="failures")

    assert hook.types == ["dev.dawg.healthy", "dev.dawg.alert"] * 2


async def test_an_answer_of_5xx_is_not_the_last_word(bench: StepBench, hook: Receiver) -> None:
    hook.answers = [503, 500]

    assert (await tell(bench, "run-1", FAILED, webhooks=[hook.url])).exit_code == 0
    assert (hook.asked, len(hook.events)) == (3, 1)


async def test_a_step_that_is_tried_again_tells_only_who_was_not_told(
    bench: StepBench, hook: Receiver, other: Receiver
) -> None:
    hook.answers = [503] * 3

    first = await tell(bench, "run-1", FAILED, webhooks=[hook.url, other.url])
    again = await tell(bench, "run-1", FAILED, webhooks=[hook.url, other.url])

    assert first.infrastructure is Reason.STEP_BROKEN
    assert first.message == f"told {other.url}; not told: {hook.url.partition('/take')[0]}: it answers 503, 3 times"
    assert again.exit_code == 0
    assert (len(hook.events), len(other.events)) == (1, 1)


async def test_a_refusal_fails_the_step_and_the_others_are_told(
    bench: StepBench, hook: Receiver, other: Receiver
) -> None:
    hook.answers = [404]

    result = await tell(bench, "run-1", FAILED, webhooks=[hook.url, other.url, {"secret": "NOBODY"}])

    assert (result.exit_code, sent(result)) == (1, "1")
    assert "it answers 404" in result.message
    assert "the variable NOBODY is none of the pool's" in result.message
    assert (hook.asked, len(other.events)) == (1, 1)


async def test_an_alert_does_not_wait_for_an_api_that_is_down(bench: StepBench, hook: Receiver) -> None:
    bench.api.down = True

    alert = await tell(bench, "run-1", FAILED, webhooks=[hook.url])
    recovery = await tell(bench, "run-2", PASSED, webhooks=[hook.url])

    assert alert.exit_code == 0
    assert "the api took no note of it, so it may be told again" in alert.message
    assert recovery.infrastructure is Reason.STEP_BROKEN
    assert hook.types == ["dev.dawg.alert"]


async def test_what_others_keep_at_the_same_time_is_not_lost(bench: StepBench, hook: Receiver) -> None:
    bench.api.overtake = 3

    assert (await tell(bench, "run-1", FAILED, webhooks=[hook.url])).exit_code == 0
    assert sent(await tell(bench, "run-2", FAILED, webhooks=[hook.url])) == "0"


async def test_mail_arrives(bench: StepBench, mail: MailServer) -> None:
    bench.secrets["MAIL"] = address(mail)

    result = await tell(bench, "run-1", FAILED, to=[{"secret": "MAIL"}], title="The shop is ill", text="Look at it.")

    assert (result.exit_code, result.message) == (0, "told MAIL")
    [(recipients, message)] = mail.mails
    assert recipients == ["ops@shop.test"]
    assert message["Subject"] == "The shop is ill"
    assert "Look at it." in message.as_string()


async def test_a_refused_password_is_told_without_the_password(
    bench: StepBench, mail: MailServer, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.secrets["MAIL"] = address(mail, "wrong-hidden-password")

    result = await tell(bench, "run-1", FAILED, to=[{"secret": "MAIL"}, address(mail, "written-out-password")])

    assert result.infrastructure is Reason.STEP_BROKEN
    assert "MAIL: Connection error while submitting email" in result.message
    said = result.model_dump_json() + "".join(capfd.readouterr())
    assert "wrong-hidden-password" not in said
    assert "written-out-password" not in said
    assert mail.mails == []


async def test_an_address_that_apprise_does_not_know_is_told(bench: StepBench) -> None:
    bench.secrets["CHAT"] = "smoke-signals://hidden-hill"

    result = await tell(bench, "run-1", FAILED, to=[{"secret": "CHAT"}])

    assert (result.exit_code, result.message) == (
        1, "told nobody; not told: CHAT: it is no address that apprise knows",
    )  # fmt: skip
