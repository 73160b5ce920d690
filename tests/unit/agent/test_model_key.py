"""A language model's key is the one variable that the definition of pools knows, and never used beside a forge's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import a_pool
from dawg_agent.settings import StepSettings, read_agent_settings
from dawg_agent.step import model_of
from dawg_orchestrator.cluster.agents import agents_template
from dawg_orchestrator.cluster.pods import Surroundings

AROUND = Surroundings("agent:1", "IfNotPresent", "python:3", "https://api:8444", "controller:8443")
KEY = {"name": "model", "key": "key", "env": "OPENAI_API_KEY"}


def settings_in(pool: dict[str, Any], forge_secrets: Path) -> StepSettings:
    """What an agent of the pool reads in its pod; of two variables of a name Kubernetes gives it the last."""
    (container,) = agents_template("builtin", a_pool(executor="Builtin", **pool), AROUND)["containers"]
    environ = {}
    for entry in container["env"]:
        secret = (entry.get("valueFrom") or {}).get("secretKeyRef")
        environ[entry["name"]] = entry.get("value") or (f"{secret['name']}/{secret['key']}" if secret else "a-field")
    assert not container.get("envFrom")
    steps = read_agent_settings(environ).steps
    assert steps is not None
    return replace(steps, forge_secrets_dir=forge_secrets)


def test_the_key_of_a_model_is_what_the_pools_secret_holds(tmp_path: Path) -> None:
    model = model_of(settings_in({"builtin": {"secrets": [KEY]}}, tmp_path))

    assert model is not None
    assert model.key == "model/key"


@pytest.mark.parametrize(
    "pool",
    [
        {"builtin": {"secrets": [{**KEY, "env": "MODEL_KEY"}]}},
        {"builtin": {"secrets": [{**KEY, "env": "openai_api_key"}]}},
        {"builtin": {"secrets": [{**KEY, "env": "MODEL_KEY"}]},
         "template": {"env": [{"name": "OPENAI_API_KEY", "value": "plain"}]}},
        {"template": {"env": [{"name": "OPENAI_API_KEY", "value": "plain"},
                              {"name": "DAWG_STEP_SECRETS", "value": "OPENAI_API_KEY"}]}},
        {"builtin": {"secrets": [{**KEY, "env": "MODEL_KEY"}]},
         "template": {"env": [{"name": "OPENAI_API_KEY", "value": "$(MODEL_KEY)"}]}},
    ],
)  # fmt: skip
def test_under_any_other_name_or_from_elsewhere_it_is_no_key(pool: dict[str, Any], tmp_path: Path) -> None:
    assert model_of(settings_in(pool, tmp_path)) is None


def test_beside_a_forges_secrets_no_model_is_asked_even_in_a_pool_that_is_older_than_the_rule(tmp_path: Path) -> None:
    pool = {"builtin": {"secrets": [KEY], "forgeSecrets": [{"name": "forge"}]}}
    (tmp_path / "forge").mkdir()

    assert model_of(settings_in(pool, tmp_path)) is None
