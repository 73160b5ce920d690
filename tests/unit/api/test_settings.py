from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dawg_orchestrator.settings import ApiSettings

NEEDED = {"DAWG_NAMESPACES": "dawg, team", "DAWG_CONTROLLER_SERVICE_ACCOUNT": "dawg:dawg-controller"}


def test_history_is_a_file_in_the_data_folder_unless_a_database_is_named() -> None:
    settings = ApiSettings.from_environment(NEEDED | {"DAWG_DATA_DIR": "/data", "DAWG_RETENTION": "12h"})

    assert settings.database_url == "sqlite:////data/history.db"
    assert settings.data_dir == Path("/data")
    assert settings.namespaces == ("dawg", "team")
    assert settings.controller_service_account == ("dawg", "dawg-controller")
    assert settings.retention == timedelta(hours=12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAWG_NAMESPACES", ""),
        ("DAWG_CONTROLLER_SERVICE_ACCOUNT", "dawg-controller"),
        ("DAWG_RETENTION", "a month"),
        ("DAWG_PEOPLE_PORT", "http"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        ApiSettings.from_environment(NEEDED | {name: value})
