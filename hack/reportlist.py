"""Print for every file of a folder what was parsed as a test report, or why it was refused."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from dawg_agent.reports import ReportError, parse_report

ROOT = Path(__file__).resolve().parents[1]
OWN_SAMPLES = ROOT / "tests" / "data" / "junit"
EXAMPLE = """example:
  hack/reports --data build/test-results
  hack/reports --data build/test-results --output json | jq '.[] | select(.refused)'
"""


@dataclass(frozen=True)
class Line:
    """What became of one file: counts, or the refusal."""

    file: str
    refused: str | None = None
    cases: int = 0
    passed: int = 0
    failed: int = 0
    flaky: int = 0
    skipped: int = 0


def read(path: Path, folder: Path) -> Line:
    """Parse one file."""
    file = str(path.relative_to(folder))
    try:
        counts = parse_report(path, file).counts
    except ReportError as error:
        return Line(file, refused=str(error))
    return Line(file, None, counts.total, counts.passed, counts.failed, counts.flaky, counts.skipped)


def show(lines: list[Line]) -> None:
    """Print a table for people."""
    width = max((len(line.file) for line in lines), default=4)
    print(f"{'FILE':<{width}}  CASES  PASSED  FAILED  FLAKY  SKIPPED")
    for line in lines:
        if line.refused:
            print(f"{line.file:<{width}}  refused: {line.refused}")
        else:
            counts = f"{line.cases:5}  {line.passed:6}  {line.failed:6}  {line.flaky:5}  {line.skipped:7}"
            print(f"{line.file:<{width}}  {counts}")
    refused = sum(1 for line in lines if line.refused)
    print(f"{len(lines)} files: {len(lines) - refused} parsed, {refused} refused")


def main(words: list[str]) -> int:
    """Return 0 when every file was parsed or refused, 64 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="hack/reports", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of *.xml files, searched to the bottom")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="how to print (default: table)")
    arguments = parser.parse_args(words)
    folder: Path = arguments.data or OWN_SAMPLES
    if arguments.data is None:
        print(f"no --data: falling back to the small set in {OWN_SAMPLES.relative_to(ROOT)}", file=sys.stderr)
    if not folder.is_dir():
        print(f"hack/reports: {folder} is not a folder; name one with --data DIR", file=sys.stderr)
        return 64
    lines = [read(path, folder) for path in sorted(folder.rglob("*.xml")) if path.is_file()]
    if arguments.output == "json":
        print(json.dumps([asdict(line) for line in lines], indent=2))
    else:
        show(lines)
    return 0
