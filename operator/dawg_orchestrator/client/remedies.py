"""What would change it, for each reason. `{…}` are filled in by why.py: name, namespace, pool."""

from __future__ import annotations

from dawg_orchestrator.resources.reasons import Reason

_PATCH_POOL = "kubectl -n {namespace} patch agentpools.dawg.dev {pool} --type merge -p"

REMEDIES: dict[str, str] = {
    Reason.TESTS_FAILED: "see the failed cases with `dawg status {name}`, the output with `dawg logs {name}`",
    Reason.EXIT_CODE: "see what the command said: dawg logs {name}",
    Reason.REPORT_MISSING: "see whether the tests ran: dawg logs {name}; results.junit must match what the tool writes",
    Reason.REPORT_MALFORMED: "let the tool write JUnit XML; `dawg logs {name}` shows whether it was cut off",
    Reason.OUTPUT_MISSING: "let the task write each declared output, and each path that another task takes as input",
    Reason.OOM_KILLED: "raise the task's resources.limits.memory, or let it do less at once",
    Reason.TIMEOUT: "raise the task's timeout, or cut it with shards",
    Reason.RUN_TIMEOUT: "raise spec.timeout; if tasks mostly waited, raise the pool's maxAgents",
    Reason.INVALID_SPEC: "correct the field and create another run",
    Reason.NOT_AVAILABLE: "leave the field out, or upgrade the release",
    Reason.IMAGE_PULL: "check the image's name and tag, and the pool's jobTemplate.imagePullSecrets",
    Reason.UNSCHEDULABLE: "ask for less in resources, loosen scheduling, or add a node",
    Reason.QUOTA_EXCEEDED: "raise the ResourceQuota of namespace {namespace}, or ask for less in resources",
    Reason.AGENT_LOST: "see the agents: kubectl -n {namespace} get pods -l dawg.dev/pool={pool}",
    Reason.POD_DELETED: "find out who deletes pods in namespace {namespace}; retry.infra.limit allows more attempts",
    Reason.EVICTED: "ask for what the test really needs in resources.requests",
    Reason.NODE_LOST: "see `kubectl get nodes`; retry.infra.limit says how often it is tried again",
    Reason.START_FAILED: "check command, working directory and image: the container never started",
    Reason.SOURCE_UNREACHABLE: "check source.git.url and that pods in namespace {namespace} may reach it",
    Reason.SOURCE_REFUSED: "set source.git.credentialsSecretRef to a Secret with access",
    Reason.REVISION_NOT_FOUND: "push the revision, or name another in source.git.revision",
    Reason.HOST_KEY_UNKNOWN: "add the server's key to known_hosts in the Secret",
    Reason.CREDENTIALS_NOT_ALLOWED: "let the Secret's owner label or annotate it for this use",
    Reason.SECRET_MISSING: "create the Secret in namespace {namespace} with the label dawg.dev/for-tests: 'true'",
    Reason.NAME_CONFLICT: "delete the foreign Job, or create the run under another name",
    Reason.JOB_REFUSED: "the message is the cluster's; correct what it names",
    Reason.CANCELLED: "create another run",
    Reason.SUPERSEDED: "follow the newer run, or set concurrency.policy: Queue",
    Reason.CONCURRENCY_SKIP: "set concurrency.policy: Queue to wait instead",
    Reason.FAIL_FAST: "look at the task that failed first, or set failFast: false",
    Reason.NEED_NOT_PASSED: "look at the task it needs, or give it a `when` that allows this",
    Reason.NEED_SKIPPED: "give the task a `when` that allows a skipped need",
    Reason.CONDITION_FALSE: "change the task's `when`, or the parameters it reads",
    Reason.NOTHING_RAN: "see the tasks' conditions: every one was false",
    Reason.WAITING_FOR_AGENT: "it starts when a slot is free; a higher spec.priority passes others",
    Reason.NO_AGENT_READY: "see why agents do not start: kubectl -n {namespace} get pods -l dawg.dev/pool={pool}",
    Reason.POOL_AT_MAXIMUM: f'raise maxAgents: {_PATCH_POOL} \'{{{{"spec":{{{{"maxAgents":N}}}}}}}}\'',
    Reason.POOL_PAUSED: f'resume it: {_PATCH_POOL} \'{{{{"spec":{{{{"paused":false}}}}}}}}\'',
    Reason.WAITING_FOR_NEEDS: "it starts when the tasks it needs have ended: dawg status {name}",
    Reason.WAITING_FOR_GROUP: "it starts when a run of its concurrency group ends; concurrency.max allows more",
    Reason.RETRY_BACKOFF: "it starts when the backoff is over; retry.backoff sets it",
    Reason.AGENT_UNREACHABLE: "if the node is gone for good, delete the agent's pod",
    Reason.STARTING: "it runs as soon as its image is pulled and its pod placed",
    Reason.AGENTS_FAILING: "see `kubectl -n {namespace} describe pods -l dawg.dev/pool={pool}`",
}
