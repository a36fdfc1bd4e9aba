"""The control plane's programs and their flags, the same in every profile: etcd, API server, controllers, scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hack.cluster.pki import certificate
from hack.cluster.plan import Component

SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
POD_CIDR = "10.244.0.0/16"
NODE_POD_CIDR = "10.244.0.0/24"
# The defaults (20 requests a second) spare a shared API server; here they would only make scale tests wait.
_NO_THROTTLE = ("--kube-api-qps=200", "--kube-api-burst=400")


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where one control plane listens and keeps its files.

    `address` is what the API server calls itself: 127.0.0.1 on the host, the node's address in a namespace of its own.
    """

    name: str
    programs: dict[str, Path]
    pki: Path
    data: Path
    config: Path
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    address: str = "127.0.0.1"

    @property
    def ready_address(self) -> str:
        """What answers 200 when the API server serves, its RBAC roles bootstrapped."""
        return f"https:127.0.0.1:{self.api_port}/readyz"

    def certificates(self) -> list[dict[str, object]]:
        """What the control plane needs signed."""
        api_hosts = (
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "127.0.0.1",
            KUBERNETES_SERVICE_IP,
            self.address,
        )
        return [
            certificate("apiserver", "kube-apiserver", hosts=tuple(dict.fromkeys(api_hosts))),
            certificate("etcd", "etcd", hosts=("localhost", "127.0.0.1")),
            certificate("etcd-client", "kube-apiserver-etcd-client"),
            certificate("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
            certificate("front-proxy", "front-proxy"),
            certificate("admin", "soma-admin", "system:masters"),
            certificate("controller-manager", "system:kube-controller-manager"),
            certificate("scheduler", "system:kube-scheduler"),
        ]

    def etcd(self) -> Component:
        """A throwaway database: it does not wait for the disk."""
        client, peer = f"https://127.0.0.1:{self.etcd_port}", f"https://127.0.0.1:{self.etcd_peer_port}"
        tls = [
            f"--{prefix}{flag}={self.pki / file}"
            for prefix in ("", "peer-")
            for flag, file in (("cert-file", "etcd.crt"), ("key-file", "etcd.key"), ("trusted-ca-file", "ca.crt"))
        ]
        return Component(
            "etcd",
            (
                str(self.programs["etcd"]),
                f"--data-dir={self.data / 'etcd'}",
                "--unsafe-no-fsync",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--client-cert-auth",
                "--peer-client-cert-auth",
                *tls,
                "--auto-compaction-retention=10m",
                "--log-level=warn",
            ),
        )

    def api_server(self, *, inside_node: bool) -> Component:
        """The real one: RBAC, the default admission plugins (PodSecurity among them), CEL, aggregation."""
        pki = self.pki
        where = (
            ("--bind-address=0.0.0.0", "--enable-aggregator-routing=true")
            if inside_node
            # No node can reach this server, so it must not publish an address for them.
            else ("--bind-address=127.0.0.1", "--endpoint-reconciler-type=none")
        )
        return Component(
            "kube-apiserver",
            (
                str(self.programs["kube-apiserver"]),
                *where,
                f"--advertise-address={self.address}",
                f"--secure-port={self.api_port}",
                f"--tls-cert-file={pki / 'apiserver.crt'}",
                f"--tls-private-key-file={pki / 'apiserver.key'}",
                f"--client-ca-file={pki / 'ca.crt'}",
                f"--etcd-servers=https://127.0.0.1:{self.etcd_port}",
                f"--etcd-cafile={pki / 'ca.crt'}",
                f"--etcd-certfile={pki / 'etcd-client.crt'}",
                f"--etcd-keyfile={pki / 'etcd-client.key'}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={pki / 'service-accounts.pub'}",
                f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
                f"--service-cluster-ip-range={SERVICE_CIDR}",
                f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
                f"--kubelet-client-key={pki / 'kubelet-client.key'}",
                f"--kubelet-certificate-authority={pki / 'ca.crt'}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
                f"--proxy-client-key-file={pki / 'front-proxy.key'}",
                f"--requestheader-client-ca-file={pki / 'ca.crt'}",
                "--requestheader-allowed-names=front-proxy",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-username-headers=X-Remote-User",
                "--allow-privileged=true",
                "--profiling=false",
            ),
            wait_for=(f"tcp:127.0.0.1:{self.etcd_port}",),
        )

    def controller_manager(self) -> Component:
        """All controllers; one instance, so no election."""
        kubeconfig = self.config / "controller-manager.kubeconfig"
        return Component(
            "kube-controller-manager",
            (
                str(self.programs["kube-controller-manager"]),
                f"--kubeconfig={kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
                *_NO_THROTTLE,
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={self.pki / 'service-accounts.key'}",
                f"--root-ca-file={self.pki / 'ca.crt'}",
                f"--cluster-signing-cert-file={self.pki / 'ca.crt'}",
                f"--cluster-signing-key-file={self.pki / 'ca.key'}",
                # The default lies in /usr, which is the host's.
                f"--flex-volume-plugin-dir={self.data / 'volume-plugins'}",
                f"--service-cluster-ip-range={SERVICE_CIDR}",
                "--horizontal-pod-autoscaler-sync-period=5s",
                "--horizontal-pod-autoscaler-initial-readiness-delay=10s",
                "--horizontal-pod-autoscaler-cpu-initialization-period=30s",
            ),
            wait_for=(self.ready_address,),
        )

    def scheduler(self) -> Component:
        """The default scheduler."""
        kubeconfig = self.config / "scheduler.kubeconfig"
        return Component(
            "kube-scheduler",
            (
                str(self.programs["kube-scheduler"]),
                f"--kubeconfig={kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
                *_NO_THROTTLE,
            ),
            wait_for=(self.ready_address,),
        )
