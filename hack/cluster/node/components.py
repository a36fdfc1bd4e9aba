"""What runs inside a node's namespaces, and how those are furnished."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from hack.cluster.control_plane import SERVICE_CIDR, ControlPlane
from hack.cluster.node.configuration import (
    CONTAINERD_SOCKET,
    KERNEL_SETTINGS,
    NODE_IP,
    NODE_NETWORK,
    PROVISIONER,
    VOLUMES,
    NodeFiles,
)
from hack.cluster.pki import certificate
from hack.cluster.plan import Component

METRICS_PORT = 4443  # also in manifests/node.yaml


@dataclass(frozen=True, slots=True)
class Node:
    """The components of one node, beside its control plane."""

    plane: ControlPlane
    files: NodeFiles
    logs: Path

    def certificates(self) -> list[dict[str, object]]:
        """What the node's components need signed; each gets a kubeconfig of the same name."""
        node = self.files.node
        return [
            certificate(
                "kubelet", f"system:node:{node}", "system:nodes", hosts=(node, "localhost", "127.0.0.1", NODE_IP)
            ),
            certificate("kube-proxy", "system:kube-proxy"),
            certificate("coredns", "system:coredns"),
            certificate(
                "metrics-server",
                "system:metrics-server",
                hosts=("metrics-server.kube-system.svc", "metrics-server.kube-system", NODE_IP),
            ),
            certificate("volumes", "system:volumes"),
        ]

    def setup(self) -> tuple[tuple[str, ...], ...]:
        """Commands that furnish the namespaces: nothing that they do can be seen from outside.

        The components' usual folders become the cluster's own, and what they would leave in the host's vanishes with
        the namespace.
        """
        data = self.plane.data
        binds = {
            data / "kubelet": "/var/lib/kubelet",
            data / "containerd": "/var/lib/containerd",
            data / "volumes": VOLUMES,
        }
        return (
            ("mount", "--make-rprivate", "/"),
            # Shared among the node's own processes: a pod may ask for mounts that propagate.
            ("mount", "--make-rshared", "/"),
            ("mount", "-t", "proc", "proc", "/proc"),
            *(
                ("mount", "--bind", str(self.files.kernel_file(setting)), f"/proc/sys/{setting}")
                for setting in KERNEL_SETTINGS
            ),
            ("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"),
            ("mount", "--bind", str(self.logs), "/var/log"),
            ("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/lib"),
            *(command for source, target in binds.items() for command in _bind(source, target)),
            ("ip", "link", "set", "lo", "up"),
            # Both ends stay inside: an address for the node, and no way out of the namespace at all.
            ("ip", "link", "add", "node0", "type", "veth", "peer", "name", "node0-peer"),
            ("ip", "address", "add", f"{NODE_IP}/{NODE_NETWORK.rpartition('/')[2]}", "dev", "node0"),
            ("ip", "link", "set", "node0", "up"),
            ("ip", "link", "set", "node0-peer", "up"),
            # A Service's address needs a route before iptables gets to rewrite it.
            ("ip", "route", "add", SERVICE_CIDR, "dev", "node0"),
            # What leads nowhere is refused at once, instead of timing out.
            ("ip", "route", "add", "unreachable", "default"),
            ("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
        )

    def components(self) -> tuple[Component, ...]:
        """Everything that runs, the control plane first."""
        plane = self.plane
        return (
            plane.etcd(),
            plane.api_server(inside_node=True),
            plane.controller_manager(),
            plane.scheduler(),
            self._containerd(),
            self._kubelet(),
            self._kube_proxy(),
            self._coredns(),
            self._metrics_server(),
            self._volumes(),
        )

    def _containerd(self) -> Component:
        folder = self.plane.programs["containerd"].parent  # its shim is looked for in PATH
        path = f"{folder}:{self.files.runc.parent}:{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
        argv = (str(self.plane.programs["containerd"]), f"--config={self.files.config / 'containerd.toml'}")
        return Component("containerd", argv, env={"PATH": path})

    def _kubelet(self) -> Component:
        config = self.files.config
        return self._kubernetes(
            "kubelet",
            f"--config={config / 'kubelet.json'}",
            f"--kubeconfig={config / 'kubelet.kubeconfig'}",
            f"--hostname-override={self.files.node}",
            f"--node-ip={NODE_IP}",
            wait_for=f"unix:{CONTAINERD_SOCKET}",
        )

    def _kube_proxy(self) -> Component:
        return self._kubernetes("kube-proxy", f"--config={self.files.config / 'kube-proxy.json'}")

    def _coredns(self) -> Component:
        return self._kubernetes("coredns", "-conf", str(self.files.config / "Corefile"))

    def _metrics_server(self) -> Component:
        pki, kubeconfig = self.plane.pki, self.files.config / "metrics-server.kubeconfig"
        return self._kubernetes(
            "metrics-server",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--secure-port={METRICS_PORT}",
            f"--tls-cert-file={pki / 'metrics-server.crt'}",
            f"--tls-private-key-file={pki / 'metrics-server.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=5s",  # must be shorter than the resolution
        )

    def _volumes(self) -> Component:
        kubeconfig = self.files.config / "volumes.kubeconfig"
        return self._kubernetes(
            "volumes", f"-kubeconfig={kubeconfig}", f"-root={VOLUMES}", f"-provisioner={PROVISIONER}"
        )

    def _kubernetes(self, name: str, *arguments: str, wait_for: str = "") -> Component:
        """A program that talks to the API server, and starts after it."""
        found = Component(name, (str(self.plane.programs[name]), *arguments), wait_for=(self.plane.ready_address,))
        return replace(found, wait_for=(*found.wait_for, wait_for)) if wait_for else found


def _bind(source: Path, target: str) -> tuple[tuple[str, ...], ...]:
    return (("mkdir", "-p", target), ("mount", "--bind", str(source), target))
