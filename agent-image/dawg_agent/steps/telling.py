"""How something is said: to people through apprise, to programs as CloudEvents."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import apprise

from dawg_agent.steps.faults import StepFailed
from dawg_agent.steps.web import open_client, said, web_address
from dawg_orchestrator.resources.model import format_time

_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between tries
_ONE_TRY = timedelta(seconds=10)
_PATIENCE = 60.0  # seconds for what apprise sends
_MAY_PASS = frozenset({408, 425, 429})
_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


class NotTold(Exception):
    """The word did not get through now."""


@dataclass(frozen=True)
class News:
    """What there is to say. The ``id`` is the same in every try, so that receivers can tell a repetition."""

    id: str
    type: str
    healthy: bool
    title: str
    text: str
    at: datetime
    namespace: str
    run: str
    workflow: str | None
    subject: str
    tasks: dict[str, Any]

    def event(self) -> dict[str, Any]:
        """As a CloudEvent in structured JSON."""
        data = {
            "healthy": self.healthy, "title": self.title, "text": self.text, "namespace": self.namespace,
            "run": self.run, "workflow": self.workflow, "tasks": self.tasks,
        }  # fmt: skip
        return {
            "specversion": "1.0", "id": self.id, "source": f"/namespaces/{self.namespace}/testruns/{self.run}",
            "type": self.type, "subject": self.subject, "time": format_time(self.at),
            "datacontenttype": "application/json", "data": data,
        }  # fmt: skip


async def tell_webhook(address: str, news: News) -> None:
    """POST the event; again after 5xx and broken connections. StepFailed: it is refused. NotTold: it did not arrive."""
    url = web_address(address)
    fault = ""
    async with open_client(_ONE_TRY) as client:
        for pause in (*_PAUSES, None):
            try:
                async with client.post(
                    url, json=news.event(), headers={"Content-Type": _CONTENT_TYPE}, allow_redirects=False
                ) as response:
                    status = response.status
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                fault = said(error)
            else:
                if 200 <= status < 300:
                    return
                if status < 500 and status not in _MAY_PASS:
                    raise StepFailed(f"it answers {status}")
                fault = f"it answers {status}"
            if pause is not None:
                await asyncio.sleep(pause)
    raise NotTold(f"{fault}, {len(_PAUSES) + 1} times")


async def tell_people(address: str, news: News) -> None:
    """Send by apprise, which blocks. StepFailed: it is no address. NotTold: it did not get through."""
    await asyncio.to_thread(_send, address, news)


def _send(address: str, news: News) -> None:
    sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id="DAWG"))
    if not sender.add(address):
        raise StepFailed("it is no address that apprise knows")
    sent = sender.notify(
        body=news.text, title=news.title, body_format=apprise.NotifyFormat.TEXT, timeout=_PATIENCE,
        notify_type=apprise.NotifyType.SUCCESS if news.healthy else apprise.NotifyType.FAILURE,
    )  # fmt: skip
    why = [entry.message for entry in sent.logs()]  # warnings and errors
    if not sent:
        raise NotTold(" ".join("; ".join(why[:3]).split()) or "apprise could not send it")
