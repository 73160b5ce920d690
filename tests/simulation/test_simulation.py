"""Half a minute of histories, and proof that their checks would notice."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from simulation.faults import Fault
from simulation.many import Summary, many
from simulation.planted import PLANTED
from simulation.world import live

CHAOS = Path(__file__).parents[2] / "hack" / "chaos"
SECONDS = 25.0
ENOUGH = 400  # histories in which every planted fault shows
SOON_FOUND = ("accept-before-writing", "accept-at-once", "forget-verdicts", "no-version-test")


@pytest.fixture(scope="module")
def lived() -> Summary:
    """Histories from the first seed on, as many as the time allows."""
    return many(range(1_000_000), seconds=SECONDS)


def test_no_history_breaks_a_promise(lived: Summary) -> None:
    assert not lived.broken, f"hack/chaos --simulate --seed {lived.broken[0].seed} shows it: {lived.broken[0].broken}"


def test_every_history_is_long_and_every_kind_of_fault_is_met_often(lived: Summary) -> None:
    assert lived.histories >= 25
    assert lived.fewest_events is not None
    assert lived.fewest_events >= 100
    rare = {fault.name: lived.met[fault] for fault in Fault if lived.met[fault] < 0.05 * lived.histories}
    assert not rare


def test_a_seed_always_gives_the_same_history() -> None:
    """One whose agents come in the order of a set, so that each process might tell it otherwise."""
    tellings: list[list[str]] = [[], []]
    outcomes = [live(21, telling.append) for telling in tellings]
    elsewhere = subprocess.run([CHAOS, "--seed", "21"], capture_output=True, text=True, check=True).stdout

    assert outcomes[0] == outcomes[1]
    assert tellings[0] == tellings[1]
    assert elsewhere.splitlines()[:-1] == tellings[0]


@pytest.mark.parametrize("fault", SOON_FOUND)
def test_a_planted_fault_is_found(fault: str) -> None:
    """Those that take longer are planted by hand: `hack/chaos --simulate 5000 --plant NAME`."""
    assert fault in PLANTED
    assert many(range(ENOUGH), fault=fault).broken
