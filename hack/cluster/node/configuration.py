"""Configuration files of a node's components, as values and as files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster.control_plane import NODE_POD_CIDR, POD_CIDR
from hack.cluster.tools import write_atomically

NODE_IP = "10.250.0.1"
NODE_NETWORK = "10.250.0.0/24"
DNS_SERVICE_IP = "10.96.0.10"  # also in manifests/node.yaml
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "soma.test/pause:1"
PROVISIONER = "volumes.memory.somatech.dev"  # also in manifests/node.yaml
# What a kubelet sets in the kernel when it starts. These are the whole machine's and would outlive the node, so it is
# shown files that already say so, mounted over them in its namespace.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
VOLUMES = "/var/lib/soma-volumes"


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """What the files are written from."""

    name: str
    pki: Path
    config: Path
    runc: Path
    snapshotter: str
    cni_plugins: Path

    @property
    def node(self) -> str:
        """Name of the Node object."""
        return f"soma-{self.name}"

    def write(self) -> None:
        """Writes all files into `config`."""
        files = {
            "kubelet.json": json.dumps(self.kubelet(), indent=2),
            "kube-proxy.json": json.dumps(self.kube_proxy(), indent=2),
            "containerd.toml": self.containerd(),
            "Corefile": self.corefile(),
            "resolv.conf": "# Pods with dnsPolicy Default have no resolver: nothing leaves this node.\n",
        }
        for name, text in files.items():
            write_atomically(self.config / name, text)
        for setting, value in KERNEL_SETTINGS.items():
            write_atomically(self.kernel_file(setting), f"{value}\n")
        (self.config / "cni").mkdir(exist_ok=True)
        write_atomically(self.config / "cni" / "10-soma.conflist", json.dumps(self.network(), indent=2))

    def kernel_file(self, setting: str) -> Path:
        """The file that the kubelet reads instead of /proc/sys/SETTING."""
        return self.config / setting.replace("/", ".")

    def kubelet(self) -> dict[str, Any]:
        """KubeletConfiguration that also suits cgroup v1 and machines without CAP_SYS_RESOURCE."""
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(self.pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(self.pki / "kubelet.key"),
            "clusterDomain": "cluster.local",
            "clusterDNS": [DNS_SERVICE_IP],
            "resolvConf": str(self.config / "resolv.conf"),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            # The default lies in /usr, which is the host's.
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/soma-{self.name}",
            "failCgroupV1": False,
            "failSwapOn": False,
            # The disk is shared with whatever else the machine does: its fill level is no reason to evict here.
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            # A crashed container comes back in a second, so that tests of crashes take seconds.
            "featureGates": {"KubeletCrashLoopBackOffMax": True},
            "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        }

    def kube_proxy(self) -> dict[str, Any]:
        """KubeProxyConfiguration in iptables mode; conntrack's limits belong to the host and are left alone."""
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(self.config / "kube-proxy.kubeconfig")},
            "mode": "iptables",
            "clusterCIDR": POD_CIDR,
            "hostnameOverride": self.node,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }

    def network(self) -> dict[str, Any]:
        """One routed veth pair a pod.

        With a bridge, pods reach each other's Services only where br_netfilter is loaded.
        """
        return {
            "cniVersion": "1.0.0",
            "name": "soma",
            "plugins": [
                {
                    "type": "ptp",
                    "ipMasq": False,
                    "mtu": 1500,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": "/run/cni-addresses",
                        "ranges": [[{"subnet": NODE_POD_CIDR}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }

    def corefile(self) -> str:
        """The cluster's names and no others: without a forwarder, any other name does not exist."""
        return f"""\
cluster.local in-addr.arpa ip6.arpa {{
    bind {NODE_IP}
    errors
    ready {NODE_IP}:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {self.config / "coredns.kubeconfig"}
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
. {{
    bind {NODE_IP}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""

    def containerd(self) -> str:
        """containerd with runc, all of its state in folders that only this node sees."""
        return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"] # it would make folders in /opt

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "{self.snapshotter}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true # lowering it needs CAP_SYS_RESOURCE

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{self.cni_plugins}"]
conf_dir = "{self.config / "cni"}"

[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{self.runc}"
SystemdCgroup = false
"""
