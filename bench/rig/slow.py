"""Thousands of slow streams: an upstream that says a little every few seconds and the clients that listen.

Both live in this process, on one event loop: 9,000 streams take 18,000 of the 20,000 descriptors that a
process may have on a stock Debian, and the proxy between them takes as many of its own.
"""

import asyncio

from . import answers, upstream

# One event a stream in this time: slow enough to be cheap, quick enough to see a lost stream soon.
PERIOD_S = 4.0
# The wheel turns this often, and serves its share of the streams at each turn.
_TURNS = 20

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class _UpstreamStream(asyncio.Protocol):
    """One connection from the proxy: reads a whole request, then belongs to the wheel."""

    def __init__(self, owner: "SlowUpstream"):
        self._owner = owner
        self._got = b""
        self.transport: asyncio.Transport | None = None
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if len(body) < int(lengths[0]) if lengths else not body.endswith(b"0\r\n\r\n"):
            return
        self._got = b""
        # The role and the first output at once: a gateway that holds back until the first output lets go here.
        self.transport.write(_HEAD + _chunk(self._owner.events[0]) + _chunk(self._owner.events[1]))
        self.sent = 2
        self._owner.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.open.discard(self)


class SlowUpstream:
    """The upstream side."""

    def __init__(self) -> None:
        self.events = answers.events()
        self.open: set[_UpstreamStream] = set()
        self.port = 0

    async def start(self) -> None:
        """Listens on a free port and starts the wheel."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _UpstreamStream(self), "127.0.0.1", 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        self._wheel = asyncio.create_task(self._turn())

    async def _turn(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(PERIOD_S / _TURNS)
            turn = (turn + 1) % _TURNS
            for index, stream in enumerate(list(self.open)):
                if index % _TURNS == turn:
                    stream.transport.write(_chunk(self.events[2 + stream.sent % (answers.SSE_EVENTS - 5)]))
                    stream.sent += 1

    def finish(self) -> None:
        """Ends every stream as a provider does: finish reason, usage, [DONE]."""
        for stream in self.open:
            stream.transport.write(b"".join(_chunk(event) for event in self.events[-3:]) + b"0\r\n\r\n")
        self.open.clear()

    async def stop(self) -> None:
        """Stops listening."""
        self._wheel.cancel()
        self._server.close()


class _ClientStream(asyncio.Protocol):
    """One client: counts events, notices the end."""

    def __init__(self, request: bytes):
        self._request = request
        self._tail = b""
        self.events = 0
        self.status = b""
        self.first = asyncio.get_running_loop().create_future()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.status:
            self.status = data[:12]
        # An event ends in an empty line that may be cut by the packet's end.
        both = self._tail[-1:] + data
        self.events += both.count(b"\n\n")
        self._tail = (self._tail + data)[-64:]
        if self.events and not self.first.done():
            self.first.set_result(None)
        if b"data: [DONE]\n\n" in self._tail and self._tail.endswith(b"0\r\n\r\n") and not self.done.done():
            self.done.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.first, self.done):
            if not future.done():
                future.set_result(False)

    @property
    def well(self) -> bool:
        """Answered with 200 and not closed."""
        return self.status.endswith(b"200") and not (self.done.done() and not self.done.result())


class SlowClients:
    """The client side."""

    def __init__(self, port: int):
        self._port = port
        body = answers.request(True)
        self._request = (
            f"POST {upstream.PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer sk-test-client\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.streams: list[_ClientStream] = []

    async def grow(self, count: int, at_once: int = 64) -> None:
        """Opens streams until there are `count`, `at_once` at a time, each until its first event came."""
        loop = asyncio.get_running_loop()
        gate = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with gate:
                _, stream = await loop.create_connection(lambda: _ClientStream(self._request), "127.0.0.1", self._port)
                self.streams.append(stream)
                await asyncio.wait_for(asyncio.shield(stream.first), 30)

        await asyncio.gather(*(one() for _ in range(count - len(self.streams))), return_exceptions=True)

    async def all_hear(self) -> int:
        """Waits until every stream that is well heard a further event, two periods at most; how many did."""
        before = [stream.events for stream in self.streams]
        deadline = asyncio.get_running_loop().time() + 2 * PERIOD_S
        while True:
            heard = sum(s.well and s.events > b for s, b in zip(self.streams, before, strict=True))
            if heard == len(self.streams) or asyncio.get_running_loop().time() > deadline:
                return heard
            await asyncio.sleep(0.1)

    def heard(self) -> int:
        """Events that have come so far, on all streams."""
        return sum(stream.events for stream in self.streams)

    async def completed(self, patience_s: float = 20.0) -> int:
        """How many streams ended as they should, [DONE] and the last chunk included."""
        await asyncio.wait([stream.done for stream in self.streams], timeout=patience_s)
        return sum(stream.well and stream.done.done() for stream in self.streams)

    def close(self) -> None:
        """Hangs up everywhere."""
        for stream in self.streams:
            stream.transport.abort()
