"""The cluster where a Docker engine answers: kind, which differs from ours in how it is created and given images."""

import shutil
from collections.abc import Sequence

from localcluster import certificates, commands, gobuild, kubectl, packages, paths
from localcluster.images import BuiltImage, Image
from localcluster.progress import step

NAME = "dawg"


def answers() -> bool:
    return commands.succeeds(["docker", "info"])


def exists() -> bool:
    if not answers() or not (paths.COMMANDS / "kind").exists():
        return False
    return NAME in commands.run([paths.COMMANDS / "kind", "get", "clusters"]).split()


def create(fsync: bool) -> None:
    """`fsync` is for the own cluster's etcd; kind's always syncs."""
    packages.check_go()
    kubectl.link_commands(gobuild.KIND, gobuild.KUBECTL, gobuild.HELM)
    if exists() and paths.KUBECONFIG.exists():
        return
    with step("start the cluster with kind") as current:
        options = ["--name", NAME, "--kubeconfig", str(paths.KUBECONFIG), "--wait", "180s"]
        commands.run_long([paths.COMMANDS / "kind", "create", "cluster", *options], current, log="kind-create")
        kubectl.run("config", "set-context", "--current", "--namespace", certificates.RELEASE_NAMESPACE)


def build(image: Image) -> BuiltImage:
    built = BuiltImage(f"localhost/{image.name}", image.tag({}))
    if not commands.succeeds(["docker", "image", "inspect", built.reference]):
        with step(f"build image {image.name}") as current:
            command = [
                "docker",
                "build",
                "--file",
                str(image.dockerfile),
                "--tag",
                built.reference,
                str(paths.REPOSITORY),
            ]
            commands.run_long(command, current, log=f"image-{image.name}")
    return built


def load(built: Sequence[BuiltImage]) -> None:
    """kind itself skips what the node already has."""
    references = [image.reference for image in built]
    commands.run([paths.COMMANDS / "kind", "load", "docker-image", "--name", NAME, *references])


def delete() -> None:
    commands.run([paths.COMMANDS / "kind", "delete", "cluster", "--name", NAME, "--kubeconfig", paths.KUBECONFIG])
    shutil.rmtree(paths.CLUSTER)
