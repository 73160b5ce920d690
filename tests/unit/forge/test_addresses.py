"""Addresses: where an API is, and which two lead to one repository."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.forge.addresses import api_base, same_repository
from dawg_orchestrator.forge.models import ForgeKind

HTTPS = "https://git.example.org/acme/shop.git"


@pytest.mark.parametrize(
    "other",
    [
        "https://git.example.org/acme/shop",
        "https://git.example.org/acme/shop/",
        "https://GIT.example.ORG/acme/shop.git",
        "https://git.example.org:443/acme/shop.git",
        "https://user:word@git.example.org/acme/shop.git",
        "HTTPS://git.example.org/acme/shop.git",
        "http://git.example.org/acme/shop.git",
        "git@git.example.org:acme/shop.git",
        "git@git.example.org:/acme/shop",
        "git.example.org:acme/shop",
        "ssh://git@git.example.org/acme/shop.git",
        "ssh://git@git.example.org:2222/acme/shop.git",
        "git+ssh://git@git.example.org/acme/shop.git",
        "https://git.example.org/acme/%73hop.git",
    ],
)
def test_each_way_to_a_repository_is_the_same(other: str):
    assert same_repository(HTTPS, other)
    assert same_repository(other, HTTPS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (HTTPS, "https://git.example.com/acme/shop.git"),
        (HTTPS, "https://git.example.org/acme/shopping.git"),
        (HTTPS, "https://git.example.org/Acme/shop.git"),
        (HTTPS, "https://git.example.org/more/acme/shop.git"),
        (HTTPS, "https://git.example.org:8443/acme/shop.git"),
        ("ssh://git.example.org:22/a/b", "ssh://git.example.org:2222/a/b"),
        ("git@git.example.org:a/b", "ssh://git@git.example.org:2222/a/b"),
        (HTTPS, "https://git.example.org@evil.example/acme/shop.git"),
        (HTTPS, "https://evil.example/git.example.org/acme/shop.git"),
        (HTTPS, "https://git.example.org/acme/../acme/shop.git"),
        (HTTPS, "https://git.example.org/acme//shop.git"),
        ("/srv/shop.git", "/srv/shop.git"),
        ("file:///srv/shop.git", "file:///srv/shop.git"),
        ("", ""),
        (HTTPS, "https://[::1/acme/shop.git"),
        (HTTPS, f"{HTTPS}?a=b"),
    ],
)
def test_others_are_not(one: str, other: str):
    assert not same_repository(one, other)
    assert not same_repository(other, one)


def test_the_case_of_a_path_says_nothing_where_a_forge_ignores_it():
    assert same_repository(HTTPS, "git@git.example.org:Acme/Shop.git", ignore_case=True)


@given(st.text(max_size=60), st.sampled_from(["", "https://", "ssh://", "git@host:"]))
def test_whatever_an_address_is_it_is_answered(text: str, start: str):
    assert isinstance(same_repository(start + text, HTTPS), bool)


@pytest.mark.parametrize(
    ("kind", "url", "base"),
    [
        (ForgeKind.GITHUB, "", "https://api.github.com"),
        (ForgeKind.GITHUB, "https://github.com", "https://api.github.com"),
        (ForgeKind.GITHUB, "https://api.acme.ghe.com/", "https://api.acme.ghe.com"),
        (ForgeKind.GITHUB, "https://git.acme.org", "https://git.acme.org/api/v3"),
        (ForgeKind.GITHUB, "https://git.acme.org/api/v3/", "https://git.acme.org/api/v3"),
        (ForgeKind.GITLAB, "", "https://gitlab.com/api/v4"),
        (ForgeKind.GITLAB, "https://acme.org/gitlab", "https://acme.org/gitlab/api/v4"),
        (ForgeKind.GITEA, "https://git.acme.org:3000", "https://git.acme.org:3000/api/v1"),
        (ForgeKind.GITEA, "http://localhost:3000", "http://localhost:3000/api/v1"),
        (ForgeKind.GITEA, "http://[::1]:3000", "http://[::1]:3000/api/v1"),
    ],
)
def test_the_api_is_found_from_what_people_write(kind: ForgeKind, url: str, base: str):
    assert str(api_base(kind, url)).rstrip("/") == base
