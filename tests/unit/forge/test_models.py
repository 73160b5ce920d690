"""What may be told to a forge."""

from __future__ import annotations

from typing import Any

import pytest

from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.forge.models import Check, CheckState, Standing


def check(**changed: Any) -> Check:
    whole = {"repository": "acme/shop", "commit": "a" * 40, "context": "dawg/checks", "state": CheckState.SUCCESS}
    return Check(**{**whole, **changed})


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("repository", "acme"), ("repository", "acme/"), ("repository", "-acme/shop"), ("repository", "a/../b"),
        ("repository", "acme/shop?x=1"), ("repository", "a/" * 30 + "b"),
        ("commit", "a" * 39), ("commit", "A" * 40), ("commit", "a" * 40 + "\n"), ("commit", "HEAD"),
        ("context", ""), ("context", " x"), ("context", "x" * 256), ("context", "a\nb"), ("context", "größe"),
        ("target_url", "javascript:alert(1)"), ("target_url", "https://u:p@host/"),
        ("target_url", "https://" + "x" * 255),
        ("target_url", "https://[::1"),
    ],
)  # fmt: skip
def test_a_check_that_no_forge_would_take_names_its_field(field: str, wrong: str):
    with pytest.raises(InvalidSpec) as fault:
        check(**{field: wrong})

    assert fault.value.field == field


@pytest.mark.parametrize("repository", ["acme/shop", "acme/.github", "group/sub/shop", "a/b.c-d_e"])
def test_names_of_repositories_are_taken(repository: str):
    assert check(repository=repository).repository == repository


def test_a_description_is_one_line_without_control_characters_and_cut_with_a_sign():
    told = check(description="one\r\n\x1b[31mtwo\u202e three \ud800" + "x" * 1000)

    assert told.description_within(20) == "one [31mtwo three x…"
    assert len(told.description_within(140)) == 140


def test_what_stands_is_compared_with_what_would_be_shown():
    told = check(description="long " * 100, target_url="https://dawg.example/")

    assert Standing(CheckState.SUCCESS, told.description_within(140), "https://dawg.example/").says(told, 140)
    assert not Standing(CheckState.FAILURE, told.description_within(140), "https://dawg.example/").says(told, 140)
    assert not Standing(CheckState.SUCCESS, "other", "https://dawg.example/").says(told, 140)
    assert not Standing(CheckState.SUCCESS, told.description_within(140), "").says(told, 140)
