"""TLS on both sides against a private authority, and calls that must go by way of a proxy."""

import os
import shutil
import socket
import ssl
import threading
import time

import httpx
import openai
import pytest
import trustme

import harness
import ledgers
import raw

GOOD = raw.response_bytes(b'{"id":"1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1}}')
BODY = {"model": "lab:m", "messages": []}
AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A private authority: its certificate in a file, and a way to issue."""
    made = trustme.CA()
    made.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(made.file)
    return made


class TlsUpstream(raw.Upstream):
    """An upstream that speaks TLS with a certificate for `name`."""

    def __init__(self, answer, authority, name: str):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self.context)
        self.refused = 0
        super().__init__(answer)

    def _serve(self, sock):
        try:
            secured = self.context.wrap_socket(sock, server_side=True)
        except (ssl.SSLError, OSError):
            self.refused += 1
            sock.close()
            return
        super()._serve(secured)


def secured(workshop, upstream, *, host: str = "localhost", server: str = "", env=None):
    workshop.made.append(upstream)
    url = f"https://{host}:{upstream.address[1]}/v1"
    return workshop.gateway(harness.SERVER + server + harness.provider("lab", url, n=1), env=env)


def chat(front) -> raw.Message:
    return raw.exchange(front.address, raw.request_bytes("/v1/chat/completions", BODY, AUTH))


def test_a_private_authority_is_trusted_when_it_is_named(workshop, authority):
    upstream = TlsUpstream(raw.always(GOOD), authority, "localhost")
    front = secured(workshop, upstream, server=f'ca_file = "{authority.file}"\n')
    assert chat(front).status == 200 and upstream.requests[0].get("host").startswith("localhost")


def test_an_unknown_authority_is_not_trusted_and_no_key_is_sent(workshop, authority):
    upstream = TlsUpstream(raw.always(GOOD), authority, "localhost")
    front = secured(workshop, upstream)
    assert chat(front).status in (502, 503)
    assert upstream.requests == [] and upstream.refused


def test_a_certificate_for_another_name_is_not_trusted(workshop, authority):
    upstream = TlsUpstream(raw.always(GOOD), authority, "elsewhere.example")
    front = secured(workshop, upstream, server=f'ca_file = "{authority.file}"\n')
    assert chat(front).status in (502, 503)
    assert upstream.requests == []


def test_callers_may_come_by_tls(workshop, authority, tmp_path):
    leaf = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    leaf.private_key_pem.write_to_path(key)
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    upstream = workshop.upstream(raw.always(GOOD))
    config = harness.SERVER + f'tls = {{ cert = "{chain}", key = "{key}" }}\n'
    config += harness.provider("lab", f"{upstream.url}/v1", n=1)
    front = workshop.gateway(config, scheme="https", trusts=authority.file)
    url = f"https://localhost:{front.address[1]}/v1"
    context = ssl.create_default_context(cafile=str(authority.file))
    with openai.OpenAI(
        base_url=url, api_key=harness.TOKEN, max_retries=0, http_client=openai.DefaultHttpxClient(verify=context)
    ) as client:
        assert client.chat.completions.create(**BODY).id == "1"
    # Plain text on the TLS port is closed, and harms nobody.
    with raw.Connection(front.address) as plain:
        plain.send(raw.request_bytes("/healthz", method="GET"))
        plain.read_to_end()
    assert httpx.get(f"https://localhost:{front.address[1]}/healthz", verify=context).status_code == 200


class Proxy:
    """A proxy that knows CONNECT alone, remembers where to, and finds every name at the same place."""

    def __init__(self, behind: tuple[str, int]):
        self.behind = behind
        self.connects: list[raw.Message] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw.Connection(sock),), daemon=True).start()

    def _serve(self, client: raw.Connection):
        asked = client.read_head()
        self.connects.append(asked)
        with raw.Connection(self.behind) as server:
            client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(server.sock, client.sock), daemon=True)
            back.start()
            self._pump(client.sock, server.sock)
            back.join()
        client.close()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self._listener.close()


def test_https_proxy_is_obeyed(workshop, authority):
    upstream = TlsUpstream(raw.always(GOOD), authority, "provider.example")
    proxy = Proxy(upstream.address)
    workshop.made.append(proxy)
    front = secured(
        workshop,
        upstream,
        host="provider.example",
        server=f'ca_file = "{authority.file}"\n',
        env={"HTTPS_PROXY": proxy.url.replace("http://", "http://user:sim-pass@"), "NO_PROXY": "other.example"},
    )
    assert chat(front).status == 200
    (asked,) = proxy.connects
    assert asked.first.startswith(f"CONNECT provider.example:{upstream.address[1]} ")
    assert asked.get("proxy-authorization") == "Basic dXNlcjpzaW0tcGFzcw=="
    assert b"sk-test" not in asked.head, "the key is for the provider, not for the proxy"


def test_no_proxy_is_obeyed(workshop, authority):
    """0.0.0.0 is this machine too, but no loopback address, which would be called directly in any case."""
    for no_proxy, connects in (("other.example,0.0.0.0", 0), ("other.example", 1)):
        upstream = TlsUpstream(raw.always(GOOD), authority, "0.0.0.0")
        proxy = Proxy(upstream.address)
        workshop.made.append(proxy)
        env = {"HTTPS_PROXY": proxy.url, "NO_PROXY": no_proxy}
        front = secured(workshop, upstream, host="0.0.0.0", server=f'ca_file = "{authority.file}"\n', env=env)
        assert chat(front).status == 200 and len(proxy.connects) == connects


class TlsPostgres(ledgers.Postgres):
    """A PostgreSQL server that also listens on a port, with a certificate for `name`."""

    def __init__(self, authority, name: str):
        self.authority, self.name = authority, name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        super().__init__()

    def listening(self) -> str:
        issued = self.authority.issue_cert(self.name)
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(key, "postgres")
            shutil.chown(cert, "postgres")
        return f"-c listen_addresses=127.0.0.1 -c ssl=on -c ssl_cert_file={cert} -c ssl_key_file={key}"

    def url(self, more: str) -> str:
        return f'[ledger]\nlog_bytes = "1MiB"\ndatabase = "literal:postgres://keymux@localhost:{self.port}/postgres{more}"\n'


@pytest.fixture
def database(authority):
    made = []

    def make(name: str = "localhost") -> TlsPostgres:
        made.append(TlsPostgres(authority, name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ledger_state(front) -> str:
    request = raw.request_bytes("/admin/state", headers={"Authorization": f"Bearer {harness.ADMIN_TOKEN}"}, method="GET")
    host, port = front.admin.removeprefix("http://").split(":")
    return raw.exchange((host, int(port)), request).json["ledger"]["state"]


def until_told(front, words: str):
    """Waits until its log has the words."""
    deadline = time.monotonic() + raw.PATIENCE_S
    while words not in front.log():
        assert time.monotonic() < deadline and ledger_state(front), f"no '{words}' in:\n{front.log()}"


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_the_ledger_is_reached_over_tls_and_its_server_verified(workshop, authority, database, mode):
    server = database()
    lab = harness.provider("lab", "http://127.0.0.1:9/v1", n=1)
    ca = f'ca_file = "{authority.file}"\n'
    front = workshop.gateway(harness.SERVER + ca + lab + server.url(f"?sslmode={mode}"))
    deadline = time.monotonic() + raw.PATIENCE_S
    while ledger_state(front) != "open":
        assert time.monotonic() < deadline, front.log()
    how = server.query("SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'keymux'")
    assert how and all(one["ssl"] for one in how), how


def test_a_server_that_nobody_vouches_for_gets_no_row(workshop, authority, database):
    lab = harness.provider("lab", "http://127.0.0.1:9/v1", n=1)
    unknown = workshop.gateway(harness.SERVER + lab + database().url("?sslmode=verify-full"))
    until_told(unknown, "server.ca_file")
    assert ledger_state(unknown) != "open"
    ca = f'ca_file = "{authority.file}"\n'
    other = workshop.gateway(harness.SERVER + ca + lab + database("elsewhere.test").url("?sslmode=require"))
    until_told(other, "certificate")
    assert ledger_state(other) != "open", other.log()
