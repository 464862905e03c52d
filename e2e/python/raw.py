"""HTTP/1.1 by hand, on both sides of the gateway.

An HTTP library repairs, merges and refuses what these tests are about. So the client sends exactly the bytes it is
given and keeps exactly the bytes it gets, and the upstream answers with exactly the bytes it is told to.
"""

import json
import socket
import threading
from dataclasses import dataclass, field

PATIENCE_S = 20.0
"""How long anything may take before a test fails; nothing waits that long when all is well."""


class Closed(Exception):
    """The peer closed before a whole message had come."""


@dataclass
class Message:
    """A request or response: its first line, headers in order (names as sent), and body without transfer coding."""

    first: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    head: bytes = b""
    pieces: list[bytes] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.first.split(" ", 2)[1])

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    def all(self, name: str) -> list[str]:
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def json(self):
        return json.loads(self.body)


class Connection:
    """One TCP connection: raw bytes out, messages in."""

    def __init__(self, address: tuple[str, int] | socket.socket):
        self.sock = address if isinstance(address, socket.socket) else socket.create_connection(address, PATIENCE_S)
        self.sock.settimeout(PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data: bytes):
        self.sock.sendall(data)

    def _more(self):
        got = self.sock.recv(65536)
        if not got:
            raise Closed(self.buffer[:200])
        self.buffer += got

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def read_exactly(self, n: int) -> bytes:
        while len(self.buffer) < n:
            self._more()
        found, self.buffer = self.buffer[:n], self.buffer[n:]
        return found

    def read_head(self) -> Message:
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        return Message(first, headers, head=head)

    def read_piece(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int(self._until(b"\r\n").split(b";")[0], 16)
        piece = self.read_exactly(size)
        self._until(b"\r\n")
        return piece

    def read_message(self, *, response: bool = True) -> Message:
        """A whole message. Raises `Closed` if the peer closes before its end as the framing tells it."""
        message = self.read_head()
        if "chunked" in (message.get("transfer-encoding") or "").lower():
            while piece := self.read_piece():
                message.pieces.append(piece)
            message.body = b"".join(message.pieces)
        elif (length := message.get("content-length")) is not None:
            message.body = self.read_exactly(int(length))
        elif response and message.status not in (204, 304):
            message.body = self.read_to_end()
        return message

    def read_to_end(self) -> bytes:
        """Everything until the peer closes or resets."""
        try:
            while got := self.sock.recv(65536):
                self.buffer += got
        except ConnectionResetError:
            pass
        found, self.buffer = self.buffer, b""
        return found

    def is_closed(self) -> bool:
        """Waits for the peer's close. False if it sends something instead, or nothing for as long as we wait."""
        try:
            return self.buffer == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def request_bytes(
    path: str, body: bytes | dict | None = None, headers: dict[str, str] | None = None, method: str = "POST"
) -> bytes:
    """An ordinary request as bytes."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    given = {"Host": "localhost", **(headers or {})}
    if body is not None:
        given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **given}
    lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in given.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def exchange(address: tuple[str, int], data: bytes) -> Message:
    """One request on a connection of its own."""
    with Connection(address) as connection:
        connection.send(data)
        return connection.read_message()


def response_bytes(body: bytes, *, status: str = "200 OK", headers: dict[str, str] | None = None) -> bytes:
    """An ordinary response as bytes."""
    given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status}", *(f"{n}: {v}" for n, v in given.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """Pieces in chunked coding."""
    out = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces)
    return out + (b"0\r\n\r\n" if end else b"")


class Upstream:
    """A provider that does what a test says.

    `answer(connection, request)` is called for each request, in a thread of the connection; the connection is closed
    when it returns anything but True. `requests` keeps what came, byte for byte.
    """

    def __init__(self, answer):
        self.answer = answer
        self.requests: list[Message] = []
        self.arrived = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self._listener.getsockname()
        self.url = "http://{}:{}".format(*self.address)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket):
        connection = Connection(sock)
        # An idle connection of the gateway's pool may stay as long as it likes.
        sock.settimeout(None)
        try:
            while True:
                request = connection.read_message(response=False)
                with self.arrived:
                    self.requests.append(request)
                    self.arrived.notify_all()
                if self.answer(connection, request) is not True:
                    break
        except (Closed, OSError, ValueError):
            pass
        finally:
            # Without this a close would lose what is still on its way out when unread bytes wait on our side.
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            sock.close()

    def wait_for(self, n: int) -> list[Message]:
        """Waits until `n` requests have come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= n, PATIENCE_S), "the upstream was not called"
            return list(self.requests)

    def close(self):
        self._listener.close()
        for sock in self._open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


def always(data: bytes):
    """An answer that is always the same bytes, on connections that are kept."""

    def answer(connection: Connection, _request: Message) -> bool:
        connection.send(data)
        return True

    return answer
