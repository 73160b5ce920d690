"""What may stand in a path or query. Names become parts of Kubernetes paths and of SQL: nothing odd passes."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Header, Path, Query

_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_UID = r"^[A-Za-z0-9-]+$"
_WORD = r"^[A-Za-z]+$"
_MOST = 9999  # of indexes and attempts

Token = Annotated[str | None, Header(alias="Authorization")]
Kind = Literal["artifact", "coverage", "junit", "handed"]

RunUid = Annotated[str, Path(min_length=1, max_length=64, pattern=_UID)]
Index = Annotated[int, Path(ge=0, le=_MOST)]
Attempt = Annotated[int, Path(ge=1, le=_MOST)]
Namespace = Annotated[str, Path(max_length=63, pattern=_LABEL)]
WorkflowName = Annotated[str, Path(max_length=253, pattern=_SUBDOMAIN)]
RunName = Annotated[str, Path(max_length=253, pattern=_SUBDOMAIN)]

OfNamespace = Annotated[str, Query(alias="namespace", max_length=63, pattern=_LABEL)]
OfRun = Annotated[str, Query(alias="run", max_length=253, pattern=_SUBDOMAIN)]
OfWarmRun = Annotated[str | None, Query(alias="run", max_length=253, pattern=_SUBDOMAIN)]
OfJob = Annotated[str | None, Query(alias="job", max_length=253, pattern=_SUBDOMAIN)]
InNamespace = Annotated[str | None, Query(alias="namespace", max_length=63, pattern=_LABEL)]
WithName = Annotated[str | None, Query(alias="name", max_length=253, pattern=_SUBDOMAIN)]
WithUid = Annotated[str | None, Query(alias="uid", max_length=64, pattern=_UID)]
WithVerdict = Annotated[str | None, Query(alias="verdict", max_length=16, pattern=_WORD)]
TaskKey = Annotated[str | None, Query(alias="task", max_length=512)]
TaskIndex = Annotated[int | None, Query(alias="index", ge=0, le=_MOST)]
AttemptNumber = Annotated[int | None, Query(alias="attempt", ge=1, le=_MOST)]
