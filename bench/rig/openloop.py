"""An open-loop load: requests leave when they are due, and latency counts from the instant they were due.

A closed loop (wrk) asks less of a server that stalls and so forgives it; this one does not. Requests that
find no idle connection wait for one, and that wait counts. Timers here are good to some microseconds
(`select` with the timer slack turned down): an event loop's usual millisecond would drown what is measured.
"""

import ctypes
import gc
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field

from . import upstream

_PR_SET_TIMERSLACK = 29


class Failed(RuntimeError):
    """A request got no good answer."""


@dataclass
class Sample:
    """Microseconds from the instant due, one entry a request."""

    first_us: list[float] = field(default_factory=list)
    total_us: list[float] = field(default_factory=list)


class _Connection:
    """One kept-alive connection and the answer that is coming in on it."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self.first = 0.0
        self._got = b""
        self._left = -1  # bytes of the body still to come; -1 before the head, -2 for a chunked body

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Small enough for the socket's buffer, always."""
        self.due, self.first, self._got, self._left = due, 0.0, b"", -1
        if self.socket.send(request) != len(request):
            raise Failed("the socket's buffer did not take a whole request")

    def receive(self, now: float) -> bool:
        """Takes what is there; True when the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise Failed("closed before the answer was whole")
        if not self.first:
            self.first = now
        if self._left == -1:
            self._got += data
            head, end, data = self._got.partition(b"\r\n\r\n")
            if not end:
                return False
            if b" 200 " not in head[:16]:
                raise Failed(head.split(b"\r\n")[0].decode(errors="replace"))
            self._left = _length(head)
        if self._left == -2:
            self._got = (self._got + data)[-8:]
            return self._got.endswith(b"0\r\n\r\n")
        self._left -= len(data)
        return self._left == 0


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return -2


def run(port: int, body: bytes, rate: int, seconds: float, connections: int = 32) -> Sample:
    """Sends `rate` requests a second for `seconds`, evenly spaced."""
    request = (
        f"POST {upstream.PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer sk-test-client\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    idle = deque(_Connection(port) for _ in range(connections))
    everyone = list(idle)
    gc.disable()  # a collection in the middle would be charged to the proxy
    try:
        return _drive(idle, request, int(rate * seconds), 1.0 / rate)
    finally:
        gc.enable()
        for connection in everyone:
            connection.socket.close()


def _drive(idle: deque[_Connection], request: bytes, count: int, gap: float) -> Sample:
    sample = Sample()
    busy: set[_Connection] = set()
    start = time.perf_counter() + 0.05
    sent = 0
    while sent < count or busy:
        now = time.perf_counter()
        while sent < count and idle and start + sent * gap <= now:
            connection = idle.popleft()
            connection.send(request, start + sent * gap)
            busy.add(connection)
            sent += 1
        if sent == count:
            patience = 10.0
        elif idle:
            patience = max(0.0, start + sent * gap - time.perf_counter())
        else:
            patience = 10.0
        ready, _, _ = select.select(busy, (), (), patience)
        if not ready and patience == 10.0:
            raise Failed("no answer for 10 s")
        now = time.perf_counter()
        for connection in ready:
            if connection.receive(now):
                sample.first_us.append((connection.first - connection.due) * 1e6)
                sample.total_us.append((now - connection.due) * 1e6)
                busy.discard(connection)
                idle.append(connection)
    return sample
