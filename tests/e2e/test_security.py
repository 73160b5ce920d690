"""What a test can reach of the platform: nothing."""

from __future__ import annotations

import subprocess

import pytest

from cluster_at_hand import RELEASE, TASK_PODS, Kubectl, eventually
from stories import Story, task

# Every variable, every file that looks like a credential, and the usual places of a service account's token.
NO_CREDENTIAL = """
test ! -e /var/run/secrets/kubernetes.io
test ! -e /var/run/secrets/dawg
test ! -e /dawg-git
if env | grep -i -E 'token|kubeconfig'; then exit 1; fi
if find / -xdev -name 'token*' -path '*secrets*' 2>/dev/null | grep .; then exit 1; fi
echo none > "$DAWG_OUTPUTS/found"
"""
KNOCK = """
python3 - <<'PYTHON'
import ssl, sys, urllib.error, urllib.request

context = ssl._create_unverified_context()
for url in (
    "https://dawg-controller.{namespace}.svc:8443/v1/agent",
    "https://dawg-api.{namespace}.svc:8444/v1/uploads/a/0/1/log?namespace={namespace}&run=a&job=a",
    "https://dawg-api.{namespace}.svc:8444/v1/learned",
    "http://dawg-api.{namespace}.svc:8080/v1/history",
):
    for headers in ({{}}, {{"Authorization": "Bearer made-up"}}):
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context, timeout=10)
            sys.exit(url + " let a test in")
        except urllib.error.HTTPError as error:
            if error.code != 401:
                sys.exit(f"{{url}} answered {{error.code}}")
PYTHON
"""


@pytest.mark.applied(task("looks", NO_CREDENTIAL, outputs=["found"]))
def test_a_test_beside_a_sidecar_finds_no_credential(story: Story, run: str) -> None:
    assert story.then_finishes(run)["verdict"] == "Passed"


@pytest.mark.applied(task("knocks", KNOCK.format(namespace=RELEASE)))
def test_every_door_refuses_a_test_that_knocks_without_the_sidecars_token(story: Story, run: str) -> None:
    # The bridge enforces no NetworkPolicy here, so the doors themselves have to refuse.
    assert story.then_finishes(run)["verdict"] == "Passed"


def test_everything_that_runs_fits_the_restricted_pod_security_standard(
    story: Story, kubectl: Kubectl, pool: str, test_image: str
) -> None:
    service = {"name": "shop", "image": test_image, "command": ["sleep", "600"]}
    run = story.when_applied(task("all", "sleep 600", outputs=["x"], services=[service]), pool=pool)

    def started() -> bool:
        pods = kubectl.items("pods", TASK_PODS)
        mine = [pod for pod in pods if pod["metadata"]["annotations"].get("dawg.dev/run") == run]
        return any(pod["status"].get("phase") == "Running" for pod in mine)

    eventually(started, within=60)
    label = "pod-security.kubernetes.io/enforce=restricted"
    done = subprocess.run(
        ["kubectl", "label", "namespace", kubectl.namespace, label, "--dry-run=server", "--overwrite"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "violate" not in done.stderr, done.stderr
