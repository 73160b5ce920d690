"""A suite with what docs/impact.md shows runs recommended test files first, and all others in their order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docpages import ROOT

SNIPPET = re.compile(r"^```python\n(?P<code>.*?pytest_collection_modifyitems.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Three files of two tests each, in folders, and the documented conftest.py."""
    found = SNIPPET.search((ROOT / "docs" / "impact.md").read_text())
    assert found is not None
    (tmp_path / "tests" / "web").mkdir(parents=True)
    (tmp_path / "tests" / "conftest.py").write_text(found["code"])
    for name in ("test_a.py", "test_b.py", "web/test_c.py"):
        (tmp_path / "tests" / name).write_text("def test_one(): ...\n\n\ndef test_two(): ...\n")
    return tmp_path


@pytest.mark.parametrize(("recommended", "order", "arguments"), [
    (["tests/web/test_c.py", "gone.py", "tests/b c.py", "tests/test_b.py"], "ccbbaa", ["tests"]),
    (["tests/test_b.py", "test_c.py"], "bbaacc", []), (None, "aabbcc", []),
])  # fmt: skip
def test_recommended_files_run_first(
    suite: Path, recommended: list[str] | None, order: str, arguments: list[str]
) -> None:
    variables = {} if recommended is None else {"DAWG_PARAM_RECOMMENDED": json.dumps(recommended)}
    pytest_alone = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments]
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DAWG"))}

    ran = subprocess.run(
        pytest_alone, cwd=suite, capture_output=True, text=True, check=False,
        env={**surroundings, **variables, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip

    assert "".join(re.findall(r"test_([abc])\.py::test_\w+ PASSED", ran.stdout)) == order, ran.stdout + ran.stderr
