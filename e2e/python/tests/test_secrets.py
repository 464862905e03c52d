"""A marked secret is poured through every sink that an operator or a caller can see, and must be found in none."""

import json
import urllib.error
import urllib.request

import harness
import raw

MARK = "sk-test-MARKED-0f9e8d7c"
TOKEN_MARK = "km-test-MARKED-1a2b3c4d"
CASES = [
    raw.response_bytes(b'{"id":"1","choices":[]}'),
    # A provider that says the key back, as some do, whole or in part.
    raw.response_bytes(
        json.dumps({"error": {"message": f"Incorrect API key provided: {MARK}", "code": "invalid_api_key"}}).encode(),
        status="401 Unauthorized",
    ),
    raw.response_bytes(b"", status="302 Found", headers={"Location": f"http://127.0.0.1:9/?key={MARK}"}),
    b"HTTP/1.1 200 OK\r\nX-Odd: " + MARK.encode() + b"\r\nContent-Length: 9\r\n\r\n{",
    f"garbage {MARK}\r\n\r\n".encode(),
]


def test_secrets_are_in_no_sink(workshop):
    answers = []

    def answer(connection, _request):
        connection.send(CASES[len(answers) % len(CASES)])
        answers.append(1)

    upstream = workshop.upstream(answer)
    config = harness.SERVER.replace(harness.TOKEN, TOKEN_MARK).replace(harness.ADMIN_TOKEN, f"{TOKEN_MARK}-admin")
    config += '[log]\nrequests = true\nlevel = "trace"\n'
    collector = workshop.upstream(raw.always(raw.response_bytes(b"")))
    config += f'[traces]\nendpoint = "{collector.url}"\nheaders = {{ authorization = "literal:Bearer {TOKEN_MARK}" }}\n'
    config += harness.provider("lab", f"{upstream.url}/v1", n=3).replace("sk-test-lab", MARK)
    front = workshop.gateway(config)
    seen = []
    for token in (TOKEN_MARK, TOKEN_MARK + "-wrong"):
        for stream in (False, True):
            for _ in range(2 * len(CASES)):
                body = {"model": "lab:m", "messages": [], "stream": stream}
                headers = {"Authorization": f"Bearer {token}"}
                got = raw.exchange(front.address, raw.request_bytes("/v1/chat/completions", body, headers))
                seen.append(got.head + got.body)
    assert len(upstream.requests) >= len(CASES), "every case was met"
    assert any(MARK in (r.get("authorization") or "") for r in upstream.requests)
    # A request line with a credential in it must not come back or be logged either.
    seen.append(raw.exchange(front.address, raw.request_bytes(f"/v1/models?key={TOKEN_MARK}", method="GET")).body)
    for path in ("/metrics", "/healthz", "/readyz", "/api/status", "/api/v1/status", "/"):
        for headers in ({}, {"Authorization": f"Bearer {TOKEN_MARK}-admin"}):
            request = urllib.request.Request(front.admin + path, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=raw.PATIENCE_S) as response:
                    seen.append(response.read() + str(response.headers).encode())
            except urllib.error.HTTPError as error:
                seen.append(error.read() + str(error.headers).encode())
    front.stop()
    seen.append(front.log().encode())
    assert TOKEN_MARK in collector.requests[0].get("authorization")
    seen += [request.body for request in collector.requests]
    files = [p for p in front.config.parent.rglob("*") if p.is_file() and p != front.config]
    seen += [p.read_bytes() for p in files]
    front.alive = lambda: True
    for text in seen:
        at = text.find(b"MARKED")
        assert at < 0, text[max(0, at - 300) : at + 300]
