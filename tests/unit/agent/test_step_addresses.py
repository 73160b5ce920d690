"""No secret is told, however a message came to hold it."""

from __future__ import annotations

import logging

import pytest

from dawg_agent.settings import read_agent_settings
from dawg_agent.steps.addresses import Addresses, RedactedLogs
from dawg_agent.steps.faults import StepFailed
from dawg_orchestrator.resources.steps import SecretAddress
from unit.agent.test_words import AGENT

SECRETS = {
    "DB": "postgresql://shop:s3cr%2Fet@db.shop:5432/orders",
    "CHAT": "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts",
    "HOOK": "https://hooks.example.com/services/T00000/XXXXXXXX?key=abcdef123",
    "TOKEN": "https://ghp-token-123@api.example.com/",
}


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("cannot parse postgresql://shop:s3cr%2Fet@db.shop:5432/orders", "s3cr"),
        ("password 's3cr/et' is wrong for db.shop", "s3cr/et"),
        ("Not found: /services/T00000/XXXXXXXX", "XXXXXXXX"),
        ("with key=abcdef123", "abcdef123"),
        ("workspace T1JJ3T3L2 refused TIiajkdnlazkcOXrIdevi7FQ", "T1JJ3T3L2"),
        ("workspace T1JJ3T3L2 refused TIiajkdnlazkcOXrIdevi7FQ", "TIiajkdnlazkcOXrIdevi7FQ"),
        ("user ghp-token-123", "ghp-token-123"),
        ("redirected to https://somebody:else@elsewhere/", "else@"),
    ],
)
def test_a_secret_address_and_its_parts_are_not_told(said: str, hidden: str) -> None:
    assert hidden not in Addresses(SECRETS).redacted(said)


def test_the_host_of_a_secret_address_is_told_where_it_is_no_token() -> None:
    told = Addresses(SECRETS).redacted("db.shop:5432 and hooks.example.com do not answer")

    assert told == "db.shop:5432 and hooks.example.com do not answer"


def test_a_password_that_inputs_write_out_is_not_told_either() -> None:
    inputs = {"checks": [{"name": "db", "postgres": "postgresql://u:written@db/x"}]}

    assert "written" not in Addresses({}).beside(inputs).redacted("password 'written' is wrong")


def test_only_the_pools_own_secrets_can_be_named() -> None:
    addresses = Addresses({"HOOK": "https://hooks", "EMPTY": ""})

    assert addresses.of(SecretAddress(secret="HOOK")) == "https://hooks"
    assert addresses.of("https://plain") == "https://plain"
    for name in ("DAWG_API_URL", "PATH", "EMPTY"):
        with pytest.raises(StepFailed, match=name):
            addresses.of(SecretAddress(secret=name))


def test_an_agent_reads_only_the_variables_that_its_pod_lists() -> None:
    listed = {"DAWG_EXECUTOR": "Builtin", "DAWG_STEP_SECRETS": "HOOK,DB", "HOOK": "https://hooks\n", "OTHER": "x"}
    settings = read_agent_settings(AGENT | listed)

    assert settings.steps is not None
    assert settings.steps.addresses == {"HOOK": "https://hooks", "DB": ""}
    assert "https://hooks" not in repr(settings)
    assert read_agent_settings(AGENT).steps is None


def test_targets_are_called_by_what_is_no_secret() -> None:
    addresses = Addresses(SECRETS)

    assert addresses.label(SecretAddress(secret="HOOK")) == "HOOK"
    assert addresses.label("https://user:pass@hooks.example.com/a/b?c") == "https://hooks.example.com"
    assert addresses.label("slack://TokenA/TokenB") == "slack://…"


def test_what_libraries_log_is_written_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("some.library")
    logger.addHandler(handler := RedactedLogs(Addresses(SECRETS)))
    logger.propagate = False
    try:
        logger.warning("retrying %s", SECRETS["HOOK"])
    finally:
        logger.removeHandler(handler)
        logger.propagate = True

    assert capsys.readouterr().err == "some.library: retrying ***\n"
