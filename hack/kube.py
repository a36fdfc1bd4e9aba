"""kubectl as the tools and tests use it: a thin, typed wrapper around the program, and port-forwards that clean up."""

from __future__ import annotations

import json
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


def _established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


class KubectlError(RuntimeError):
    """kubectl ended with a non-zero status; the message is what it wrote to standard error."""


@dataclass(frozen=True)
class Kubectl:
    """One cluster, and the namespace that commands go to unless they name another.

    Attributes:
        program: the kubectl binary.
        kubeconfig: the file that says where the API server is and who we are.
        namespace: added as ``--namespace``.
    """

    program: Path
    kubeconfig: Path
    namespace: str = "default"

    def within(self, namespace: str) -> Kubectl:
        """The same cluster, another namespace."""
        return Kubectl(self.program, self.kubeconfig, namespace)

    def command(self, *args: str) -> list[str]:
        """The full command line, for those who start the process themselves."""
        return [str(self.program), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *args]

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl and return its standard output.

        Raises:
            KubectlError: when it ends with a non-zero status or does not end within `timeout` seconds.
        """
        try:
            done = subprocess.run(
                self.command(*args), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(args)}: no end within {timeout:.0f} s") from error
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *args: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        parsed: dict[str, Any] = json.loads(self("get", *args, "-o", "json"))
        return parsed

    def find(self, *args: str) -> dict[str, Any] | None:
        """Like `get`, but None where the object does not exist."""
        text = self("get", *args, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def apply(self, manifest: str) -> str:
        """`kubectl apply -f -` of YAML or JSON text."""
        return self("apply", "-f", "-", stdin=manifest)

    def establish(self, crds: Path, *, timeout: float = 60.0) -> None:
        """Apply the CRDs of a kustomization, and return once the API server serves each of them.

        `kubectl wait` is no help: it fails on a CRD that has no conditions yet.

        Raises:
            KubectlError: when kubectl fails, or one of them is not served within `timeout` seconds.
        """
        names = self("apply", "--server-side", "--force-conflicts", "-k", str(crds), "-o", "name").split()
        end = time.monotonic() + timeout
        while waiting := [name for name in names if not _established(self.get(name))]:
            if time.monotonic() > end:
                raise KubectlError(f"not established within {timeout:.0f} s: {', '.join(waiting)}")
            time.sleep(0.2)

    @contextmanager
    def port_forward(self, target: str, port: int, *, timeout: float = 20.0) -> Iterator[int]:
        """Forward a free loopback port to `port` of `target` (``service/x``, ``pod/y``); yields the local port."""
        process = subprocess.Popen(
            self.command("port-forward", "--address=127.0.0.1", target, f":{port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        try:
            yield _forwarded_port(process, target, timeout)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _forwarded_port(process: subprocess.Popen[str], target: str, timeout: float) -> int:
    assert process.stdout is not None
    deadline = time.monotonic() + timeout
    said: list[str] = []
    while time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], 0.2)
        if ready:
            line = process.stdout.readline()
            said.append(line.strip())
            if found := FORWARDING.search(line):
                return int(found.group(1))
        if process.poll() is not None:
            break
    raise KubectlError(f"port-forward to {target}: {' '.join(said) or 'it said nothing'}")


def wait_until(check: Callable[[], T | None], what: str, *, timeout: float, every: float = 0.2) -> T:
    """Call `check` until it returns something true, and return that.

    Raises:
        TimeoutError: naming `what` was awaited and the last error, if `timeout` seconds pass first.
    """
    deadline = time.monotonic() + timeout
    last: Exception | None = None
    while True:
        try:
            if result := check():
                return result
            last = None
        except (KubectlError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {timeout:.0f} s" + (f" ({last})" if last else ""))
        time.sleep(every)
