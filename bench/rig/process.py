"""Processes under measurement: started on one core, stopped by their own id, read through /proc."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import machine


REPOSITORY = Path(__file__).resolve().parent.parent.parent


class DidNotStart(RuntimeError):
    """A process ended or did not listen in time; the message carries the end of its log."""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process pinned to one core (or a list of them, as taskset writes it), with its children, its log in a file."""

    def __init__(self, name: str, command: list[str], core: int | str, folder: Path, env: dict[str, str] | None = None):
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [machine.find("taskset"), "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """taskset execs the command, so this is the command's own id."""
        return self._popen.pid

    def wait_until_listening(self, port: int, patience_s: float = 15.0) -> None:
        """Returns once something accepts on `port`."""
        deadline = time.monotonic() + patience_s
        while True:
            if self._popen.poll() is not None:
                raise DidNotStart(f"{self.name} ended with {self._popen.returncode}:\n{self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise DidNotStart(f"{self.name} does not listen on {port}:\n{self.tail()}") from None
                time.sleep(0.02)

    def tail(self, lines: int = 20) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def family(self) -> list[int]:
        """Its own id and those of all its descendants (nginx works in a child)."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                except (OSError, IndexError):
                    continue
                children.setdefault(parent, []).append(int(entry.name))
        found, rest = [], [self.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            rest.extend(children.get(pid, []))
        return found

    def cpu_ns(self) -> int:
        """User and system time so far, all processes and living threads, in nanoseconds.

        From schedstat, which counts what the scheduler charged in nanoseconds; on loopback that includes the
        kernel's work for the receiving side that runs inside our own sends, for every proxy alike.
        """
        total = 0
        for pid in self.family():
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total

    def rss_bytes(self) -> int:
        """Resident memory of the family. Pages shared between parent and child count twice, for nginx alone."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.family()) * page

    def signal(self, number: int) -> None:
        """Sends a signal to the process itself, not to its children."""
        self._popen.send_signal(number)

    def stop(self) -> None:
        """Asks it to end, then insists."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._popen.pid, signal.SIGKILL)
                self._popen.wait()
