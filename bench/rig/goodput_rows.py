"""The rows of the goodput table: who limits what, what is asked when, what goes wrong, what is promised.

Windows are scaled to ten seconds and loads are such that whoever knows every limit answers everything: patience is
longer than any wait that the quotas force. Buckets begin full, so a load that is to press on them first drinks them
up (`drain`). Everything random is drawn from the row's seed, before anything runs.
"""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

PERIOD_S = 10
MODEL = "m"
CHAT, MESSAGES = "/chat/completions", "/messages"
TTFT_S, TOKEN_S, OUTPUT = 0.2, 0.002, 40


@dataclass(frozen=True)
class Limit:
    """`most` units in each period, or at a time."""

    dimension: str
    most: int
    shape: str = "bucket"


@dataclass(frozen=True)
class Fault:
    """What is wrong with an account from one second of the load to another; slow ones still answer."""

    kind: object
    from_s: float
    to_s: float | None = None
    slow: float | None = None

    @property
    def name(self) -> str:
        """As the provider's books call it."""
        return self.kind if isinstance(self.kind, str) else next(iter(self.kind))

    def holds(self, at_s: float) -> bool:
        return self.from_s <= at_s and (self.to_s is None or at_s < self.to_s)


@dataclass(frozen=True)
class Account:
    """One account with one key of the same name."""

    name: str
    limits: tuple[Limit, ...]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Provider:
    """A vendor, and whether it tells anything about its limits."""

    name: str
    dialect: str
    accounts: tuple[Account, ...]
    paths: tuple[str, ...] = (CHAT,)
    headers: str | None = None
    refusal_time: str | None = None
    refused_count: bool = False


@dataclass(frozen=True)
class Ask:
    """One request."""

    at_s: float
    path: str = CHAT
    input_tokens: int = 50
    output_tokens: int = OUTPUT
    stream: bool = False

    @property
    def service_s(self) -> float:
        """How long an idle provider takes."""
        return TTFT_S + TOKEN_S * (self.output_tokens - 1)

    def cost(self, dimension: str) -> float:
        """What it is charged by an OpenAI-like provider: the larger of input and `max_tokens`."""
        return max(self.input_tokens, self.output_tokens) if dimension == "total_tokens" else 1

    def body(self) -> str:
        """The provider counts a token for every four bytes of text."""
        steer = f'sim: {{"output_tokens": {self.output_tokens}}}\n'
        text = (steer + "all the ships of the harbour " * (self.input_tokens // 7 + 1))[: self.input_tokens * 4 - 4]
        text = text if len(text) >= len(steer) else steer
        return json.dumps(
            {
                "model": MODEL,
                "max_tokens": self.output_tokens,
                "stream": self.stream,
                "messages": [{"role": "user", "content": text}],
            }
        )


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    name: str
    title: str
    providers: tuple[Provider, ...]
    load: Callable[[random.Random], list[Ask]]
    goodput_min: float = 0.99
    wasted_max: float = 0.01
    # What a fault may add to the oracle's p99: the adaptive time-out for the first byte of a stream.
    p99_extra_s: float = 0.0
    declared: bool = False

    def asks(self, seed: int) -> list[Ask]:
        return sorted(self.load(random.Random(f"{self.name}/{seed}")), key=lambda ask: ask.at_s)

    def accounts(self) -> list[tuple[Provider, Account]]:
        return [(provider, account) for provider in self.providers for account in provider.accounts]


def poisson(dice: random.Random, from_s: float, to_s: float, rate: float) -> list[float]:
    """Instants of independent callers."""
    found, at = [], from_s
    while (at := at - math.log(1 - dice.random()) / rate) < to_s:
        found.append(at)
    return found


def steady(rate: float, seconds: float, **ask) -> Callable[[random.Random], list[Ask]]:
    return lambda dice: [Ask(at, **ask) for at in poisson(dice, 0, seconds, rate)]


def drained(depth: int, rate: float, seconds: float, **ask) -> Callable[[random.Random], list[Ask]]:
    """The depth of all buckets in two seconds, on top of the load."""

    def load(dice: random.Random) -> list[Ask]:
        return [Ask(at, **ask) for at in poisson(dice, 0, 2, depth / 2) + poisson(dice, 0, seconds, rate)]

    return load


def bursts(rate: float, times: float, every_s: float, length_s: float, seconds: float) -> Callable[[random.Random], list[Ask]]:
    def load(dice: random.Random) -> list[Ask]:
        found = poisson(dice, 0, seconds, rate)
        begin = every_s / 3
        while begin < seconds:
            found += poisson(dice, begin, begin + length_s, rate * (times - 1))
            begin += every_s
        return [Ask(at) for at in found]

    return load


def sizes(tokens_a_s: float, seconds: float) -> Callable[[random.Random], list[Ask]]:
    """From 100 to 30,000 tokens: many small requests and few that take a third of a key's quota."""

    def load(dice: random.Random) -> list[Ask]:
        found, spent = [], 0.0
        while spent < tokens_a_s * seconds:
            tokens = round(min(max(dice.lognormvariate(6.6, 1.1), 100), 30_000))
            found.append(tokens)
            spent += tokens
        instants = sorted(dice.uniform(0, seconds) for _ in found)
        return [Ask(at, input_tokens=tokens) for at, tokens in zip(instants, found, strict=True)]

    return load


def dialects(rate: float, depth: int, seconds: float, messages: float) -> Callable[[random.Random], list[Ask]]:
    def load(dice: random.Random) -> list[Ask]:
        instants = poisson(dice, 0, 2, depth / 2) + poisson(dice, 0, seconds, rate)
        return [Ask(at, path=MESSAGES if dice.random() < messages else CHAT) for at in instants]

    return load


def equal(count: int, *limits: Limit, faults: dict[int, tuple[Fault, ...]] | None = None) -> tuple[Account, ...]:
    return tuple(Account(f"key-{n}", limits, (faults or {}).get(n, ())) for n in range(1, count + 1))


def requests(most: int = 100, shape: str = "bucket") -> Limit:
    return Limit("requests", most, shape)


def _rows() -> list[Row]:
    def openai(*accounts: Account, **more) -> tuple[Provider, ...]:
        # Who sends none of its headers is not OpenAI and only speaks like it.
        name = "openai" if more.get("headers") != "none" else "generic"
        return (Provider(name, "openai", accounts, **more),)

    three = equal(3, requests())
    # The load needs the key again soon after each fault: else nothing would run into the next one.
    slow, fails, hangs = Fault({"slow": {"factor": 8.0}}, 4, 8, slow=8.0), Fault({"status": {"code": 500}}, 14, 17), Fault("hang", 27, 32)
    sick = {2: (slow, fails, hangs)}
    gone = {2: (Fault("bad_key", 6),), 3: (Fault({"payment": {}}, 10),)}
    return [
        Row("below", "70 % of the quota", openai(*three), steady(21, 25)),
        Row("over", "130 % of the request quota, windows", openai(*equal(3, requests(shape="window"))), steady(39, 22)),
        Row("over-bucket", "130 % of the request quota, buckets", openai(*three), drained(300, 39, 20)),
        Row(
            "tokens",
            "token-bound, 100 to 30,000 tokens, 120 %",
            openai(*equal(3, Limit("total_tokens", 100_000))),
            sizes(36_000 + 300_000 / 20, 20),
        ),
        Row(
            "dialects",
            "quotas 1:3:6 in three dialects, 120 %",
            (
                Provider("openai", "openai", (Account("one", (requests(60),)),)),
                Provider("openrouter", "openrouter", (Account("three", (requests(180),)),), paths=(CHAT, MESSAGES), refusal_time="retry_after"),
                Provider("anthropic", "anthropic", (Account("six", (requests(360),)),), paths=(MESSAGES,)),
            ),
            dialects(72, 600, 18, 0.7),
            goodput_min=0.98,
            wasted_max=0.03,
        ),
        Row("faults", "one key slow, then failing, then hanging", openai(*equal(4, requests(), faults=sick)), steady(33, 38, stream=True), p99_extra_s=2.0),
        Row(
            "keys-out",
            "401 and 402 midway",
            (Provider("openrouter", "openrouter", equal(4, requests(), faults=gone), paths=(CHAT, MESSAGES), refusal_time="retry_after"),),
            steady(16, 22),
        ),
        Row("bursts", "bursts of 10 x", openai(*three), bursts(15, 10, 10, 2, 24)),
        Row(
            "slots",
            "concurrency caps, 115 %",
            openai(*equal(3, Limit("concurrent", 8)), headers="none"),
            steady(24 / (TTFT_S + TOKEN_S * (OUTPUT - 1)) * 1.15, 15),
            goodput_min=0.98,
            wasted_max=0.03,
        ),
        Row("refused-count", "110 %, refused requests count", openai(*three, refused_count=True), drained(300, 33, 22)),
        Row(
            "retry-after",
            "130 %, no headers, Retry-After only",
            openai(*three, headers="none", refusal_time="retry_after"),
            drained(300, 39, 20),
            goodput_min=0.98,
            wasted_max=0.03,
        ),
        Row(
            "silent",
            "130 %, no headers, no Retry-After",
            openai(*three, headers="none", refusal_time="none"),
            drained(300, 39, 20),
            goodput_min=0.98,
            wasted_max=0.03,
        ),
        Row("declared", "130 %, limits declared", openai(*three), drained(300, 39, 20), declared=True, wasted_max=0.0),
    ]


ROWS = {row.name: row for row in _rows()}
