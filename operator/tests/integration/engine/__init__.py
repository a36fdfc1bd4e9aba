"""The operator as a process of its own, under the rights of its own ServiceAccount, against a real API server."""
