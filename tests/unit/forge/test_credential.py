"""A forge Secret allows what it names, and nothing else; what is wrong in it is told by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.credential import ForgeCredential, parse_credential, read_credential
from dawg_orchestrator.forge.models import ForgeKind

TOKEN = "token-that-nobody-may-see"


def keys(**changed: str | None) -> dict[str, bytes]:
    """The keys of a Secret that is right; '_' stands for '-', None leaves one out."""
    whole: dict[str, str | None] = {
        "type": "github", "token": TOKEN, "repositories": "acme/*", "workflows": "checks", **changed,
    }  # fmt: skip
    return {name.replace("_", "-"): text.encode() for name, text in whole.items() if text is not None}


def credential(**changed: str | None) -> ForgeCredential:
    return parse_credential(keys(**changed))


def test_what_the_secret_names_is_allowed():
    assert credential().allows("acme/shop", "dawg/checks", "checks") is None


@pytest.mark.parametrize(
    ("repository", "context", "workflow", "named"),
    [
        ("other/shop", "dawg/checks", "checks", "repositories"),
        ("acme/shop", "ci/checks", "checks", "contexts"),
        ("acme/shop", "dawg/a/b", "checks", "contexts"),
        ("acme/shop", "dawg/checks", "other", "workflows"),
        ("acme/shop", "dawg/checks", "", "workflows"),
        ("acme/shop", "dawg/checks", "check*", "workflows"),
        ("acme", "dawg/checks", "checks", "repository"),
        ("acme/shop/more", "dawg/checks", "checks", "repository"),
        ("acme/../shop", "dawg/checks", "checks", "repository"),
        ("acme/..", "dawg/checks", "checks", "repository"),
        ("acme/shop\n", "dawg/checks", "checks", "repository"),
        ("acme/\u017fhop", "dawg/checks", "checks", "repository"),
        ("", "dawg/checks", "checks", "repository"),
        ("acme/shop", "dawg/checks\n", "checks", "context"),
        ("acme/shop", "", "checks", "context"),
    ],
)
def test_anything_else_is_refused_with_the_key_that_would_allow_it(
    repository: str, context: str, workflow: str, named: str
):
    refused = credential().allows(repository, context, workflow)

    assert refused is not None
    assert named in refused


def test_a_secret_that_names_no_workflow_lets_none_gate_but_serves_to_read():
    reader = credential(workflows=None)

    assert reader.allows("acme/shop", "dawg/checks", "checks") is not None
    assert reader.serves("acme/shop") is None
    assert reader.serves("other/shop") is not None


@pytest.mark.parametrize("context", ["dawg", "dawg/checks"])
def test_the_contexts_of_dawg_are_allowed_by_default(context: str):
    assert credential().allows("acme/shop", context, "checks") is None


@pytest.mark.parametrize(
    ("kind", "glob", "repository", "fits"),
    [
        ("github", "acme/*", "ACME/Shop", True),
        ("github", "acme/shop-*", "acme/shop-", True),
        ("github", "acme/shop-*", "acme/other", False),
        ("github", "*/shop", "anybody/shop", True),
        ("gitea", "Acme/Shop", "acme/shop", True),
        ("gitlab", "group/*", "group/shop", True),
        ("gitlab", "group/*", "group/sub/shop", False),
        ("gitlab", "group/*/*", "group/sub/shop", True),
        ("gitlab", "group/*", "group", False),
    ],
)
def test_a_star_stands_for_what_holds_no_slash_and_case_says_nothing(kind: str, glob: str, repository: str, fits: bool):
    found = credential(type=kind, url="https://git.example.org", repositories=glob).serves(repository)

    assert (found is None) == fits


@pytest.mark.parametrize(("kind", "fits"), [("github", True), ("gitlab", False), ("gitea", False)])
def test_the_case_of_a_context_says_nothing_on_github_only(kind: str, fits: bool):
    found = credential(type=kind, url="https://git.example.org").allows("acme/shop", "DAWG/checks", "checks")

    assert (found is None) == fits


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"type": None}, "type"),
        ({"type": "GitHub"}, "type"),
        ({"type": "gitea"}, "url"),
        ({"url": "http://git.example.org"}, "url"),
        ({"url": "git.example.org"}, "url"),
        ({"url": "https://user:secret@git.example.org"}, "url"),
        ({"url": "https://git.example.org/?a=b"}, "url"),
        ({"url": "https://git.example.org:99999"}, "url"),
        ({"token": None}, "token"),
        ({"token": "two words"}, "token"),
        ({"token": "größe"}, "token"),
        ({"repositories": None}, "repositories"),
        ({"repositories": "\n\n"}, "repositories"),
        ({"repositories": "*"}, "repositories"),
        ({"repositories": "acme/**"}, "repositories"),
        ({"repositories": "acme/[a-z]"}, "repositories"),
        ({"repositories": "acme/sub/shop"}, "repositories"),
        ({"repositories": "acme/a b"}, "repositories"),
        ({"repositories": "acme/shop\n" * 1001}, "repositories"),
        ({"contexts": "dawg/?"}, "contexts"),
        ({"workflows": "*"}, "workflows"),
        ({"workflows": "Checks"}, "workflows"),
        ({"allow_http": "yes"}, "allow-http"),
        ({"contexts": "x" * 70_000}, "contexts"),
    ],
)
def test_what_is_wrong_is_told_by_its_key_and_never_shows_a_token(changed: dict[str, str | None], key: str):
    with pytest.raises(InvalidSpec) as fault:
        credential(**changed)

    assert fault.value.field == key
    assert TOKEN not in str(fault.value)
    assert "secret@" not in str(fault.value)


def test_an_empty_list_of_contexts_allows_none():
    assert credential(contexts="").allows("acme/shop", "dawg/checks", "checks") is not None


def test_the_token_is_in_no_representation():
    whole = credential()

    assert TOKEN not in f"{whole!r} {whole} {whole.model_dump()} {whole.model_dump_json()}"


def test_a_mounted_secret_is_read_from_its_files(tmp_path: Path):
    for name, content in keys(contexts="one\n\n two/* \n", ca=None).items():
        (tmp_path / name).write_bytes(content + b"\n")
    (tmp_path / "allow-http").write_text("true")
    (tmp_path / "url").write_text("http://git.example.org/")

    read = read_credential(tmp_path)

    assert (read.kind, read.url) == (ForgeKind.GITHUB, "http://git.example.org/api/v3")
    assert (read.contexts, read.repositories, read.workflows) == (("one", "two/*"), ("acme/*",), ("checks",))
    assert read.token.get_secret_value() == TOKEN


def test_a_key_that_cannot_be_read_as_a_file_is_named(tmp_path: Path):
    (tmp_path / "type").mkdir()

    with pytest.raises(InvalidSpec) as fault:
        read_credential(tmp_path)

    assert fault.value.field == "type"
