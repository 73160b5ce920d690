"""What agents and the controller say to each other, and what sidecars are told.

One WebSocket an agent, JSON text frames, each a message with a ``kind``. The agent opens with Hello, the controller
answers Welcome or NotLeader (and closes). Then, in any order:

    agent → controller     Progress, Report, Drained, Alive (every few seconds), Sighting, Published
    controller → agent     Grant, Cancel, Acceptance, Drain, Duties, Publish

An attempt is named by what it is (run uid, index in the frozen expansion, attempt), a hold on it by its lease.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from dawg_orchestrator.resources.agentpool import MAX_SLOTS
from dawg_orchestrator.resources.model import Duration, Model, Time
from dawg_orchestrator.resources.pulls import PullsAsked, PullsSeen
from dawg_orchestrator.resources.reasons import Reason
from dawg_orchestrator.resources.results import TaskResult
from dawg_orchestrator.resources.task import Glob, Results
from dawg_orchestrator.resources.testrun import FULL_COMMIT_PATTERN, ExitCode, GitSource
from dawg_orchestrator.resources.workflow import RiskRule

SESSION_PATH = "/v1/agent"
ALIVE_SECONDS = 3.0  # an agent says Alive this often
SILENCE_SECONDS = 15.0  # after this long without a word a serving leader ends the agent's leases
PUBLISH_SECONDS = 10.0  # an agent tries for so long to have a forge show something
KEEP_RESULTS_SECONDS = 600.0  # an agent keeps results this long while no leader answers
MAX_BRANCHES = 500  # of one repository, that a watch follows
MAX_BRANCH_NAME = 256
MAX_WATCH_GLOBS = 256
MAX_CHANGED_FILES = 500  # that are named; beyond that nobody knows what has changed
MAX_COUNTED = 1000  # commits; so many may be more
MAX_SINCE = 200  # questions for commits of one repository
MAX_AUTHORS = 20

Slots = Annotated[int, Field(ge=0, le=MAX_SLOTS)]


class LeaseId(Model):
    """A hold on an attempt; ordered, so that agents refuse what an earlier term says."""

    term: int = Field(ge=1)
    number: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.term}.{self.number}"


class AttemptRef(Model):
    """One attempt of one task of one run."""

    namespace: str
    run: str
    run_uid: str
    index: int  # position in the frozen expansion
    attempt: int  # from 1


class InputFile(Model):
    """A path below the working directory that an earlier task of the run left."""

    index: int
    path: str


class SidecarOrder(Model):
    """What the sidecar of a Job's pod is to do; it gets this as JSON in DAWG_ORDER.

    The shared volume is mounted at DAWG_DIR (/dawg) in both containers:
    ``workspace/`` the tree and working directory, ``results/`` $DAWG_RESULTS, ``outputs/`` $DAWG_OUTPUTS, ``home/``,
    ``control/ready`` written by the sidecar when the tree and inputs are there, ``control/failed`` when they cannot be,
    ``control/exit`` (exit code) written by the entry script when the test has ended.
    """

    attempt: AttemptRef
    key: str
    api_url: str
    git: GitSource | None = None
    commit: str | None = None  # set: check out exactly this; else resolve git.revision
    patch: str | None = None  # set: put this patch, named as in source.patchRef, on top of the commit
    credentials: bool = False  # the git Secret is mounted at /dawg-git
    results: Results = Results()
    outputs: list[str] = Field(default_factory=list)
    hand_on: list[str] = Field(default_factory=list)  # paths that later tasks need
    inputs: list[InputFile] = Field(default_factory=list)
    hold: Duration | None = None


class JobOrder(Model):
    """Supervise this Job, which the controller has created. Its only pod carries the labels of names.py."""

    job: str
    job_uid: str
    container: str = "test"
    sidecar: str | None = None  # name of the container that collects; None: nothing to check out or to collect
    held: bool = False  # on failure the pod is kept: take the sidecar's word for the end


class ProcessOrder(Model):
    """Run this in one of your own slots. Paths are those inside the runner's container."""

    argv: list[str]
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None  # None: where the pool's image says
    preloaded: bool = False  # a fork of what the slot has imported will do
    sidecar: SidecarOrder  # what to check out, fetch and collect, as beside a Job's test
    git_secret: str | None = None  # the name of the Secret that sidecar.git needs


class EndedTask(Model):
    """What a step may know of a task that ended before it."""

    verdict: str
    reason: str = ""
    message: str = ""


class StepOrder(Model):
    """Carry out this built-in step. ``inputs`` are those of resources/steps.py, every expression worked out."""

    uses: str
    inputs: dict[str, Any] = Field(default_factory=dict)
    workflow: str | None = None
    tasks: dict[str, EndedTask] = Field(default_factory=dict)  # that have ended, by name; at most 256
    git: GitSource | None = None  # the run's source, of steps that look at it
    commit: str | None = None  # what git.revision names, where that is known
    risk: list[RiskRule] = Field(default_factory=list)  # of the Workflow, for steps that look at the source


class Held(Model):
    """A lease that an agent still works on."""

    lease: LeaseId
    attempt: AttemptRef
    job: JobOrder | None = None
    started_at: Time | None = None


class Finished(Model):
    """A result that was not yet accepted."""

    lease: LeaseId
    attempt: AttemptRef
    result: TaskResult


class Hello(Model):
    """First word of a session. Who speaks is read from the token, not from here."""

    kind: Literal["hello"] = "hello"
    pool: str
    version: str
    slots: Slots
    draining: bool = False
    holding: list[Held] = Field(default_factory=list)
    finished: list[Finished] = Field(default_factory=list)


class Progress(Model):
    """News of a running attempt: why it waits, when its test began, which commit it found."""

    kind: Literal["progress"] = "progress"
    lease: LeaseId
    attempt: AttemptRef
    reason: Reason
    message: str = ""
    started_at: Time | None = None
    commit: str | None = None
    exit_code: ExitCode | None = None


class Report(Model):
    """An attempt has ended."""

    kind: Literal["report"] = "report"
    lease: LeaseId
    attempt: AttemptRef
    result: TaskResult


class Alive(Model):
    """Still here, with so many slots that work (None: as said before), and working under these leases (None: not said).

    What the controller does not know of is revoked: a cancellation may have been lost with the run it was for.
    """

    kind: Literal["alive"] = "alive"
    slots: Slots | None = None
    holding: list[LeaseId] | None = None


class Drained(Model):
    """Asked to drain, and holds nothing more."""

    kind: Literal["drained"] = "drained"


class Welcome(Model):
    """The session stands; what was held under older terms may be reported, what is revoked must be forgotten."""

    kind: Literal["welcome"] = "welcome"
    term: int
    revoked: list[LeaseId] = Field(default_factory=list)


class NotLeader(Model):
    """Try another address."""

    kind: Literal["notLeader"] = "notLeader"


class Grant(Model):
    """Work on this attempt."""

    kind: Literal["grant"] = "grant"
    lease: LeaseId
    attempt: AttemptRef
    key: str  # task with cell and shard as people read it
    job: JobOrder | None = None  # exactly one of job, process and step
    process: ProcessOrder | None = None
    step: StepOrder | None = None


class Cancel(Model):
    """Stop working on it. ``revoked``: forget it, no report is wanted; else report how it ended."""

    kind: Literal["cancel"] = "cancel"
    lease: LeaseId
    reason: Reason
    revoked: bool = False


class Acceptance(Model):
    """What became of a report: accepted and refused free the slot, later asks for patience."""

    kind: Literal["acceptance"] = "acceptance"
    lease: LeaseId
    outcome: Literal["accepted", "refused", "later"]
    reason: str = ""


class Drain(Model):
    """Take no more work, become unready, finish what is held; ``undo`` takes it back."""

    kind: Literal["drain"] = "drain"
    undo: bool = False


class Since(Model):
    """Count the commits that a branch has (``HEAD``: the default one) since ``commit``; without it, say where it is."""

    revision: str = Field(max_length=MAX_BRANCH_NAME)
    commit: str | None = Field(default=None, pattern=FULL_COMMIT_PATTERN)


class Watch(Model):
    """Look at a repository's branches now and then, or at its pull requests, and say what is new."""

    id: str = Field(max_length=64)
    url: str
    git_secret: str | None = None
    branches: list[Glob] = Field(max_length=MAX_WATCH_GLOBS)
    every: Duration
    known: dict[str, str] = Field(default_factory=dict)  # branch → commit that needs no telling again
    pulls: PullsAsked | None = None  # look at these instead; known is then by number where each stood
    since: list[Since] = Field(default_factory=list, max_length=MAX_SINCE)


class Duties(Model):
    """All that an agent of a Builtin pool looks after beside its leases; what was said before is void."""

    kind: Literal["duties"] = "duties"
    watches: list[Watch] = Field(default_factory=list)


class Change(Model):
    """What came with a branch's new commit. Without ``files`` nobody knows what has changed."""

    branch: str = Field(max_length=MAX_BRANCH_NAME)
    commit: str = Field(pattern=FULL_COMMIT_PATTERN)
    before: str | None = Field(default=None, pattern=FULL_COMMIT_PATTERN)
    parents: list[Annotated[str, Field(pattern=FULL_COMMIT_PATTERN)]] = Field(default_factory=list, max_length=64)
    author: str = Field(default="", max_length=256)
    message: str = Field(default="", max_length=1024)
    files: list[Annotated[str, Field(max_length=4096)]] | None = Field(default=None, max_length=MAX_CHANGED_FILES)


class Untested(Model):
    """Where a branch is (``head``; none: there is no such branch), and what it has that ``since`` has not.

    ``rewritten``: the branch no longer contains ``since``. Without ``files`` nobody can say which have changed.
    """

    revision: str = Field(max_length=MAX_BRANCH_NAME)
    since: str | None = Field(default=None, pattern=FULL_COMMIT_PATTERN)
    head: str | None = Field(default=None, pattern=FULL_COMMIT_PATTERN)
    commits: int = Field(default=0, ge=0, le=MAX_COUNTED)  # MAX_COUNTED: so many or more
    rewritten: bool = False
    files: list[Annotated[str, Field(max_length=4096)]] | None = Field(default=None, max_length=MAX_CHANGED_FILES)
    authors: list[Annotated[str, Field(max_length=256)]] = Field(default_factory=list, max_length=MAX_AUTHORS)
    parents: list[Annotated[str, Field(pattern=FULL_COMMIT_PATTERN)]] = Field(default_factory=list, max_length=64)
    author: str = Field(default="", max_length=256)  # of head, as is the message
    message: str = Field(default="", max_length=1024)


class Sighting(Model):
    """What a look at a repository found: the branches that were asked for, or why there are none."""

    kind: Literal["sighting"] = "sighting"
    watch: str = Field(max_length=64)
    branches: dict[
        Annotated[str, Field(max_length=MAX_BRANCH_NAME)], Annotated[str, Field(pattern=FULL_COMMIT_PATTERN)]
    ] = Field(default_factory=dict, max_length=MAX_BRANCHES)
    left_out: int = Field(default=0, ge=0)  # branches beyond the most that are followed
    changes: list[Change] = Field(default_factory=list, max_length=MAX_BRANCHES)
    pulls: PullsSeen | None = None
    untested: list[Untested] = Field(default_factory=list, max_length=MAX_SINCE)
    reason: Reason | None = None
    message: str = Field(default="", max_length=1024)


class Publish(Model):
    """Have a forge show this for a commit: try once, for at most PUBLISH_SECONDS, and answer.

    What is said under an older serial about the same place is void.
    """

    kind: Literal["publish"] = "publish"
    serial: LeaseId
    repository: str
    context: str
    commit: str
    workflow: str  # whose run it is: a forge Secret says which may gate
    url: str  # of the repository that was tested: its forge is the one
    state: Literal["pending", "success", "failure"]
    description: str
    run: str
    link: str = ""  # where people look at the run


class Published(Model):
    """The forge shows it, as reading it back has confirmed; or why it does not."""

    kind: Literal["published"] = "published"
    serial: LeaseId
    url: str | None = Field(default=None, max_length=2048)
    reason: Reason | None = None
    message: str = Field(default="", max_length=1024)


FromAgent = Annotated[Hello | Progress | Report | Alive | Drained | Sighting | Published, Field(discriminator="kind")]
FromController = Annotated[
    Welcome | NotLeader | Grant | Cancel | Acceptance | Drain | Duties | Publish, Field(discriminator="kind")
]

FROM_AGENT: TypeAdapter[FromAgent] = TypeAdapter(FromAgent)
FROM_CONTROLLER: TypeAdapter[FromController] = TypeAdapter(FromController)


class StepState(Model):
    """What a step keeps between runs, under a key in its namespace; version 0 means that there is nothing yet.

    ``GET /v1/steps/state?key=…`` gives it, ``PUT`` of the next value with the version that was read writes it: 409 when
    somebody else has written meanwhile.
    """

    version: int = Field(default=0, ge=0)
    value: dict[str, Any] | None = None


class DashboardEntry(Model):
    """What an update-dashboard step shows. ``PUT /v1/steps/entries/{run uid}/{index}``: the same step has one entry."""

    title: str = Field(min_length=1, max_length=256)
    level: Literal["Info", "Warning", "Critical"] = "Info"
    text: str = Field(default="", max_length=4096)
    link: str = Field(default="", max_length=2048)
    run: str = Field(max_length=253)
    workflow: str | None = Field(default=None, max_length=253)
    task: str = Field(max_length=256)
    created_at: Time


class TestsQuestion(Model):
    """What did these test files of a repository do lately? ``POST /v1/steps/tests``; none: those that fail most."""

    __test__ = False

    repository: str = Field(min_length=1, max_length=2048)  # its address, however it is written
    tests: list[Annotated[str, Field(max_length=4096)]] = Field(default_factory=list, max_length=200)


class TestRecord(Model):
    """What a file of tests (or a class, where reports name no files) did in the newest runs that had a verdict.

    Each run counts once, and flaky is no failure. ``workflows``: in which it ran, as (runs, failures).
    """

    __test__ = False

    place: str
    runs: int
    failures: int
    seconds: float  # of one run
    workflows: dict[str, tuple[int, int]] = Field(default_factory=dict)


class TestsAnswer(Model):
    """Records of those that were asked for, by path; or of those that failed, the most likely to fail first."""

    __test__ = False

    tests: dict[str, TestRecord] = Field(default_factory=dict)
    failing: list[TestRecord] = Field(default_factory=list)


class RiskAnswer(Model):
    """``GET /v1/steps/risk?repository=…``: the model of a repository's commits, or why there is none.

    ``model`` is learning.commitrisk's, which knows whether it can read it; ``version`` counts the fits.
    """

    version: int = 0
    model: dict[str, Any] | None = None
    why: str = ""


class CommitFound(Model):
    """``PUT /v1/steps/commits``: what an analysis found a commit to be like, as learning.commitfeatures writes it."""

    repository: str = Field(min_length=1, max_length=2048, pattern=r"^[^\x00-\x1f\x7f]+$")
    commit: str = Field(pattern=FULL_COMMIT_PATTERN)
    features: str = Field(min_length=1, max_length=255)


class RecordedQuestion(Model):
    """The leader asks the api before TTL deletes: which of these runs (uids) are in history?"""

    uids: list[str] = Field(max_length=10000)


class RecordedAnswer(Model):
    """Those that are."""

    recorded: list[str]


QUARTERS_OF_A_WEEK = 7 * 24 * 4


class ScheduleLoad(Model):
    """What a Schedule's runs take of a pool: for how long, how many slots, and when they did so in the past."""

    seconds: float
    slots: float
    busy: dict[Annotated[int, Field(ge=0, lt=QUARTERS_OF_A_WEEK)], float] = Field(default_factory=dict)


class PoolLoad(Model):
    """How many slots of a pool are taken in each quarter-hour of the week (UTC, from Thursday, as the epoch).

    ``schedules``: the part of it that is the runs of a Schedule, by the value of their label.
    """

    busy: list[float] = Field(min_length=QUARTERS_OF_A_WEEK, max_length=QUARTERS_OF_A_WEEK)
    schedules: dict[str, ScheduleLoad] = Field(default_factory=dict)


class Learned(Model):
    """What history taught, as the controller fetches it every few minutes (at most 8 MiB).

    ``durations``: seconds of a task by its name and image, as (p50, p90). ``loads``: by namespace and pool.
    """

    version: int = 1
    durations: dict[str, tuple[float, float]] = Field(default_factory=dict)
    loads: dict[str, PoolLoad] = Field(default_factory=dict)
