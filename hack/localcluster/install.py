"""DAWG in the cluster: its images, its chart, and the example whose result shows that all of it works."""

from pathlib import Path
from typing import Any

from localcluster import certificates, commands, images, kubectl, paths, processes
from localcluster.engine import Engine
from localcluster.errors import ClusterError
from localcluster.images import BuiltImage
from localcluster.progress import Step, say, step

RELEASE = "dawg"
NAMESPACE = certificates.RELEASE_NAMESPACE
CHART = paths.REPOSITORY / "charts" / "dawg"
EXAMPLE = paths.REPOSITORY / "examples" / "testrun.yaml"
RESOURCE = "testruns.dawg.dev"
INSTALL_TIMEOUT = "180s"
EXAMPLE_SECONDS = 600.0
POLL_SECONDS = 0.5


def missing_files() -> list[Path]:
    """What the install needs and the checkout does not have."""
    needed = [image.dockerfile for image in (images.OPERATOR, images.AGENT, images.TEST, images.SERVICES)]
    return [file for file in [*needed, CHART / "Chart.yaml", EXAMPLE] if not file.exists()]


def install(engine: Engine) -> None:
    operator, agent, test = (engine.build(image) for image in (images.OPERATOR, images.AGENT, images.TEST))
    services = engine.build(images.SERVICES)  # what the stories about monitoring look at
    with step("load the images into the node"):
        engine.load([operator, agent, test, services])
    _upgrade_release(operator, agent, test)


def load_test_image(engine: Engine) -> None:
    """What pods of the tests run in that need a cluster and no DAWG."""
    if images.TEST.dockerfile.exists():
        engine.load([engine.build(images.TEST)])


def _upgrade_release(operator: BuiltImage, agent: BuiltImage, test: BuiltImage) -> None:
    values = {
        "image.operator.repository": operator.repository,
        "image.operator.tag": operator.tag,
        "image.agent.repository": agent.repository,
        "image.agent.tag": agent.tag,
        "defaultTaskImage": test.reference,
    }
    command = [
        *(str(paths.COMMANDS / "helm"), "--kubeconfig", str(paths.KUBECONFIG)),
        *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
        # A tag of digits alone would otherwise become a number.
        *(word for name, value in values.items() for word in ("--set-string", f"{name}={value}")),
        # On a cluster for development, somebody may have applied the resource definitions by hand.
        *("--take-ownership", "--wait", "--timeout", INSTALL_TIMEOUT),
    ]
    with step("install the chart"):
        try:
            commands.run(command)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{_state_of_release()}") from error


def _state_of_release() -> str:
    pods = kubectl.run("--namespace", NAMESPACE, "get", "pods", "--output", "wide")
    events = kubectl.run("--namespace", NAMESPACE, "get", "events", "--sort-by", ".lastTimestamp").splitlines()
    return "\n".join([pods, *events[-10:], *_logs_of_unready_pods()])


def _logs_of_unready_pods() -> list[str]:
    texts = []
    for pod in kubectl.get("pods", "--namespace", NAMESPACE, "--selector", f"app.kubernetes.io/instance={RELEASE}")[
        "items"
    ]:
        if not all(container["ready"] for container in pod["status"].get("containerStatuses", [])):
            name = pod["metadata"]["name"]
            log = kubectl.run(
                "--namespace", NAMESPACE, "logs", name, "--all-containers", "--ignore-errors", "--tail", "15"
            )
            texts.append(f"The log of pod {name} ends with:\n{log}")
    return texts


def run_example() -> bool:
    """Run the example anew, show its table, and say whether it passed."""
    kubectl.run("delete", "--namespace", NAMESPACE, "--ignore-not-found", "--filename", EXAMPLE)
    with step(f"run {EXAMPLE.relative_to(paths.REPOSITORY)}") as current:
        created = kubectl.run("create", "--namespace", NAMESPACE, "--filename", EXAMPLE, "--output", "name").strip()
        name = created.rpartition("/")[2]
        processes.wait_for(f"TestRun {name}", lambda: _finished(name, current), [], EXAMPLE_SECONDS, POLL_SECONDS)
    say(kubectl.run("get", RESOURCE, name, "--namespace", NAMESPACE).rstrip())
    status = kubectl.get(RESOURCE, name, "--namespace", NAMESPACE).get("status", {})
    return bool(status.get("verdict") == "Passed")


def _finished(name: str, current: Step) -> bool:
    status: dict[str, Any] = kubectl.get(RESOURCE, name, "--namespace", NAMESPACE).get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    queue = status.get("queue", {})
    shown = (status.get("phase", "waiting for the controller"), queue.get("reason"), queue.get("message"))
    current.note = status.get("verdict") or ", ".join(text for text in shown if text)
    return bool(conditions.get("Finished", {}).get("status") == "True")
