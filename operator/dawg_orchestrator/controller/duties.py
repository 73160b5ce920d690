"""One look at what a namespace's Builtin agents are to look after: each watch gets an agent, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from dawg_orchestrator.cluster import carry_out
from dawg_orchestrator.cluster.client import Cluster
from dawg_orchestrator.controller.desk import Desk
from dawg_orchestrator.controller.sessions import Sessions
from dawg_orchestrator.resources.protocol import Watch
from dawg_orchestrator.resources.reasons import Reason

_ASK_AGAIN = timedelta(seconds=10)  # whether by now a Secret may be used, or a pool is there


class DutyRoster:
    """Gives watches to agents."""

    def __init__(self, cluster: Cluster, desk: Desk, sessions: Sessions, clock: Callable[[], datetime]) -> None:
        self._cluster, self._desk, self._sessions, self._clock = cluster, desk, sessions, clock

    async def look(self, namespace: str) -> datetime | None:
        """Tell agents what has changed for them; when to look again though nothing happens."""
        standing = self._desk.standing
        allowed: dict[str, dict[str, Watch]] = {}
        refused = False
        for pool, watches in standing.wanted(namespace).items():
            allowed[pool] = {}
            for name, watch in watches.items():
                why = await self._why_not(namespace, pool, watch)
                if why is None:
                    allowed[pool][name] = watch
                else:
                    refused = True
                    standing.refuse(namespace, name, why)
        for telling in standing.plan(namespace, allowed):
            if await self._sessions.send(telling.agent, telling.duties):
                standing.told(telling)
        return self._clock() + _ASK_AGAIN if refused else None

    async def _why_not(self, namespace: str, pool_name: str, watch: Watch) -> tuple[Reason, str] | None:
        pool = self._desk.pools.get((namespace, pool_name))
        if pool is None:
            return Reason.POOL_NOT_FOUND, f"namespace {namespace} has no AgentPool {pool_name}; create it"
        if pool.spec.executor != "Builtin":
            told = f"pool {pool_name} is none of executor Builtin; name one that is in spec.builtinPools.forge"
            return Reason.INVALID_SPEC, told
        if watch.pulls is not None and not (pool.spec.builtin is not None and pool.spec.builtin.forge_secrets):
            told = f"pool {pool_name} holds no forge Secret, by which pull requests are read; name one in its "
            return Reason.FORGE_SECRET_MISSING, f"{told}spec.builtin.forgeSecrets"
        if watch.git_secret is None:
            return None
        held = {secret.name for secret in pool.spec.builtin.git_secrets} if pool.spec.builtin is not None else set()
        if watch.git_secret not in held:
            told = f"pool {pool_name} does not hold Secret {watch.git_secret}; name it in its spec.builtin.gitSecrets"
            return Reason.CREDENTIALS_NOT_ALLOWED, told
        try:
            await carry_out.check_git_secret(self._cluster, namespace, watch.git_secret, watch.url)
        except carry_out.Refused as error:
            return error.reason, str(error)
        return None
