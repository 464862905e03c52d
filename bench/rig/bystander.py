"""For those who make the gateway faster: what a proxy does while it is loaded, seen by strace or perf.

Not for figures: both slow what they watch.
"""

import argparse
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import machine, process, upstream
from .cpu import scenarios
from .proxies import KINDS, Proxy, prepare
from .wrk import Wrk


def arguments(purpose: str) -> argparse.ArgumentParser:
    """What both programs take."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--proxy", default="keymux", choices=KINDS, help="(%(default)s)")
    parser.add_argument("--answer", default="json", choices=[s.name for s in scenarios()], help="(%(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="1 shows the calls without batching (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="(%(default)s)")
    return parser


@contextmanager
def loaded(args: argparse.Namespace) -> Iterator[tuple[Proxy, Wrk, Path]]:
    """A warm proxy in front of the static upstream, and the load for it."""
    machine.need("wrk")
    prepare([args.proxy])
    machine.raise_descriptor_limit()
    load_core, proxy_core = machine.cores()
    scenario = next(s for s in scenarios() if s.name == args.answer)
    with tempfile.TemporaryDirectory(prefix="keymux-bench-") as name:
        folder = Path(name)
        static = upstream.Static(scenario.name, scenario.answer, scenario.content_type, load_core, folder)
        try:
            proxy = Proxy(args.proxy, static.port, scenario.streaming, proxy_core, folder)
            try:
                wrk = Wrk(scenario.name, scenario.body, load_core, folder, args.connections)
                wrk.run(proxy.port, 1)
                yield proxy, wrk, folder
            finally:
                proxy.stop()
        finally:
            static.stop()


def strace() -> int:
    """Prints the system calls a request."""
    args = arguments("Counts the system calls a request of a proxy under load.").parse_args()
    machine.need("strace")
    with loaded(args) as (proxy, wrk, folder):
        out = folder / "strace.out"
        attach = [word for pid in proxy.process.family() for word in ("-p", str(pid))]
        watcher = subprocess.Popen(
            [machine.find("strace"), "-c", "-f", "-U", "name,calls,errors", "-o", str(out), *attach],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watcher.stderr is not None
        if "attached" not in watcher.stderr.readline():
            raise process.DidNotStart("strace could not attach")
        load = wrk.run(proxy.port, args.seconds)
        watcher.send_signal(signal.SIGINT)
        watcher.communicate()
        print(f"{args.proxy}, {args.answer}, {args.connections} connections, {load.requests} requests under strace\n")
        print("| system call | a request | errors a request |\n| --- | ---: | ---: |")
        for line in out.read_text().splitlines():
            found = re.fullmatch(r"\s*(\w+)\s+(\d+)(?:\s+(\d+))?\s*", line)
            if found and int(found[2]) / load.requests >= 0.001:
                print(f"| {found[1]} | {int(found[2]) / load.requests:.3f} | {int(found[3] or 0) / load.requests:.3f} |")
    return 0


def profile() -> int:
    """Prints the symbols that take the most CPU."""
    parser = arguments("Profiles a proxy under load and prints the symbols that take the most.")
    parser.add_argument("--top", type=int, default=50, help="symbols to print (%(default)s)")
    parser.add_argument("--inclusive", action="store_true", help="with what each symbol calls (stacks by DWARF, slow)")
    parser.add_argument("--sort", help="perf's keys, such as comm for the threads")
    parser.add_argument("--thread", help="only the thread of this name, such as ledger-db")
    args = parser.parse_args()
    machine.need("perf")
    with loaded(args) as (proxy, wrk, folder):
        data = folder / "perf.data"
        stacks = ["--call-graph", "dwarf,16384"] if args.inclusive else []
        # cpu-clock, because virtual machines often have no counters.
        watcher = subprocess.Popen(
            [machine.find("perf"), "record", "-q", "-e", "cpu-clock", "-F", "2500", *stacks, "-o", str(data)]
            + ["-p", ",".join(map(str, proxy.process.family()))],
        )
        time.sleep(0.5)  # perf does not say when it is ready
        load = wrk.run(proxy.port, args.seconds)
        watcher.send_signal(signal.SIGINT)
        watcher.wait()
        shape = ["--children", "-g", "none"] if args.inclusive else ["--no-children"]
        report = subprocess.run(
            [machine.find("perf"), "report", "-i", str(data), "--stdio", *shape, "--percent-limit", "0.3"]
            + (["--comm", args.thread] if args.thread else [])
            + ["--sort", args.sort or ("symbol" if args.inclusive else "dso,symbol")],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line for line in report.stdout.splitlines() if line.strip() and not line.startswith("#")]
        print(f"{args.proxy}, {args.answer}, {args.connections} connections, {load.requests} requests under perf\n")
        print("\n".join(lines[: args.top]))
    return 0
