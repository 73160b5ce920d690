"""Where things are kept: what is worth keeping in the cache, what belongs to one cluster below it."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GO_MODULES = Path(__file__).resolve().parent / "gomodules"


def _cache() -> Path:
    chosen = os.environ.get("DAWG_CACHE")
    if chosen:
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "dawg"


# Outside of the checkout, so that a fresh clone finds what another one built.
CACHE = _cache()
BINARIES = CACHE / "bin"
IMAGES = CACHE / "images"
BUILDAH_STORAGE = CACHE / "buildah"
BUILD_LOGS = CACHE / "logs"
LOCK = CACHE / "lock"

# One cluster: `hack/down` deletes all of it.
CLUSTER = CACHE / "cluster"
KUBECONFIG = CLUSTER / "kubeconfig"
COMMANDS = CLUSTER / "bin"
CONFIGURATION = CLUSTER / "configuration"
CERTIFICATES = CLUSTER / "certificates"
RECORDS = CLUSTER / "processes"
LOGS = CLUSTER / "logs"
AUDIT_LOG = LOGS / "audit.log"
VOLUMES = CLUSTER / "volumes"

# Sockets live here because their paths may have at most 107 bytes, and a cache may lie deep.
RUNTIME = Path("/run/dawg-cluster")
# The cache of the one cluster that this machine can run at a time.
OWNER = RUNTIME / "cache"
BUILDAH_RUNTIME = Path("/run/dawg-buildah")
