"""A gateway that is killed again and again under load, and what its ledger says afterwards, laid beside the bill of the
simulated provider, request by request.

Half of the deaths come at named places on a row's way (the binary of `crates/keymux/examples/crashing.rs` ends itself
there), half at random ones (the real binary is killed from outside). Nothing waits for a clock: a death comes after so
many passes of a place, or after so many answers.
"""

import json
import signal
import subprocess
import threading
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import harness
import raw
from ledgers import UNKNOWN, Ledger
from traffic import Caller, Kind, Sent, billed, number

POINTS = ["reserved", "appended", "flushed", "applied", "released"]

NONE = {"cost": 0}
REFUSED = (402, 429, 503)
"""What keymux answers without asking a provider."""
RESERVED = 3
"""The ledger's number for a cost that is what was reserved."""
INPUT, OUTPUT = 10, 2000
"""Nano-dollars a token."""
CAP = {"max_tokens": 64}
STREAM = {"stream": True, **CAP}
USAGE = {"stream": True, "stream_options": {"include_usage": True}, **CAP}
KINDS = [
    Kind("plain", more=CAP),
    Kind("plain", more=CAP),
    Kind("stream", more=STREAM),
    Kind("stream, usage asked for", more=USAGE),
    Kind("two answers", more={"n": 2, **CAP}),
    Kind("refused by the provider", more=CAP, steer={"status": 400}),
    Kind("two answers, stream", more={"n": 2, **STREAM}),
    Kind("cut", more=STREAM, steer={"output_tokens": 40, "fault": {"truncate": {"after_events": 9}}}, cut=True),
    Kind("left", more=STREAM, steer={"output_tokens": 60}, leaves="stream"),
    Kind("plain", more=CAP),
    Kind("stream", more=STREAM),
    Kind("left before", more=CAP, leaves="plain"),
]


def asked(n: int) -> Kind:
    """The kind of the n-th request. Were more of them cut, the provider would rightly be taken for down."""
    kind = KINDS[n * 7 % len(KINDS)]
    return KINDS[0] if kind.cut and n // len(KINDS) % 4 else kind


@dataclass(frozen=True)
class Who:
    """A client of the configuration."""

    name: str
    team: str = ""
    usd: float | None = None
    callers: int = 2

    @property
    def id(self) -> str:
        return f"config:{self.name}"

    @property
    def key(self) -> str:
        return f"km-test-key-of-{self.name:-<12}"


TEAMS = {"blue": 0.30, "green": None}
CLIENTS = [
    Who("poor", usd=0.004),
    Who("middling", "blue", usd=0.05),
    Who("of-the-team", "blue", callers=3),
    Who("rich", "green", usd=1000.0, callers=4),
    Who("free", "green", callers=2),
    Who("alone", callers=1),
]


def budgeted(who: Who) -> bool:
    return who.usd is not None or bool(who.team and TEAMS[who.team])


def world_spec() -> dict:
    models = [{"id": f"w-{i}", "input_nano_usd": INPUT, "output_nano_usd": OUTPUT} for i in range(len(callers()))]
    # One key fails now and then, so that requests have more than one attempt.
    flaky = [{"kind": {"status": {"code": 500}}, "probability": 0.1}]
    accounts = [{"name": f"a-{i}", "key": [{"name": f"lab-{i}", "secret": f"sk-test-lab-{i}"}]} for i in range(1, 5)]
    accounts[0]["faults"] = flaky
    latency = {"ttft_ms": 4, "ttft_sigma": 0.3, "per_token_ms": 0.2, "output": {"mean": 20, "sigma": 0.4, "max": 64}}
    return {"provider": [{"name": "lab", "dialect": "openai", "model": models, "account": accounts, "latency": latency}]}


def callers() -> list[Who]:
    """One entry for each connection that calls; its place is the number of its model."""
    return [who for who in CLIENTS for _ in range(who.callers)]


def config(world: str, ledger: Ledger) -> str:
    text = harness.SERVER + "drain = \"20s\"\n" + harness.provider("lab", f"{world}/lab/v1", n=4)
    text += f"\n[ledger]\n{ledger.setting}\nlog_bytes = \"4MiB\"\n[checks]\nevery = \"0s\"\n"
    text += f'\n[[price]]\nmodel = "lab:*"\ninput = {INPUT / 1000}\noutput = {OUTPUT / 1000}\n'
    for name, usd in TEAMS.items():
        text += f'\n[[team]]\nname = "{name}"\n' + (f"budget = {usd}\n" if usd else "")
    for who in CLIENTS:
        text += f'\n[[client]]\nname = "{who.name}"\nsecret = "literal:{who.key}"\n'
        text += (f'team = "{who.team}"\n' if who.team else "") + (f"budget = {who.usd}\n" if who.usd else "")
    return text


class Stage:
    """The callers, and the gateway of the moment."""

    def __init__(self):
        self.changed = threading.Condition()
        self.epoch = 0
        self.address: tuple[str, int] | None = None
        self.over = False
        self.answered = 0
        self.idle = 0
        self.next = 0
        self.sent: list[tuple[int, int, Sent]] = []
        """Epoch, caller, request."""
        self.failed: BaseException | None = None
        self.threads = [threading.Thread(target=self._guarded, args=(i, who), daemon=True) for i, who in enumerate(callers())]
        for thread in self.threads:
            thread.start()

    def _guarded(self, index: int, who: Who):
        try:
            self._call(index, who)
        except BaseException as error:  # the stage tells it
            with self.changed:
                self.failed = error
                self.changed.notify_all()

    def _call(self, index: int, who: Who):
        seen = 0
        while True:
            with self.changed:
                self.idle += 1
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.over or self.epoch > seen)
                if self.over:
                    return
                self.idle -= 1
                seen, address = self.epoch, self.address
            caller = Caller(address, who.id, who.key)
            while self._one(caller, seen, index):
                pass
            caller.close()

    def _one(self, caller: Caller, epoch: int, index: int) -> bool:
        """One request; whether there is a point in another."""
        try:
            caller.connect()
        except OSError:
            return False
        with self.changed:
            n = self.next
            self.next += 1
        sent = caller.send(n, asked(n), f"lab:w-{index}")
        with self.changed:
            self.sent.append((epoch, index, sent))
            self.answered += sent.status == 200
            self.changed.notify_all()
        # An empty purse stays empty.
        return sent.status != 402

    def enter(self, address: tuple[str, int]):
        """A gateway listens; calls begin."""
        with self.changed:
            self.address, self.answered = address, 0
            self.epoch += 1
            self.changed.notify_all()

    def wait(self, answers: int, alive) -> None:
        """Until so many were answered. Deaths that come first are told by `alive`."""
        with self.changed:
            reached = lambda: self.failed or self.answered >= answers or not alive()
            assert self.changed.wait_for(reached, raw.PATIENCE_S * 2), f"{self.answered} answers of {answers}"
            if self.failed:
                raise self.failed

    def clear(self):
        """Until every caller has noticed that nobody listens any more."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.failed or self.idle == len(self.threads), raw.PATIENCE_S * 2)
            if self.failed:
                raise self.failed

    def end(self):
        with self.changed:
            self.over = True
            self.changed.notify_all()
        for thread in self.threads:
            thread.join(1)


class Victim:
    """A gateway that will not live long. It may die before it ever says where it listens."""

    def __init__(self, argv: list[str], log: Path):
        self.log = log.open("ab")
        self.child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, env=harness.clean_env()
        )
        line = self.child.stdout.readline()
        self.address = harness.split(json.loads(line)["listen"]) if line else None

    def alive(self) -> bool:
        return self.child.poll() is None

    def buried(self) -> float:
        code = self.child.wait(raw.PATIENCE_S)
        died = time.time()
        self.child.stdout.close()
        self.log.close()
        assert code == -signal.SIGKILL, f"it ended by itself ({code}); its errors:\n{Path(self.log.name).read_text()}"
        return died


@dataclass
class Toll:
    """What the deaths cost."""

    kills: int = 0
    requests: int = 0
    billed: int = 0
    rows: int = 0
    unknown: int = 0
    never_sent: int = 0
    lost: int = 0
    lost_oldest_ms: float = 0.0
    open_unbudgeted: int = 0
    estimated: int = 0
    below_bill: int = 0
    short: dict = field(default_factory=lambda: defaultdict(int))
    """Nano-dollars by which estimates are below the bill, by client."""
    over_by_estimates: int = 0
    overrun: int = 0
    leaked: int = 0
    who: list = field(default_factory=list)
    """Whose budget was overrun: the budget, what the ledger says, what the provider billed."""
    refused: dict = field(default_factory=lambda: defaultdict(int))

    def lines(self) -> list[list]:
        return [
            ["kills", self.kills],
            ["requests sent", self.requests],
            ["of these billed by the provider", self.billed],
            ["refused for want of money (402, 429)", sum(self.refused.values())],
            ["rows in the ledger", self.rows],
            ["rows marked unknown", self.unknown],
            ["  of these never sent to the provider", self.never_sent],
            ["rows lost (no budget, not flushed)", self.lost],
            ["  the oldest of them, ms before the death", round(self.lost_oldest_ms)],
            ["requests without a budget that were open at a death", self.open_unbudgeted],
            ["rows marked estimated", self.estimated],
            ["  of these below the bill", self.below_bill],
            ["  by nano-dollars in all", sum(self.short.values())],
            ["budgets that the bill passes by such estimates", self.over_by_estimates],
            ["budgets overrun", self.overrun],
            ["reservations leaked", self.leaked],
        ]


def killed(ledger: Ledger, world: harness.World, folder: Path, *, kills: int, dice) -> Toll:
    """Kills so many times, starts once more to mend everything, and compares."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "keymux.toml"
    path.write_text(config(world.url, ledger).replace("@DATA@", str(folder / "data")))
    stage = Stage()
    deaths: dict[int, float] = {}
    try:
        for turn in range(kills):
            died = die(stage, path, folder / "errors", turn, dice)
            # Who dies before it listens has no callers, and is no life.
            deaths.setdefault(stage.epoch, died)
    finally:
        stage.end()
    toll = Toll(kills=kills)
    mend(path, folder, toll)
    world.wait("lab", calls=0, open=0)
    compare(ledger, world.records("lab"), stage, deaths, toll)
    return toll


def die(stage: Stage, path: Path, log: Path, turn: int, dice) -> float:
    """One life. Returns when it ended."""
    named = turn % 2 == 0
    if named:
        point = POINTS[turn // 2 % len(POINTS)]
        # Reservations come by the hundred, batches by the dozen.
        passed = dice.randrange(120) if point == "reserved" else dice.randrange(6)
        argv = [harness.binary("KEYMUX_CRASHING_BIN"), str(path), point, str(passed)]
    else:
        argv = [harness.binary("KEYMUX_BIN"), "serve", "--config", str(path), "--print-addr"]
    victim = Victim(argv, log)
    try:
        if victim.address is not None:
            stage.enter(victim.address)
            if not named:
                stage.wait(1 + dice.randrange(120), victim.alive)
                victim.child.kill()
        died = victim.buried()
    finally:
        victim.child.kill()
    stage.clear()
    return died


def mend(path: Path, folder: Path, toll: Toll):
    """A clean life, in which what was open is charged; a second one finds nothing open and nothing waiting."""
    for _ in range(2):
        last = harness.Gateway(path.read_text(), folder)
        state = admin(last, "/admin/state")["ledger"]
        assert last.stop() == 0
        assert "panicked" not in last.log(), last.log()
    toll.leaked = state["log"]["open_reservations"]
    assert state["log"]["rows"] == 0 and state["log"]["damaged_bytes"] == 0, state
    assert "were open when the last process ended" not in last.log(), last.log()


def admin(gateway: harness.Gateway, path: str):
    request = urllib.request.Request(gateway.admin + path, headers={"Authorization": f"Bearer {harness.ADMIN_TOKEN}"})
    with urllib.request.urlopen(request, timeout=raw.PATIENCE_S) as response:
        return json.load(response)


def happened(gateway: harness.Gateway, what: str, n: int) -> list[str]:
    """The first n events about something, as the page is told of them."""
    told: list[str] = []
    request = urllib.request.Request(gateway.admin + "/admin/feed", headers={"Authorization": f"Bearer {harness.ADMIN_TOKEN}"})
    with urllib.request.urlopen(request, timeout=raw.PATIENCE_S) as feed:
        for line in feed:
            if not line.startswith(b"data: "):
                continue
            said = json.loads(line[6:])
            entries = said if isinstance(said, list) else said.get("happened", [])
            told += [entry["text"] for entry in entries if what in entry["text"]]
            if len(told) >= n:
                return told
    raise AssertionError(f"the feed ended; of {what} it told {told}")


def compare(ledger: Ledger, records: list[dict], stage: Stage, deaths: dict[int, float], toll: Toll):
    bills, rows = billed(records), ledger.rows()
    who = callers()
    own: dict[int, dict] = {}
    unknown: dict[tuple[int, int], list[dict]] = defaultdict(list)
    ends = sorted(deaths.items())
    for row in rows:
        if row["outcome"] == UNKNOWN:
            caller = int(row["model"].rsplit("-", 1)[1])
            # A life ended before the next one began: the first death after its beginning is its own.
            epoch = next(epoch for epoch, died in ends if row["started_unix_ms"] <= died * 1000 + 1)
            unknown[epoch, caller].append(row)
        else:
            n = number(row["tags"])
            assert n not in own, f"request {n} has two rows"
            own[n] = row
    toll.rows, toll.unknown = len(rows), len(rows) - len(own)
    toll.requests, toll.billed = len(stage.sent), sum(1 for bill in bills.values() if bill["cost"])
    by_life: dict[tuple[int, int], list[Sent]] = defaultdict(list)
    for epoch, caller, sent in stage.sent:
        by_life[epoch, caller].append(sent)
        toll.refused[sent.status] += sent.status in (402, 429)
        row = own.get(sent.n)
        if row is not None:
            check_row(sent, row, bills.get(sent.n), toll)
    assert set(unknown) <= set(by_life), "an unknown row of a caller that did not call"
    for life, list_sent in by_life.items():
        list_sent.sort(key=lambda sent: sent.n)
        check_life(who[life[1]], list_sent, own, unknown[life], bills, deaths.get(life[0]), toll)
    check_sums(rows, ledger, bills, stage, toll)


def check_row(sent: Sent, row: dict, bill: dict | None, toll: Toll):
    """A request that has its own row: it says what the provider billed."""
    cost = (bill or NONE)["cost"]
    row_cost = row["cost_nano_usd"] or 0
    assert row["client"] == sent.client, (sent, row)
    if sent.status:
        assert row["id"] == sent.id, (sent, row)
    if row["estimated"]:
        toll.estimated += 1
        toll.below_bill += row_cost < cost
        toll.short[sent.client] += max(0, cost - row_cost)
    else:
        assert row_cost == cost, f"request {sent.n} ({sent.kind.name}): {row} for {bill}"


def check_life(who: Who, list_sent: list[Sent], own, unknown: list[dict], bills, died: float | None, toll: Toll):
    """One caller up to one death: requests without a row are the last ones, and those on a budget have an unknown row
    each, but for one that had not got as far as its reservation."""
    missing = [sent for sent in list_sent if sent.n not in own]
    # Who goes away sends the next request before keymux has noticed.
    stayed = [sent for sent in list_sent if not sent.kind.leaves]
    gone = [sent for sent in missing if not sent.kind.leaves]
    assert gone == stayed[len(stayed) - len(gone) :], f"rows lost before rows that were kept: {gone}"
    if not budgeted(who):
        assert not unknown, f"unknown rows of {who}: {unknown}"
        for sent in missing:
            if sent.whole and sent.n in bills:
                toll.lost += 1
                toll.lost_oldest_ms = max(toll.lost_oldest_ms, ((died or sent.ended) - sent.ended) * 1000)
            else:
                toll.open_unbudgeted += 1
        return
    # What keymux refused took nothing, so its row may be lost without a trace.
    took = [(sent.kind, bills.get(sent.n)) for sent in missing if sent.status not in REFUSED]
    assert all(row["cost_source"] == RESERVED and row["estimated"] for row in unknown), unknown
    assert covers([row["cost_nano_usd"] for row in unknown], [(kind.told, (bill or NONE)["cost"]) for kind, bill in took]), (
        f"{who}: {unknown} do not cover {took}"
    )
    # At least so many of them stand for an attempt that never went out.
    toll.never_sent += max(0, len(unknown) - sum(1 for _, bill in took if bill))


def covers(rows: list[int], bills: list[tuple[bool, int]]) -> bool:
    """Whether the unknown rows can each be laid over a bill such that only what cost nothing is left bare. A row is no
    less than its bill, unless nobody could be told the bill (then it may have been settled to an estimate). Order says
    nothing: who goes away is overtaken by its own next request."""
    told = sorted((bill for known, bill in bills if known and bill), reverse=True)
    untold = sum(1 for known, bill in bills if bill and not known)
    rows = sorted(rows, reverse=True)
    enough = len(told) + untold <= len(rows) <= len(bills)
    return enough and all(row >= bill for row, bill in zip(rows, told))


def check_sums(rows: list[dict], ledger: Ledger, bills: dict[int, dict], stage: Stage, toll: Toll):
    """Nobody has spent more than they may: not by the ledger, not by the provider's bill."""
    by_ledger: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        by_ledger["client", row["client"]] += row["cost_nano_usd"] or 0
        by_ledger["team", row["team"]] += row["cost_nano_usd"] or 0
    spend = ledger.spend()
    for payer, cost in by_ledger.items():
        if payer[1]:
            assert spend.get(payer, 0) == cost, f"{payer}: the roll-up says {spend.get(payer)}, the rows {cost}"
    hours = ledger.hours()
    assert hours["requests"] == len(rows) and hours["unknown"] == toll.unknown, (hours, len(rows))
    by_bill: dict[tuple[str, str], int] = defaultdict(int)
    teams = {who.id: who.team for who in CLIENTS}
    for _, _, sent in stage.sent:
        cost = bills.get(sent.n, NONE)["cost"]
        by_bill["client", sent.client] += cost
        by_bill["team", teams[sent.client]] += cost
    limits = {("client", who.id): who.usd for who in CLIENTS} | {("team", name): usd for name, usd in TEAMS.items()}
    short = {("client", client): nano for client, nano in toll.short.items()}
    for client, nano in toll.short.items():
        short["team", teams[client]] = short.get(("team", teams[client]), 0) + nano
    for payer, usd in limits.items():
        if usd is not None:
            limit, bill = round(usd * 1e9), by_bill[payer]
            if by_ledger[payer] > limit or bill > limit + short.get(payer, 0):
                toll.overrun += 1
                toll.who.append((payer, limit, by_ledger[payer], bill))
            toll.over_by_estimates += bill > limit
