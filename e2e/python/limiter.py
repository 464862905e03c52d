"""Keys and limits in front of a server that has none: what makes "three keys" mean something for the real model.

Written apart from the gateway and the simulated provider, so that three readings of "a limit" meet in one test: a key
that is not known gets 401, more than its bucket holds or more at a time than it may gets 429 with Retry-After.
"""

import json
import threading
import time
from dataclasses import dataclass, field

import raw


@dataclass
class Key:
    """A bucket of `burst` requests, refilled at `rate` a second, and at most `concurrent` at a time."""

    burst: float
    rate: float
    concurrent: int
    level: float = field(init=False)
    then: float = field(default_factory=time.monotonic)
    open: int = 0
    served: int = 0
    refused: int = 0

    def __post_init__(self):
        self.level = self.burst

    def take(self) -> float | None:
        """None if admitted; else when to come back, in seconds."""
        now = time.monotonic()
        self.level = min(self.burst, self.level + (now - self.then) * self.rate)
        self.then = now
        if self.level < 1:
            self.refused += 1
            return (1 - self.level) / self.rate
        if self.open >= self.concurrent:
            self.refused += 1
            return 0.2
        self.level -= 1
        self.open += 1
        self.served += 1
        return None


class Limiter(raw.Upstream):
    """An upstream that checks the key and passes what it admits to the server behind."""

    def __init__(self, behind: tuple[str, int], keys: dict[str, Key]):
        self.behind, self.keys, self.lock = behind, keys, threading.Lock()
        self.unknown = 0
        super().__init__(self._answer)

    def _answer(self, client: raw.Connection, request: raw.Message):
        secret = request.get("x-api-key") or (request.get("authorization") or "").removeprefix("Bearer ")
        with self.lock:
            key = self.keys.get(secret)
            self.unknown += key is None
            wait = key.take() if key else None
        if key is None:
            return self._refuse(client, "401 Unauthorized", "invalid_api_key", {})
        if wait is not None:
            # Whole seconds, rounded up, as most providers say it.
            return self._refuse(client, "429 Too Many Requests", "rate_limit_exceeded", {"Retry-After": f"{int(wait) + 1}"})
        released = False

        def release():
            nonlocal released
            with self.lock:
                key.open -= not released
            released = True

        try:
            self._pass(client, request, release)
        finally:
            release()
        return False

    def _refuse(self, client, status: str, code: str, headers: dict[str, str]) -> bool:
        body = json.dumps({"error": {"message": code, "type": code, "param": None, "code": code}}).encode()
        client.send(raw.response_bytes(body, status=status, headers=headers))
        return True

    def _pass(self, client: raw.Connection, request: raw.Message, release):
        """Relays the answer. The slot is free before the last byte goes out: whoever has the whole answer may come
        again at once."""
        hop = ("connection", "keep-alive", "host", "transfer-encoding", "content-length")
        kept = {n: v for n, v in request.headers if n.lower() not in hop}
        method, target, _ = request.first.split(" ")
        with raw.Connection(self.behind) as server:
            # A real model on a busy machine takes its time; giving up here would look like a provider that resets.
            server.sock.settimeout(None)
            server.send(raw.request_bytes(target, request.body, {**kept, "Connection": "close"}, method))
            head = server.read_head()
            lines = [head.first, *(f"{n}: {v}" for n, v in head.headers if n.lower() not in hop[:2]), "Connection: close"]
            client.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
            if "chunked" in (head.get("transfer-encoding") or ""):
                while piece := server.read_piece():
                    client.send(raw.chunked(piece, end=False))
                last = b"0\r\n\r\n"
            else:
                last = server.read_exactly(int(head.get("content-length")))
            release()
            client.send(last)
