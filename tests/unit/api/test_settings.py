from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dawg_orchestrator.settings import ApiSettings, S3Settings

NEEDED = {"DAWG_NAMESPACES": "dawg, team", "DAWG_CONTROLLER_SERVICE_ACCOUNT": "dawg:dawg-controller"}
BUCKET = {
    "DAWG_FILES_URL": "s3://team.files/dawg/a/", "AWS_ACCESS_KEY_ID": "hidden-id", "AWS_SECRET_ACCESS_KEY": "hidden",
}  # fmt: skip


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
        ("DAWG_WEBHOOKS", "on"),
        ("DAWG_WEBHOOKS_PORT", "http"),
        ("DAWG_STEP_STATE_RETENTION", "a season"),
        ("DAWG_FILES_URL", "https://bucket.s3.example.com"),
        ("DAWG_FILES_URL", "s3://key:hidden@bucket"),
        ("DAWG_S3_ENDPOINT", "s3.example.com"),
        ("DAWG_S3_ENDPOINT", "https://key:hidden@s3.example.com"),
        ("DAWG_S3_PATH_STYLE", "perhaps"),
        ("DAWG_S3_CA_BUNDLE", "/etc/ssl/ca.pem"),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", " "),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name) as refusal:
        ApiSettings.from_environment(NEEDED | BUCKET | {name: value})

    assert "hidden" not in str(refusal.value)


def test_there_is_no_door_for_webhooks_unless_somebody_wants_one() -> None:
    assert not ApiSettings.from_environment(NEEDED).webhooks
    assert ApiSettings.from_environment(NEEDED | {"DAWG_WEBHOOKS": "true"}).webhooks


def test_files_are_in_the_data_folder_unless_a_bucket_is_named() -> None:
    assert ApiSettings.from_environment(NEEDED | {"AWS_ACCESS_KEY_ID": "of something else"}).s3 is None


def test_a_bucket_is_amazons_unless_an_endpoint_is_named() -> None:
    s3 = S3Settings.from_environment(BUCKET)

    assert s3 is not None
    assert (s3.bucket, s3.prefix, s3.region, s3.endpoint) == ("team.files", "dawg/a", "us-east-1", None)
    assert not s3.path_style
    assert "hidden" not in repr(ApiSettings.from_environment(NEEDED | BUCKET))


@pytest.mark.parametrize(
    ("style", "requests_go_to"),
    [("", "https://s3.local:9000"), ("true", "https://s3.local:9000"), ("false", "https://team.files.s3.local:9000")],
)
def test_other_services_have_the_bucket_in_the_path_unless_told_otherwise(style: str, requests_go_to: str) -> None:
    chosen = {"DAWG_S3_ENDPOINT": "https://s3.local:9000/", "DAWG_S3_PATH_STYLE": style, "DAWG_S3_REGION": "eu"}
    s3 = S3Settings.from_environment(BUCKET | chosen)

    assert s3 is not None
    assert (s3.bucket_endpoint, s3.region) == (requests_go_to, "eu")
