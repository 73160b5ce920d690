"""etcd, the apiserver, the controller manager and the scheduler."""

import json
from pathlib import Path

from localcluster import gobuild, network, paths
from localcluster.certificates import certificate, key, kubeconfig
from localcluster.processes import Component

# Nothing but the cluster's own processes can reach the loopback of its network namespace.
ETCD_URL = "http://127.0.0.1:2379"
PROBE_PATHS = ["/healthz*", "/livez*", "/readyz*"]


def _audit_policy() -> Path:
    return paths.CONFIGURATION / "audit-policy.json"


def write_configuration() -> None:
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": PROBE_PATHS},
            # Who wrote which verdict, for the checks of hack/chaos.
            {"level": "Request", "resources": [{"group": "dawg.dev", "resources": ["testruns/status"]}]},
            {"level": "Metadata"},
        ],
    }
    _audit_policy().write_text(json.dumps(policy, indent=2))


def _inside(program: Path, *flags: str) -> tuple[str, ...]:
    return (*network.ENTER, str(program), *flags)


def etcd(fsync: bool) -> Component:
    command = _inside(
        gobuild.build(gobuild.ETCD) / "etcd",
        "--name=dawg",
        f"--data-dir={paths.CLUSTER / 'etcd'}",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
        # A development cluster is started afresh after a crash of the machine, so nothing needs to survive one.
        *([] if fsync else ["--unsafe-no-fsync"]),
    )
    # It would wait for the apiserver's watches to end, which they never do.
    return Component("etcd", command, stop_seconds=3.0)


def apiserver() -> Component:
    command = _inside(
        gobuild.build(gobuild.KUBERNETES) / "kube-apiserver",
        f"--advertise-address={network.NODE_ADDRESS}",
        f"--etcd-servers={ETCD_URL}",
        f"--service-cluster-ip-range={network.SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction,ResourceQuota",
        "--allow-privileged=true",
        f"--client-ca-file={certificate('ca')}",
        f"--tls-cert-file={certificate('apiserver')}",
        f"--tls-private-key-file={key('apiserver')}",
        *_kubelet_flags(),
        *_service_account_flags(),
        *_aggregation_flags(),
        *_audit_flags(),
    )
    files = (_audit_policy(), certificate("apiserver"), certificate("ca"))
    return Component("kube-apiserver", command, files, stop_seconds=20.0)


def _kubelet_flags() -> list[str]:
    return [
        f"--kubelet-certificate-authority={certificate('ca')}",
        f"--kubelet-client-certificate={certificate('apiserver-kubelet')}",
        f"--kubelet-client-key={key('apiserver-kubelet')}",
        # The node's name is in no DNS.
        "--kubelet-preferred-address-types=InternalIP",
    ]


def _service_account_flags() -> list[str]:
    return [
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={key('service-account')}",
        f"--service-account-signing-key-file={key('service-account')}",
    ]


def _aggregation_flags() -> list[str]:
    return [
        f"--requestheader-client-ca-file={certificate('front-proxy-ca')}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={certificate('front-proxy')}",
        f"--proxy-client-key-file={key('front-proxy')}",
        "--enable-aggregator-routing=true",
    ]


def _audit_flags() -> list[str]:
    return [
        f"--audit-policy-file={_audit_policy()}",
        f"--audit-log-path={paths.AUDIT_LOG}",
        "--audit-log-maxsize=200",
        "--audit-log-maxbackup=5",
    ]


def controller_manager() -> Component:
    command = _inside(
        gobuild.build(gobuild.KUBERNETES) / "kube-controller-manager",
        *_client_flags("controller-manager"),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={key('service-account')}",
        f"--root-ca-file={certificate('ca')}",
        f"--flex-volume-plugin-dir={paths.CLUSTER / 'volume-plugins'}",
        f"--cluster-signing-cert-file={certificate('ca')}",
        f"--cluster-signing-key-file={key('ca')}",
    )
    return Component("kube-controller-manager", command)


def scheduler() -> Component:
    program = gobuild.build(gobuild.KUBERNETES) / "kube-scheduler"
    return Component("kube-scheduler", _inside(program, *_client_flags("scheduler")))


def _client_flags(name: str) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig(name)}",
        f"--authentication-kubeconfig={kubeconfig(name)}",
        f"--authorization-kubeconfig={kubeconfig(name)}",
        "--bind-address=127.0.0.1",
        # There is only one of each, and an election would delay every start.
        "--leader-elect=false",
    ]
