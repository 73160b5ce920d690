"""Labels, annotations and the names of children.

A child's name is ``<run, at most 40 characters>-<hash of run uid, task, cell, attempt>``: the same child always gets
the same name, and two different children never do, so "already exists" means "already done".
"""

from __future__ import annotations

import hashlib
from datetime import datetime

GROUP = "dawg.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

RUN = f"{GROUP}/run-uid"  # label on Jobs and their pods: which run
TASK = f"{GROUP}/task"  # label: the task's name in the spec
POOL = f"{GROUP}/pool"  # label on agents' pods, Deployments and Jobs
ATTEMPT = f"{GROUP}/attempt"  # label on Jobs and pods, from 1
INDEX = f"{GROUP}/index"  # label on Jobs and pods: position in the run's frozen expansion, from 0
EXECUTOR = f"{GROUP}/executor"  # label on agents' pods: Job, or Process where tests run in them
TEMPLATE = f"{GROUP}/template"  # label on Deployments of agents and their pods: hash of what they are made of
ROLE = f"{GROUP}/role"  # label: agent | task | controller | api
SPEC_HASH = f"{GROUP}/spec-hash"  # annotation on what we create: is the object there the one we meant?
RUN_NAME = f"{GROUP}/run"  # annotation on Jobs and pods (a run's name may be longer than a label's 63)
KEY = f"{GROUP}/key"  # annotation: task with cell and shard, as people read it
FOR_TESTS = f"{GROUP}/for-tests"  # label by which a Secret's owner allows tests to use it
FOR_STEPS = f"{GROUP}/for-steps"  # label by which a Secret's owner allows the built-in steps of a pool to use it
FOR_WEBHOOKS = f"{GROUP}/for-webhooks"  # label by which a Secret's owner allows the api to verify signatures with it
HOSTS = f"{GROUP}/hosts"  # annotation of a git Secret: hosts its credentials may be sent to, comma-separated
SCHEDULE = f"{GROUP}/schedule"  # label on the runs that a Schedule started: its name, or a hash of a longer one
DUE = f"{GROUP}/due"  # annotation on such a run: the time that it was due
TRIGGER = f"{GROUP}/trigger"  # annotation on a Schedule: anything new starts a run now; on that run: what it was
TRIGGERED_BY = f"{GROUP}/triggered-by"  # annotation on a run that a trigger or commits started: what came, for people
PARENT = f"{GROUP}/parent-uid"  # label on a run that a step or a trigger of another one asked for: that one's uid
PARENT_TASK = f"{GROUP}/parent-task"  # annotation on such a run: the index of the step's task; none: a trigger
# annotation on a run that a step has started: its place, from 1, among those that are likely to fail. Who may create
# runs can write it too, and gains less by it than by spec.priority: it counts within a level only, and not for long.
RECOMMENDED = f"{GROUP}/recommended"
ROOT = f"{GROUP}/root-uid"  # label on such a run: the uid of the run that it all began with
DEPTH = f"{GROUP}/depth"  # annotation on such a run: how many runs stand above it
APPROVAL = f"approval.{GROUP}/"  # annotation on a run, followed by a task's name: who approves or rejects it, and why
FORK = f"fork.{GROUP}/"  # annotation on a Workflow, followed by a pull request's number: which commit of a fork may run
OVERRIDE = f"override.{GROUP}/gate"  # annotation on a run: who lets its merge through whatever its verdict, and why
RERUN_OF = f"{GROUP}/rerun-of"  # annotation on a run: the name of the run that it repeats
ROLLED_BACK_BY = f"{GROUP}/rolled-back-by"  # annotation on a Deployment: the run whose step brought it back
ROLLED_BACK_TO = f"{GROUP}/rolled-back-to"  # annotation on it: the pod-template-hash that it went back to
WORKFLOW = f"{GROUP}/workflow"  # annotation on what was frozen for a run: whose content it is
SUITE = f"{GROUP}/suite"  # label of a Workflow: what `dawg queue test --suite` starts

AGENT_SERVICE_ACCOUNT = "dawg-agent"
TASK_SERVICE_ACCOUNT = "dawg-task"
BUILTIN_POOL = "builtin"  # where built-in steps go that name no pool
PATCH_SERVICE_ACCOUNT = "dawg-patcher"  # whose token people may ask for who have none of their own
STEPS_SERVICE_ACCOUNT = "dawg-steps"  # of the agents of Builtin pools
CONTROLLER_AUDIENCE = "dawg-controller"  # of agents' tokens for their session
API_AUDIENCE = "dawg-api"  # of agents' and sidecars' tokens for uploads
LEADER_LEASE = "dawg-leader"
CA_CONFIG_MAP = "dawg-ca"  # ca.crt by which agents and sidecars know controller and api

_RUN_PART = 40


def short_hash(*parts: object) -> str:
    """Ten hexadecimal digits that stand for the parts; the separator keeps ('a-b', 'c') and ('a', 'b-c') apart."""
    return hashlib.sha256("\x00".join(str(part) for part in parts).encode()).hexdigest()[:10]


def watch_id(url: str, secret: str | None) -> str:
    """What names the looks at a repository with the credentials of a Secret, whoever asks for them."""
    return short_hash("watch", url, secret or "")


def child_name(run_name: str, run_uid: str, key: str, attempt: int) -> str:
    """The name of a task's Job: valid as a label value and as a pod's host name (at most 51 characters)."""
    prefix = run_name[:_RUN_PART].strip("-.").replace(".", "-")
    return f"{prefix}-{short_hash(run_uid, key, attempt)}"


def deployment_name(pool_name: str, template_hash: str) -> str:
    """The name of a pool's agents for one template."""
    return f"{pool_name[:_RUN_PART].strip('-.').replace('.', '-')}-agents-{template_hash}"


def scheduled_name(schedule: str, uid: str, due: datetime) -> str:
    """The name of the run of a due time (UTC): readable, and the same whoever makes it."""
    return f"{schedule[:_RUN_PART].strip('-.')}-{due:%Y%m%d%H%M}-{short_hash(uid)[:4]}"


def started_name(run: str, uid: str, key: str, workflow: str) -> str:
    """The name of the run of a Workflow that a step of a run asks for."""
    return f"{run[:_RUN_PART].strip('-.')}-{short_hash(uid, key, workflow)}"


def triggered_name(asked: str, uid: str, trigger: str) -> str:
    """The name of the run that a trigger asks a Schedule or Workflow for: the same one for the same trigger."""
    return f"{asked[:_RUN_PART].strip('-.')}-{short_hash(uid, trigger)}"
