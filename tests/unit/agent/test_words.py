"""Settings, sidecars' events and git's complaints: text that is read and understood, or refused with a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dawg_agent.askpass import answer
from dawg_agent.events import read_event, say
from dawg_agent.git import classify, explained, readable
from dawg_agent.kube import lines_of
from dawg_agent.settings import SettingsError, read_agent_settings, read_sidecar_settings
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import SidecarEvent

AGENT = {
    "DAWG_POOL": "default",
    "DAWG_NAMESPACE": "shop",
    "DAWG_POD": "agent-1",
    "DAWG_SLOTS": "4",
    "DAWG_CONTROLLER": "dawg-controller:8443",
    "DAWG_API_URL": "https://dawg-api:8444",
}


def test_an_agent_reads_its_environment() -> None:
    settings = read_agent_settings(AGENT)

    assert (settings.controller_host, settings.controller_port, settings.slots) == ("dawg-controller", 8443, 4)


@pytest.mark.parametrize(
    ("name", "value"), [("DAWG_POOL", ""), ("DAWG_SLOTS", "0"), ("DAWG_SLOTS", "many"), ("DAWG_CONTROLLER", "nowhere")]
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_agent_settings(AGENT | {name: value})


def test_a_broken_order_is_named_with_the_place() -> None:
    with pytest.raises(SettingsError, match=r"DAWG_ORDER.*attempt"):
        read_sidecar_settings({"DAWG_ORDER": '{"key": "unit"}'})


def test_an_event_is_read_as_it_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    event = SidecarEvent(event="failed", reason=Reason.SOURCE_REFUSED, message="two\nlines: dawg-event: {}")
    say(event)
    lines = capsys.readouterr().out.encode().splitlines()

    assert [read_event(line) for line in lines] == [event]


@pytest.mark.parametrize(
    "line", [b"", b"hello", b"dawg-event: {", b'dawg-event: {"event": "other"}', b" dawg-event: {}"]
)
def test_any_other_line_is_no_event(line: bytes) -> None:
    assert read_event(line) is None


async def test_lines_are_cut_out_of_any_pieces_and_endless_ones_dropped() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b\nc\n", b"x" * 30, b"x" * 30, b"end\nd", b"e"):
            yield piece

    assert [line async for line in lines_of(pieces(), longest=20)] == [b"ab", b"c", b"de"]


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("Username for 'https://git.example': ", "robot"),
        ("Password for 'https://robot@git.example': ", "secret"),
        ("Password for 'https://robot@GIT.example': ", "secret"),
        ("Password for 'https://robot@evil.example': ", None),
        ("Password for 'http://robot@git.example': ", None),
        ("Password for 'https://git.example@evil.example': ", None),
        ("Password for 'https://git.example:8443': ", None),
        ("Are you sure you want to continue connecting (yes/no)? ", None),
    ],
)
def test_a_password_is_told_to_its_own_host_only(tmp_path: Path, question: str, told: str | None) -> None:
    (tmp_path / "username").write_text("robot\n")
    (tmp_path / "password").write_text("secret\n")

    assert answer(question, "https://git.example", tmp_path) == told


def test_a_bare_token_needs_no_user_name(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")

    assert answer("Username for 'https://git.example': ", "https://git.example", tmp_path) == "git"


@pytest.mark.parametrize(
    ("words", "reason", "transient"),
    [
        ("fatal: Authentication failed for 'https://x/'", Reason.SOURCE_REFUSED, False),
        ("git@github.com: Permission denied (publickey).", Reason.SOURCE_REFUSED, False),
        ("fatal: repository 'https://x/y.git/' not found", Reason.SOURCE_REFUSED, False),
        ("fatal: couldn't find remote ref refs/heads/x", Reason.REVISION_NOT_FOUND, False),
        (
            "No ED25519 host key is known for git.example",
            Reason.HOST_KEY_UNKNOWN,
            False,
        ),
        ("Host key verification failed.", Reason.HOST_KEY_UNKNOWN, False),
        ("server certificate verification failed. CAfile: none", Reason.CERTIFICATE_UNKNOWN, False),
        ("fatal: unable to access: Could not resolve host: git.example", Reason.SOURCE_UNREACHABLE, True),
        ("The requested URL returned error: 503", Reason.SOURCE_UNREACHABLE, True),
    ],
)
def test_gits_complaints_are_understood(words: str, reason: Reason, transient: bool) -> None:
    assert classify(words) == (reason, transient)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("fatal: Authentication failed for 'https://x/y.git/'", "spec.source.git.credentialsSecretRef"),
        ("Host key verification failed.", "known_hosts"),
        ("server certificate verification failed. CAfile: none", "ca.crt"),
    ],
)
def test_what_would_help_comes_before_gits_words(words: str, remedy: str) -> None:
    assert remedy in explained(words, words).partition(words)[0]


def test_the_same_trouble_reads_the_same_however_long_it_took() -> None:
    one, other = (f"fatal: Failed to connect to x port 1 after {took} ms: Couldn't connect" for took in (0, 71))

    assert readable(one, ()) == readable(other, ()) == "fatal: Failed to connect to x port 1: Couldn't connect"


def test_git_is_quoted_without_secrets_and_control_characters() -> None:
    told = readable("remote: \x1b[31mno\x1b[0m\nfatal: https://robot:hunter2@x/y hunter2\n", ("hunter2",))

    assert told == "remote: [31mno [0m; fatal: https://x/y ***"
