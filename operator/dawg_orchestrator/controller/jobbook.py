"""The Jobs of all runs, known before or after their run: the newest of each task, and those before it."""

from __future__ import annotations

from collections import defaultdict

from dawg_orchestrator.planning.facts import JobFact


class JobBook:
    """``newest`` and ``older`` of a run are the same dictionaries for as long as the run is followed."""

    def __init__(self) -> None:
        self._newest: dict[str, dict[int, JobFact]] = defaultdict(dict)  # by run uid and index
        self._older: dict[str, dict[str, JobFact]] = defaultdict(dict)  # by run uid and Job uid

    def __len__(self) -> int:
        return len(self._newest.keys() | self._older.keys())

    def of_run(self, run_uid: str) -> tuple[dict[int, JobFact], dict[str, JobFact]]:
        """The run's newest Jobs by index, and its older ones by uid."""
        return self._newest[run_uid], self._older[run_uid]

    def see(self, run_uid: str, job: JobFact) -> bool:
        """Take note of a Job; True when that is news."""
        newest, older = self.of_run(run_uid)
        known = newest.get(job.index)
        if known == job or older.get(job.uid) == job:
            return False
        if known is not None and known.attempt > job.attempt:
            older[job.uid] = job
            return True
        if known is not None and known.attempt < job.attempt:
            older[known.uid] = known
        newest[job.index] = job
        return True

    def drop(self, run_uid: str, job_uid: str) -> bool:
        """A Job is gone; True when it was known."""
        newest, older = self._newest.get(run_uid, {}), self._older.get(run_uid, {})
        known = older.pop(job_uid, None) is not None
        for index in [index for index, job in newest.items() if job.uid == job_uid]:
            del newest[index]
            known = True
        return known

    def run_of(self, job_uid: str) -> str | None:
        """The run of a Job that is known by its uid alone."""
        for run_uid, newest in self._newest.items():
            if job_uid in self._older.get(run_uid, ()) or any(job.uid == job_uid for job in newest.values()):
                return run_uid
        return None

    def forget(self, run_uid: str, *, only_if_empty: bool = False) -> None:
        """Nobody follows the run."""
        if only_if_empty and (self._newest.get(run_uid) or self._older.get(run_uid)):
            return
        self._newest.pop(run_uid, None)
        self._older.pop(run_uid, None)
