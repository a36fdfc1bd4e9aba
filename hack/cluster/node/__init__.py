"""The profile `node`: a real kubelet, container runtime, network and volumes, in namespaces of their own.

Lives here: what the machine must be able to do, the components' configuration, the objects that a bare API server
lacks (DNS, metrics, a StorageClass), and images. May import from hack.cluster what lies below `profiles`.
"""
