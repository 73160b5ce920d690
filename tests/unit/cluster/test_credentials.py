"""Who we are to the apiserver."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import yaml

from dawg_orchestrator.cluster.credentials import Credentials, find_credentials, from_kubeconfig
from dawg_orchestrator.errors import Unavailable


def a_kubeconfig(folder: Path, **changes: object) -> Path:
    """A file with one context that has a token."""
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://example.org:6443/", "insecure-skip-tls-verify": True}}
        ],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        **changes,
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return path


def test_the_current_context_says_where_and_who(tmp_path: Path) -> None:
    found = from_kubeconfig(a_kubeconfig(tmp_path))

    assert (found.server, found.namespace) == ("https://example.org:6443", "team")
    assert found.headers() == {"Authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"current-context": "there"}, "no current context"),
        ({"users": []}, "no user named u"),
        ({"clusters": None}, "no cluster"),
    ],
)
def test_a_kubeconfig_that_lacks_something_says_what(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        from_kubeconfig(a_kubeconfig(tmp_path, **change))


def test_the_environment_goes_before_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{a_kubeconfig(tmp_path)}:/elsewhere")

    assert find_credentials().namespace == "team"


def test_no_cluster_at_all_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(Unavailable, match="neither KUBECONFIG"):
        find_credentials()


def test_a_renewed_token_is_read_anew_but_not_for_every_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    file = tmp_path / "token"
    file.write_text("one\n")
    credentials = Credentials("https://example.org", ssl.create_default_context(), token_file=file)
    assert credentials.headers() == {"Authorization": "Bearer one"}

    file.write_text("two\n")
    clock[0] = 59
    assert credentials.headers() == {"Authorization": "Bearer one"}
    clock[0] = 60
    assert credentials.headers() == {"Authorization": "Bearer two"}
