"""Requests of every kind, each with a number that stands in the ledger (as a tag) and in the simulated provider's record
(as a note), so that what the one wrote can be laid beside what the other billed.
"""

import json
import time
from dataclasses import dataclass, field

import raw

TOOL = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}


@dataclass(frozen=True)
class Kind:
    """One kind of request: where it goes, what it says, how its caller behaves."""

    name: str
    path: str = "chat/completions"
    more: dict = field(default_factory=dict)
    """Fields of the body beside model and prompt."""
    steer: dict = field(default_factory=dict)
    """What the simulated provider is told to do."""
    leaves: str = ""
    """`stream`: goes away in the middle of a stream; `plain`: before an answer in one piece has come."""
    cut: bool = False
    """The provider breaks off, so that nobody says what was used."""
    patience: str = ""
    """The caller lets keymux wait no longer than this."""

    @property
    def told(self) -> bool:
        """Whether the provider gets as far as telling what it billed, if it tells at all."""
        return not (self.leaves or self.cut or self.patience or "untold" in self.steer)

    def body(self, n: int, model: str) -> bytes:
        prompt = "sim: " + json.dumps({**self.steer, "note": note(n)})
        body = {"model": model, **self.more}
        match self.path:
            case "completions":
                body["prompt"] = prompt
            case "embeddings" | "responses":
                body["input"] = prompt
            case _:
                body["messages"] = [{"role": "user", "content": prompt}]
        return json.dumps(body).encode()


def note(n: int) -> str:
    return f"n-{n}"


def number(words: list[str]) -> int | None:
    """The number in a row's tags."""
    return next((int(word[2:]) for word in words if word.startswith("n-")), None)


@dataclass
class Sent:
    """A request as its caller saw it."""

    n: int
    kind: Kind
    client: str
    at: float
    """When it was sent, by the clock that processes share."""
    ended: float | None = None
    status: int = 0
    id: str = ""
    whole: bool = False
    """The answer came to its end."""


class Caller:
    """One caller, one connection at a time, one request after the other."""

    def __init__(self, address: tuple[str, int], client: str, key: str):
        self.address = address
        self.client = client
        self.key = key
        self.connection: raw.Connection | None = None

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def connect(self):
        """Raises `ConnectionRefusedError` if nobody listens any more."""
        if self.connection is None:
            self.connection = raw.Connection(self.address)

    def send(self, n: int, kind: Kind, model: str) -> Sent:
        """Sends one request and takes what comes. An answer that breaks off is a fact, not an error."""
        self.connect()
        sent = Sent(n, kind, self.client, time.time())
        headers = {"Authorization": f"Bearer {self.key}", "x-keymux-tags": note(n)}
        if kind.patience:
            headers["x-keymux-timeout"] = kind.patience
        if kind.path.startswith("messages"):
            headers["anthropic-version"] = "2023-06-01"
        try:
            self.connection.send(raw.request_bytes(f"/v1/{kind.path}", kind.body(n, model), headers))
            if kind.leaves == "plain":
                self._linger()
                self.close()
            else:
                self._take(sent)
        except (raw.Closed, ConnectionError):
            self.close()
        sent.ended = time.time()
        return sent

    def _linger(self):
        """Lets a few exchanges of another connection pass: by then the request has most likely got to its provider."""
        with raw.Connection(self.address) as other:
            for _ in range(3):
                other.send(raw.request_bytes("/healthz", method="GET"))
                other.read_message()

    def _take(self, sent: Sent):
        head = self.connection.read_head()
        sent.status, sent.id = head.status, head.get("x-request-id") or ""
        if "chunked" not in (head.get("transfer-encoding") or ""):
            self.connection.read_exactly(int(head.get("content-length") or 0))
        else:
            pieces = 0
            while self.connection.read_piece():
                pieces += 1
                if sent.kind.leaves == "stream" and pieces == 2:
                    self.close()
                    return
        sent.whole = True
        if (head.get("connection") or "").lower() == "close":
            self.close()


def billed(records: list[dict]) -> dict[int, dict]:
    """The provider's record by request: what all attempts of one come to."""
    sums: dict[int, dict] = {}
    for record in records:
        if not record["note"]:
            continue
        n = int(record["note"][2:])
        one = sums.setdefault(n, {"calls": 0, "input": 0, "cached": 0, "output": 0, "reasoning": 0, "cost": 0, "ids": []})
        one["calls"] += 1
        if record["status"] == 200 and record["billed_nano_usd"]:
            one["input"] += record["input_tokens"]
            one["cached"] += record["cached_tokens"]
            one["output"] += record["output_tokens"]
            one["reasoning"] += record["reasoning_tokens"]
            one["cost"] += record["billed_nano_usd"]
            one["ids"].append(record["answer_id"])
    return sums


def table(heads: list[str], lines: list[list]) -> str:
    """Columns, the first to the left, the others to the right."""
    lines = [heads, *([str(cell) for cell in line] for line in lines)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    rows = (
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )
    return "\n".join(rows)
