"""The bytes of the benchmark: one chat request and the two answers that a static upstream gives to it.

Shaped like OpenAI's own, so that a gateway that looks for usage finds it where it really is. Sizes are
those of the reference figures: a request of 2.6 KB, 700 bytes of JSON, 25 KB in 101 events.
"""

import json

MODEL = "gpt-4o-mini"
JSON_BYTES = 700
SSE_BYTES = 25_000
SSE_EVENTS = 101
REQUEST_BYTES = 2_600

_WORDS = (
    "a load balancer spreads the calls of many clients over several keys so that each account gives what it may "
    "and nobody waits longer than the clocks of the quotas ask for which is the whole point of having one"
).split()


def _text(length: int) -> str:
    """Exactly `length` characters of plain words."""
    words = " ".join(_WORDS) + " "
    return (words * (length // len(words) + 1))[:length]


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def request(stream: bool, ask_usage: bool = True) -> bytes:
    """The body that every client sends: a system prompt, a short conversation, the usual parameters."""

    def body(filler: int) -> bytes:
        value = {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "You answer in \"plain\" words.\nBe brief."},
                {"role": "user", "content": _text(filler // 2)},
                {"role": "assistant", "content": "I see. What would you like to know?"},
                {"role": "user", "content": [{"type": "text", "text": _text(filler - filler // 2)}]},
            ],
            "temperature": 0.2,
            "max_tokens": 256,
            "stream": stream,
            "user": "bench",
        }
        if stream and ask_usage:
            value["stream_options"] = {"include_usage": True}
        return json.dumps(value).encode()

    return body(REQUEST_BYTES - len(body(0)))


def completion() -> bytes:
    """A chat completion of JSON_BYTES bytes with usage."""

    def body(filler: int) -> bytes:
        value = {
            "id": "chatcmpl-BenchBenchBenchBenchBenchBe",
            "object": "chat.completion",
            "created": 1763900000,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": _text(filler), "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 512,
                "completion_tokens": 24,
                "total_tokens": 536,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            },
            "service_tier": "default",
        }
        return _compact(value).encode()

    return body(JSON_BYTES - len(body(0)))


def stream(with_usage: bool = True) -> bytes:
    """The same as a stream: role, words, finish reason, usage and [DONE]: SSE_EVENTS events, SSE_BYTES bytes.

    Without usage: what a client must see that did not ask for the usage chunk, byte for byte.
    """
    all_events = events()
    if not with_usage:
        del all_events[-2]
    return b"".join(all_events)


def events() -> list[bytes]:
    """The events of the stream one by one; the first has a role and no text, the second is the first output."""
    deltas = SSE_EVENTS - 4  # the role, the finish reason, the usage and [DONE] are the others
    bare = sum(len(event) for event in _events([""] * deltas))
    letters, longer = divmod(SSE_BYTES - bare, deltas)
    words = [" " + "token"[i % 5] * (letters - 1 + (i < longer)) for i in range(deltas)]
    return _events(words)


def _events(words: list[str]) -> list[bytes]:
    def chunk(choices: list[dict], usage: dict | None) -> bytes:
        value = {
            "id": "chatcmpl-BenchBenchBenchBenchBenchBe",
            "object": "chat.completion.chunk",
            "created": 1763900000,
            "model": MODEL,
            "system_fingerprint": "fp_bench",
            "choices": choices,
            "usage": usage,
        }
        return b"data: " + _compact(value).encode() + b"\n\n"

    def choice(delta: dict, finish: str | None) -> list[dict]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    usage = {"prompt_tokens": 512, "completion_tokens": len(words), "total_tokens": 512 + len(words)}
    return [
        chunk(choice({"role": "assistant", "content": ""}, None), None),
        *(chunk(choice({"content": word}, None), None) for word in words),
        chunk(choice({}, "stop"), None),
        chunk([], usage),
        b"data: [DONE]\n\n",
    ]
