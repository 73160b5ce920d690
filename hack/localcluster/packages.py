"""What the machine must bring: checked first, installed from Debian where it can be, named where it cannot."""

import os
import platform
import re
import sys
from pathlib import Path

from localcluster import commands
from localcluster.errors import ClusterError
from localcluster.progress import step

# What shows that a Debian package is there: a program, or a file by its path.
DEBIAN_PACKAGES = {
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "openssl": "openssl",
    "gcc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
}
LEAST_GO = (1, 26)


def check_go() -> None:
    wanted = ".".join(str(part) for part in LEAST_GO)
    if commands.find("go") is None:
        raise ClusterError(
            f"Go {wanted} or newer is needed, and no `go` is in PATH. Install it from https://go.dev/dl/."
        )
    text = commands.run(["go", "env", "GOVERSION"]).strip()
    found = re.match(r"go(\d+)\.(\d+)", text)
    if found and (int(found[1]), int(found[2])) < LEAST_GO:
        raise ClusterError(
            f"Go {wanted} or newer is needed; this machine has {text}. Install it from https://go.dev/dl/."
        )


def check_machine() -> None:
    """For the cluster without Docker: Linux, and root for namespaces, mounts and cgroups."""
    if sys.platform != "linux":
        raise ClusterError("Without Docker the cluster runs on Linux only. Start Docker, and `hack/up` uses kind.")
    if os.geteuid() != 0:
        raise ClusterError("Without Docker the cluster needs root. Run `sudo hack/up`, or start Docker to use kind.")


def install_missing() -> None:
    missing = sorted({package for shown_by, package in DEBIAN_PACKAGES.items() if not _is_there(shown_by)})
    if not missing:
        return
    if commands.find("apt-get") is None:
        raise ClusterError(
            f"These programs are missing: {', '.join(missing)} (Debian's names). This {platform.system()} has no "
            "apt-get; install them yourself, or start Docker to use kind."
        )
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    with step(f"install {', '.join(missing)}") as current:
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        commands.run_long(["apt-get", "update"], current, log="apt-update", extra=quiet)
        commands.run_long(install, current, log="apt-install", extra=quiet)


def _is_there(shown_by: str) -> bool:
    return Path(shown_by).exists() if shown_by.startswith("/") else commands.find(shown_by) is not None
