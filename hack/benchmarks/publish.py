"""What was measured, into pages of docs/: tables between two marks, and the plots beside the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.figures import Figure, Part
from benchmarks.tables import markdown
from localcluster import paths

PAGE = paths.REPOSITORY / "docs" / "performance.md"
ANOMALIES = paths.REPOSITORY / "docs" / "anomalies.md"
RISK = paths.REPOSITORY / "docs" / "risk.md"
PLOTS = paths.REPOSITORY / "docs" / "performance"
BEGIN = "<!-- written by hack/bench --publish; do not edit below -->\n"
END = "<!-- end of what hack/bench --publish writes -->\n"


def publish(result: dict[str, Any]) -> None:
    """Write the middle of each page whose parts were measured, and the plots that it shows."""
    if times := {name: part for name, part in result.items() if name not in {"anomalies", "risk"}}:
        PLOTS.mkdir(exist_ok=True)
        shown = []
        for name, (alternative, svg) in drawn(times).items():
            (PLOTS / name).write_text(svg)
            shown.append(f"![{alternative}](performance/{name})")
        _fill(PAGE, [measured(times), *shown])
    part = result.get("anomalies")
    if part and "held out" in part["details"]["detectors"]["model"]:  # those of generated series are nobody's proof
        _fill(ANOMALIES, [*(markdown(table) for table in part["details"]["tables"]), _source(part)])
    part = result.get("risk")
    if part and "generated" not in part["details"]["projects"]:
        _fill(RISK, [*(markdown(table) for table in part["details"]["tables"]), _source(part)])


def _fill(page: Path, blocks: list[str]) -> None:
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise RuntimeError(f"docs/{page.name} lacks the lines {BEGIN.strip()!r} and {END.strip()!r}")
    page.write_text(before + begin + "\n" + "\n\n".join(blocks) + "\n\n" + end + after)


def measured(result: dict[str, Any]) -> str:
    """A table for all parts that are compared with the same, and where the figures come from."""
    tables: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for part in result.values():
        headings = tuple(part.get("headings") or Part([]).headings())  # former measurements lack them
        tables.setdefault(headings, []).extend(Figure(**figure).cells() for figure in part["figures"])
    shown = [markdown([headings, *rows]) for headings, rows in tables.items()]
    sources = dict.fromkeys(_source(part) for part in result.values())
    return "\n\n".join([*shown, "Times are p50 / p95 / p99.", "\n".join(sources)])


def _source(part: dict[str, Any]) -> str:
    kubernetes = f", Kubernetes {part['kubernetes']}" if "kubernetes" in part else ""
    return (
        f"- `{part['command']}` of version {part['version']} on {part['at']}: {part['machine']},"
        f" Linux {part['kernel']}{kubernetes}"
    )


def drawn(result: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """By file name: what it shows, and the SVG."""
    found = {}
    if "start" in result:
        samples = result["start"]["samples"]
        for name, title, key, theirs in (
            ("start.svg", "From a created run to the first instruction of its test", "start_ms", "bare_start_ms"),
            ("verdict.svg", "From a created run to its verdict, seen by a watch", "verdict_ms", "bare_complete_ms"),
        ):
            arms = {"warm": samples[f"warm_{key}"], "bare Job": samples[theirs], "floor": samples[f"floor_{key}"]}
            found[name] = title, plots.spread(title, arms)
    if "crowd" in result:
        samples, title = result["crowd"]["samples"], "The controller's memory"
        points = list(zip(samples["crowd_runs"], samples["crowd_rss_mib"], strict=True))
        found["memory.svg"] = title, plots.growth(title, "RSS of the controller", "live runs", "MiB", points)
    return found
