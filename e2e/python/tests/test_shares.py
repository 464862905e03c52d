"""What requests share: the bytes that all bodies may have, the envelope of their path, and state at a provider."""

import re

import harness
import raw

CHAT = "/v1/chat/completions"
AUTH = {"Authorization": f"Bearer {harness.TOKEN}"}
GOOD = {"model": "lab:m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
ANSWER = raw.response_bytes(b'{"id":"1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1}}')


def test_all_bodies_together_have_a_limit(workshop):
    """Who holds the bytes keeps others out, who is done lets them in; a small request always has room."""
    front, _ = workshop.in_front_of(raw.always(ANSWER), server='bodies_bytes_max = "100KiB"\n')
    large = raw.request_bytes(CHAT, {**GOOD, "user": "x" * 60_000}, AUTH)
    small = raw.request_bytes(CHAT, GOOD, AUTH)
    with raw.Connection(front.address) as stalled:
        stalled.send(large[:-1])
        while not re.search(r"^keymux_held_bodies_bytes 6\d{4}$", front.metrics(), re.M):
            pass
        answer = raw.exchange(front.address, large)
        assert (answer.status, answer.json["error"]["code"]) == (503, "too_many_bytes")
        assert answer.get("retry-after") == "1"
        assert raw.exchange(front.address, small).status == 200
        stalled.send(large[-1:])
        assert stalled.read_message().status == 200, "what has its share keeps it"
    assert raw.exchange(front.address, large).status == 200


def test_an_error_without_words_has_the_envelope_of_the_path(workshop):
    front, _ = workshop.in_front_of(raw.always(raw.response_bytes(b"", status="400 Bad Request")))
    told = [raw.exchange(front.address, raw.request_bytes(p + CHAT, GOOD, AUTH)).json["error"] for p in ("", "/api")]
    assert told[0]["type"] == "invalid_request_error" and told[1]["code"] == 400


def test_state_of_unknown_making_is_tried_where_only_one_account_could_hold_it(workshop):
    body = {"model": "lab:m", "input": "And back?"}
    file = {"type": "input_file", "file_id": "file-old"}
    for state in (
        {"previous_response_id": "resp_old"},
        {"conversation": "conv_old"},
        {"input": [{"role": "user", "content": [file]}]},
    ):
        for n, status in ((1, 200), (2, 404)):
            front, upstream = workshop.in_front_of(raw.always(ANSWER), n=n)
            answer = raw.exchange(front.address, raw.request_bytes("/v1/responses", {**body, **state}, AUTH))
            assert answer.status == status, answer.body
            asked = [r.json for r in upstream.requests if r.first.startswith("POST")]
            assert asked == ([{**body, **state, "model": "m"}] if status == 200 else [])
