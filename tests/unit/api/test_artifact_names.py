from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawg_orchestrator.api.answers import attachment
from dawg_orchestrator.errors import InvalidSpec
from dawg_orchestrator.store.artifacts import check_path


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\\..\\b", "a\x00b", "a\nb", "x" * 1025]
)
def test_a_path_that_could_leave_its_folder_is_refused(path: str) -> None:
    with pytest.raises(InvalidSpec):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "shots/login page.png", "..a/b..", "ünï/çödé.xml"])
def test_ordinary_paths_are_taken_as_they_are(path: str) -> None:
    assert check_path(path) == path


@given(st.text(min_size=1))
def test_no_name_breaks_out_of_its_header(name: str) -> None:
    try:
        header = attachment(check_path(name))
    except InvalidSpec:
        return

    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
