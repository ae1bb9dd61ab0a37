"""Hosts that are not there: network namespaces of this machine, with a Ray node in each.

A bridge joins them. They share the file system, as the machines of a cluster share a folder.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

PORT = 6390
"""Of the head, in its own namespace."""


def ip(*words: str) -> None:
    """Run ``ip``.

    Raises:
        OSError: it is not there.
        subprocess.CalledProcessError: it fails, as it does without root.
    """
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """Some hosts, the first of which is the head; they are removed with all that runs in them.

    Args:
        n: how many.
        folder: for what Ray keeps; a short path, as that of its sockets may have 107 letters.
        variables: of the environment of all that runs on them.
    """

    def __init__(self, n: int, folder: Path, variables: dict[str, str]) -> None:
        self._folder, self._variables, self._tag = folder, variables, f"al{os.getpid() % 100_000}"
        # of this cluster alone: not what this account may have for others
        self._token = secrets.token_hex(32)
        self._bridge = f"{self._tag}b"
        self._names = [f"{self._tag}n{k}" for k in range(n)]
        self._net = f"10.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}"

    def __enter__(self) -> "Hosts":
        try:
            ip("link", "add", self._bridge, "type", "bridge")
            ip("link", "set", self._bridge, "up")
            for k, name in enumerate(self._names):
                ip("netns", "add", name)
                ip("link", "add", f"{self._tag}v{k}", "type", "veth", "peer", "eth0", "netns", name)
                ip("link", "set", f"{self._tag}v{k}", "master", self._bridge, "up")
                ip("-n", name, "address", "add", f"{self.address(k)}/24", "dev", "eth0")
                for device in ("eth0", "lo"):
                    ip("-n", name, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for k, name in enumerate(self._names):
            self.kill(k)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True)

    def address(self, k: int) -> str:
        """Of a host."""
        return f"{self._net}.{k + 1}"

    @property
    def ray(self) -> str:
        """The address of the cluster."""
        return f"{self.address(0)}:{PORT}"

    def start(self, k: int, *command: str, **more: object) -> subprocess.Popen[str]:
        """Start a program on a host."""
        environment = {
            **os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token,
            **self._variables,
        }  # fmt: skip
        return subprocess.Popen(
            ["ip", "netns", "exec", self._names[k], *command], env=environment, text=True, **more
        )  # type: ignore[call-overload]

    def join(self, k: int) -> None:
        """Start the Ray node of a host: the head's has no cores for cells."""
        (self._folder / str(k)).mkdir(exist_ok=True)
        where = ["--head", f"--port={PORT}", "--include-dashboard=false", "--num-cpus=0"]
        if k:
            where = [f"--address={self.ray}", "--num-cpus=1"]
        ray = str(Path(sys.executable).with_name("ray"))
        done = self.start(
            k, ray, "start", *where, f"--node-ip-address={self.address(k)}",
            "--object-store-memory=80000000", f"--temp-dir={self._folder / str(k)}",
            "--disable-usage-stats", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = done.communicate(timeout=120)
        assert done.returncode == 0, said

    def pids(self, k: int) -> list[int]:
        """Processes on a host."""
        found = subprocess.run(
            ["ip", "netns", "pids", self._names[k]], capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]

    def runs_a_cell(self, k: int) -> bool:
        """Whether a task of Ray's is running on a host."""
        names = []
        for pid in self.pids(k):
            try:
                names.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:  # it has just ended
                continue
        return any(name.startswith(b"ray::attempt") for name in names)

    def kill(self, k: int) -> None:
        """End all processes of a host, as when its power fails."""
        while pids := self.pids(k):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)

    def cut(self, k: int) -> None:
        """Pull a host's cable."""
        ip("link", "set", f"{self._tag}v{k}", "down")

    def mend(self, k: int) -> None:
        """Put it back."""
        ip("link", "set", f"{self._tag}v{k}", "up")
