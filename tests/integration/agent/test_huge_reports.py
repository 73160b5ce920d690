"""Reports far larger than what anybody reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CASES, OUTPUT = 10_000, b"one line of a very talkative test\n" * 300
SOURCE_ROOTS = [str(Path(__file__).parents[3] / name) for name in ("operator", "agent-image")]
MEASURE = """
import json, resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from dawg_agent.reports import parse_report
counts = parse_report(Path(sys.argv[1])).counts
cpu = resource.getrusage(resource.RUSAGE_SELF).ru_utime
# Not ru_maxrss: that begins with what the process was forked from, here the whole of pytest.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps({"total": counts.total, "failed": counts.failed, "cpu": cpu, "mib": peak / 1024}))
"""


def test_ten_thousand_cases_in_a_hundred_megabytes_stay_small_and_quick(tmp_path: Path) -> None:
    report = tmp_path / "huge.xml"
    with report.open("wb") as stream:
        stream.write(b'<testsuite name="huge">')
        for number in range(CASES):
            body = b"<failure message='no'>trace</failure>" if number % 100 == 0 else b""
            stream.write(b'<testcase classname="c" name="t%d" time="0.1">%s<system-out>' % (number, body))
            stream.write(OUTPUT + b"</system-out></testcase>")
        stream.write(b"</testsuite>")
    assert report.stat().st_size > 100_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, report, *SOURCE_ROOTS], check=True, capture_output=True, text=True
    )
    measured = json.loads(done.stdout)

    assert (measured["total"], measured["failed"]) == (CASES, 100)
    assert measured["mib"] < 128
    assert measured["cpu"] < 20
