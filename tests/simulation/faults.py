"""What goes wrong in a history: a handful of kinds, drawn from its seed, so that each is met often and in company."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """A kind of fault; the sentence says what happens."""

    LEADER_KILLED = "the leading controller is killed"
    LEADER_FROZEN = "the leading controller stops for a while and goes on, not knowing that time has passed"
    LEADER_STOPPED = "the leading controller is told to stop, as a rolling upgrade does"
    AGENT_KILLED = "an agent's pod is killed with all that runs in it"
    AGENT_RESTARTED = "an agent's process starts anew in its pod"
    AGENT_FROZEN = "an agent stops for longer than its leases last, and goes on"
    AGENT_PARTED = "an agent and the controllers do not reach each other for a while"
    SESSION_CUT = "the connection between an agent and the leader breaks"
    CALL_REFUSED = "the API answers 500 or 429 and has done nothing"
    ANSWER_LOST = "the API does what it is asked, but the answer is lost"
    CALL_LATE = "a request reaches the API seconds later, perhaps after its sender has gone"
    CALL_TWICE = "a request reaches the API again, seconds after the first time"
    API_DOWN = "the API does not answer anybody for a while"
    WATCH_SILENT = "a watch brings nothing for a while; what it missed is listed, but not what was deleted"
    WATCH_LATE = "a watch lags behind, so that things are heard of in another order"
    MESSAGE_TWICE = "an agent says again what it has said"
    TEST_EVICTED = "the kubelet evicts a test's pod"
    JOB_DELETED = "somebody deletes a Job"
    CLOCK_WRONG = "the clocks of the controllers differ by up to an hour"


_AT_LEAST, _AT_MOST = 2, 6  # kinds in one history: more of them only hide each other


@dataclass
class Faults:
    """The faults of one history. ``happened`` counts what really did."""

    chance: random.Random
    kinds: frozenset[Fault] = frozenset()
    active: bool = True
    happened: Counter[Fault] = field(default_factory=Counter)

    @classmethod
    def drawn(cls, chance: random.Random) -> Faults:
        """Two to six kinds."""
        return cls(chance, frozenset(chance.sample(list(Fault), chance.randint(_AT_LEAST, _AT_MOST))))

    def strikes(self, kind: Fault, probability: float) -> bool:
        """Whether this kind happens now; it is counted if so."""
        if not self.active or kind not in self.kinds or self.chance.random() >= probability:
            return False
        self.happened[kind] += 1
        return True
