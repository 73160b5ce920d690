"""Why: one vocabulary for conditions, events, log lines and metric labels.

A reason answers *why*, never restates the status. Its sentence is for documentation; the message on an object
adds names and numbers and ends in what would change it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self, cast


class Reason(StrEnum):
    """A word with a sentence; ``infrastructure`` reasons never blame the test, ``retried`` ones get another attempt."""

    sentence: str
    infrastructure: bool
    retried: bool

    def __new__(cls, value: str, sentence: str, infrastructure: bool = False, retried: bool = False) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        member.infrastructure = infrastructure
        member.retried = retried
        return member

    @classmethod
    def of(cls, word: str | None) -> Self | None:
        """The reason of this word; None for a word of another release."""
        return cast("Self | None", cls._value2member_map_.get(word))

    # Outcomes of tests
    TESTS_PASSED = "TestsPassed", "Every task ended well."
    TESTS_FAILED = "TestsFailed", "At least one test case failed."
    EXIT_CODE = "ExitCode", "The command ended with an exit code other than 0."
    FLAKY = "Flaky", "A test failed and passed on another try of the same commit."
    REPORT_MISSING = "ReportMissing", "A declared report was not written, or is empty."
    REPORT_MALFORMED = "ReportMalformed", "A declared report is not a test report that can be read."
    OUTPUT_MISSING = (
        "OutputMissing",
        "A declared output or a file that another task needs was not written, or is too large.",
    )
    OOM_KILLED = "OOMKilled", "The test used more memory than its limit.", True
    PROCESS_LIMIT = "ProcessLimit", "The test started more processes than its pool allows."
    WORKSPACE_FULL = "WorkspaceFull", "The command failed, and it had filled the space that its pool allows."
    TIMEOUT = "Timeout", "The task ran longer than its timeout."
    RUN_TIMEOUT = "RunTimeout", "The run took longer than its timeout."
    INVALID_SPEC = "InvalidSpec", "The run cannot be carried out as written."
    NOT_AVAILABLE = "NotAvailable", "The run asks for something that this release does not do."
    STEP_DONE = "StepDone", "The built-in step did what it was asked for."
    STEP_FAILED = "StepFailed", "The built-in step could not do what it was asked for, or found what it looks for."
    REJECTED = "Rejected", "Somebody who may approve has rejected."
    NOT_APPROVED = "NotApproved", "Nobody has approved in time."
    RUNS_FAILED = "RunsFailed", "A run that the step started did not pass."
    TOO_DEEP = "TooDeep", "Runs that start runs stand too deep, or too many of them are under way."

    # Outcomes of infrastructure
    IMAGE_PULL = "ImagePull", "The image cannot be pulled.", True
    UNSCHEDULABLE = "Unschedulable", "No node can take the pod.", True
    QUOTA_EXCEEDED = "QuotaExceeded", "A ResourceQuota leaves no room for the pod.", True
    AGENT_LOST = "AgentLost", "The agent went away while it held the task.", True, True
    SLOT_LOST = "SlotLost", "The container in an agent's pod that ran the test ended.", True, True
    POD_DELETED = "PodDeleted", "The task's pod was deleted before it ended.", True, True
    EVICTED = "Evicted", "The node evicted the task's pod.", True, True
    NODE_LOST = "NodeLost", "The node that ran the task stopped answering.", True, True
    START_FAILED = "StartFailed", "The container could not be started.", True
    SOURCE_UNREACHABLE = "SourceUnreachable", "The repository did not answer.", True, True
    SOURCE_REFUSED = "SourceRefused", "The repository refused the credentials, or there were none.", True
    REVISION_NOT_FOUND = "RevisionNotFound", "The repository has no such revision.", True
    TREE_REFUSED = "TreeRefused", "The commit has files that cannot be put on a disk, or are too deep to be read.", True
    PATCH_NOT_FOUND = "PatchNotFound", "The patch that the run names is not kept in its namespace.", True
    PATCH_REFUSED = "PatchRefused", "The patch that the run names cannot be put on top of its commit.", True
    HOST_KEY_UNKNOWN = "HostKeyUnknown", "The ssh server's key is not in the Secret's known_hosts.", True
    CERTIFICATE_UNKNOWN = "CertificateUnknown", "The git server's certificate is signed by nobody who is trusted.", True
    CREDENTIALS_NOT_ALLOWED = (
        "CredentialsNotAllowed",
        "The Secret is not marked for this use, or not for this host.",
        True,
    )
    SECRET_MISSING = "SecretMissing", "A Secret that the task names does not exist.", True
    INPUT_MISSING = "InputMissing", "A file of an earlier task could not be fetched.", True, True
    REPORT_NOT_DELIVERED = "ReportNotDelivered", "The report was written, but could not be read or sent.", True, True
    COLLECT_FAILED = "CollectFailed", "What the task left behind could not be collected.", True, True
    NAME_CONFLICT = "NameConflict", "Somebody else's object has the name that the task's Job needs.", True
    POOL_NOT_FOUND = "PoolNotFound", "The namespace has no AgentPool of that name.", True
    WORKFLOW_NOT_FOUND = "WorkflowNotFound", "The namespace has no Workflow of that name.", True
    STEP_BROKEN = "StepBroken", "The built-in step could not be carried out.", True, True
    JOB_REFUSED = "JobRefused", "The cluster does not accept the task's Job.", True

    # Not run
    CANCELLED = "Cancelled", "Somebody cancelled the run."
    SUPERSEDED = "Superseded", "A newer run of the same concurrency group took over."
    CONCURRENCY_SKIP = "ConcurrencySkip", "Another run of the same concurrency group was under way."
    FAIL_FAST = "FailFast", "Another task of the run failed and failFast is set."
    NEED_NOT_PASSED = "NeedNotPassed", "A task that this one needs did not pass."
    NEED_SKIPPED = "NeedSkipped", "A task that this one needs was skipped by its condition."
    CONDITION_FALSE = "ConditionFalse", "The condition of the task, or of the Schedule, is false."
    NOTHING_FAILED = "NothingFailed", "The task is for when something fails, and nothing did."
    NOTHING_RAN = "NothingRan", "Every task was skipped."

    # Waiting
    NOT_SEEN = "NotSeen", "No controller has taken the run; is its namespace watched?"
    SEEN = "Seen", "A controller has taken the run."
    WAITING_FOR_AGENT = "WaitingForAgent", "All slots of the pool are taken."
    NO_AGENT_READY = "NoAgentReady", "No agent of the pool is connected yet."
    POOL_AT_MAXIMUM = "PoolAtMaximum", "All slots are taken and the pool may not grow."
    POOL_PAUSED = "PoolPaused", "The pool is paused."
    WAITING_FOR_NEEDS = "WaitingForNeeds", "Tasks that this one needs have not ended."
    WAITING_FOR_GROUP = "WaitingForGroup", "Other runs of the concurrency group are under way."
    WAITING_FOR_RUNS = "WaitingForRuns", "Runs that the step has started have not ended."
    WAITING_FOR_APPROVAL = "WaitingForApproval", "Somebody has to approve, by `dawg approve`."
    RETRY_BACKOFF = "RetryBackoff", "The next attempt waits for its backoff."
    RESOLVING_REVISION = "ResolvingRevision", "Another task of the run is finding out which commit the revision names."
    AGENT_UNREACHABLE = (
        "AgentUnreachable",
        "The agent does not answer; an exclusive task waits until its pod is known to be gone.",
    )
    STARTING = "Starting", "The task's pod is being started."
    RUNNING = "Running", "Tasks are under way."

    # Merge
    TESTS_PENDING = "TestsPending", "The verdict is not known yet, so the merge is blocked."
    MERGE_ALLOWED = "MergeAllowed", "Every task that decides has passed."
    MERGE_BLOCKED = "MergeBlocked", "A task that decides did not pass."
    RISK_TOO_HIGH = "RiskTooHigh", "The tests passed, but the commit is riskier than the gate lets through."
    OVERRIDDEN = "Overridden", "Somebody who may gate has allowed the merge, whatever the verdict."
    OVERRIDE_IGNORED = "OverrideIgnored", "The annotation that is to override the verdict does not count."
    GATE_NOT_ALLOWED = "GateNotAllowed", "No forge Secret of the pool allows this repository, context and Workflow."
    FORGE_REFUSED = "ForgeRefused", "The forge does not take the verdict."
    FORGE_UNREACHABLE = "ForgeUnreachable", "The forge does not answer."

    # Workflows
    WORKFLOW_READY = "WorkflowReady", "Runs of the Workflow can be carried out."
    WATCHING = "Watching", "The repositories that the object asks for are looked at."
    TOO_MANY_BRANCHES = "TooManyBranches", "More branches match the Workflow's triggers than are followed."
    FORGE_SECRET_MISSING = "ForgeSecretMissing", "No forge Secret of the pool may be used to read the pull requests."
    NO_MERGE_COMMIT = "NoMergeCommit", "The forge makes no merge commits, which the Workflow asks to be tested."

    # Schedules
    SCHEDULED = "Scheduled", "The schedule starts a run at its next due time."
    SUSPENDED = "Suspended", "The schedule is suspended."
    DEADLINE_PASSED = "DeadlinePassed", "The due time was noticed later than startingDeadline allows."
    OVERTAKEN = "Overtaken", "A later due time had come as well; only the last one starts a run."
    WITHDRAWN = "Withdrawn", "The schedule was changed while the due time waited for its start, and no longer names it."
    STILL_ACTIVE = "StillActive", "The run of an earlier due time had not ended, and concurrencyPolicy is Forbid."
    NO_NEW_COMMITS = "NoNewCommits", "The branch has no commit that the schedule's last run has not tested."
    RUN_REFUSED = "RunRefused", "The cluster does not accept the run that the schedule describes."

    # Pools
    AGENTS_READY = "AgentsReady", "As many agents as wanted are connected."
    AGENTS_STARTING = "AgentsStarting", "Agents are being started."
    AGENTS_FAILING = "AgentsFailing", "Agents' pods do not become ready."
    AGENTS_REFUSED = "AgentsRefused", "The cluster does not accept the pods that the pool describes."
    WITHIN_LIMITS = "WithinLimits", "The pool has as many agents as the queue asks for."
    AT_MAXIMUM = "AtMaximum", "The queue asks for more agents than maxAgents."
    SCALED_UP = "ScaledUp", "Agents were added because tasks wait."
    SCALED_DOWN = "ScaledDown", "Agents were taken away because they were idle."
