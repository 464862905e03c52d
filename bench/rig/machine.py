"""What the machine offers: tools, cores, and whether somebody else is using it right now.

A figure taken while a compiler runs on the same two cores is not a figure. So every round asks here first,
and a round that had to be taken in company says so in the table.
"""

import functools
import os
import platform
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

# Command to the Debian package that brings it.
PACKAGES = {
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "taskset": "util-linux",
    "perf": "linux-perf",
    "strace": "strace",
    "valgrind": "valgrind",
}

# Daemons live in sbin, which a user's PATH may lack.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])

POLICY_RC_D = Path("/usr/sbin/policy-rc.d")

# Names of processes that make a measurement worthless while they run.
DISTURBERS = {"rustc", "cc1", "ld", "ld.lld", "rust-lld", "cargo-clippy", "clippy-driver", "dpkg", "valgrind"}


class MissingTool(RuntimeError):
    """A command is absent and could not be installed."""


def find(command: str) -> str:
    """The full path of `command`; raises MissingTool if it is not installed."""
    path = shutil.which(command, path=SEARCH_PATH)
    if path is None:
        raise MissingTool(f"{command} is not installed: apt-get install {PACKAGES.get(command, command)}")
    return path


def need(*commands: str) -> None:
    """Installs what is missing of `commands` from Debian, without letting a daemon start by itself."""
    missing = [c for c in commands if shutil.which(c, path=SEARCH_PATH) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise MissingTool(f"missing: {', '.join(missing)}, and this machine has no apt-get to install them with")
    packages = [PACKAGES[c] for c in missing]
    note(f"installing {' '.join(packages)}")
    become_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    with _daemons_stay_down(become_root):
        subprocess.run([*become_root, *environment, "apt-get", "update", "-qq"], check=True, stdout=sys.stderr)
        subprocess.run(
            [*become_root, *environment, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
            check=True,
            stdout=sys.stderr,
        )
    for command in missing:
        find(command)


@contextmanager
def _daemons_stay_down(become_root: list[str]):
    """Debian starts a daemon as it installs it unless policy-rc.d says 101; one that is there already is left alone."""
    if POLICY_RC_D.exists():
        yield
        return
    script = f"printf '#!/bin/sh\\nexit 101\\n' > {POLICY_RC_D} && chmod 755 {POLICY_RC_D}"
    subprocess.run([*become_root, "sh", "-c", script], check=True)
    try:
        yield
    finally:
        subprocess.run([*become_root, "rm", "-f", str(POLICY_RC_D)], check=False)


def note(text: str) -> None:
    """Progress goes to stderr: stdout carries the tables and nothing else."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@functools.cache
def cores() -> tuple[int, int]:
    """(core of the load and the upstream, core of the proxy under test); the same one if there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[1] if len(allowed) > 1 else allowed[0]


@contextmanager
def pinned_to(core: int):
    """Keeps this process on one core while it is itself the load."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> int:
    """Lifts the soft limit to the hard one, for us and what we start; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def disturbers() -> list[str]:
    """Names of running processes that compete for the cores."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "comm").read_text().strip()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue  # it ended while we looked
        if name in DISTURBERS and state != "Z":
            found.add(name)
    return sorted(found)


def describe() -> dict[str, str]:
    """What a reader needs to judge the figures: processor, kernel, versions."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "kernel": platform.release().split("-")[0],
        "nginx": _version(["nginx", "-v"]),
        "haproxy": _version(["haproxy", "-v"]),
    }


def _version(command: list[str]) -> str:
    path = shutil.which(command[0], path=SEARCH_PATH)
    if path is None:
        return "not installed"
    done = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).replace("/", " ").split()
    return next((w for w in words if w[0].isdigit()), "unknown")
