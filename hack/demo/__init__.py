"""`make demo`: from an empty machine to a recalled memory on a real cluster, every step timed and checked.

Lives here: the steps, reading a conversation, the live view. May import hack.cluster, hack.images, hack.install,
hack.kube, httpx and rich; nothing of the operator or the runtime, which are met only through the cluster.
"""
