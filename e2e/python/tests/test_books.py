"""Whatever happens in whatever order (answers, failures, callers that leave, restarts clean and not, resets), the books
say one thing: one row for each request, roll-ups that are its sums. And never more than the budget."""

import json
import random
import threading
import time
import urllib.error
import urllib.request

import pytest

import crashes
import harness
import ledgers
import raw
from traffic import Caller, number

DOLLAR = 1_000_000_000
BUDGETS = {"tight": 0.002, "wide": 0.02, "open": None}
TEAM = 0.02
"""US dollars a day; `tight` and `wide` are of the team."""


def config(world: str, ledger: ledgers.Ledger) -> str:
    text = harness.SERVER + harness.provider("lab", f"{world}/lab/v1", n=4)
    text += f"\n[ledger]\n{ledger.setting}\n"
    text += f'\n[[price]]\nmodel = "lab:*"\ninput = {crashes.INPUT / 1000}\noutput = {crashes.OUTPUT / 1000}\n'
    text += f'\n[[team]]\nname = "t"\nbudget = {TEAM}\nreset = "daily"\n'
    for name, usd in BUDGETS.items():
        text += f'\n[[client]]\nname = "{name}"\nsecret = "literal:km-test-{name}"\n'
        text += f'team = "t"\nbudget = {usd}\nreset = "daily"\n' if usd else ""
    return text


def nano(dollars: float) -> int:
    return round(dollars * DOLLAR)


class Books:
    """A gateway with clients on a budget, and what was done with it."""

    def __init__(self, folder, kind: str, seed: int):
        spec = folder / "world.json"
        spec.write_text(json.dumps(crashes.world_spec()))
        self.dice = random.Random(seed)
        self.folder = folder / "gateway"
        self.world = harness.World(spec)
        self.ledger = ledgers.open_ledger(kind, folder / "ledger")
        self.past_days = 0
        self.past: dict[tuple[str, str], int] = {}
        """What was spent before the last reset."""
        self.n = 0
        self.gateway: harness.Gateway | None = None
        self.begin()

    def begin(self):
        self.gateway = harness.Gateway(config(self.world.url, self.ledger), self.folder)

    def burst(self):
        """Some requests at once, of all kinds."""
        failed: list[BaseException] = []

        def call(name: str, numbers: range, kinds: list):
            try:
                caller = Caller(self.gateway.address, f"config:{name}", f"km-test-{name}")
                for n, kind in zip(numbers, kinds):
                    caller.send(n, kind, f"lab:w-{n % 3}")
                caller.close()
            except BaseException as error:  # told below
                failed.append(error)

        threads = []
        for name in self.dice.choices(list(BUDGETS), weights=[2, 3, 1], k=6):
            numbers = range(self.n, self.n + self.dice.randrange(1, 6))
            self.n = numbers.stop
            kinds = [crashes.asked(n) for n in numbers]
            threads.append(threading.Thread(target=call, args=(name, numbers, kinds)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed[0]

    def killed(self):
        """Dies with requests under way."""
        caller = raw.Connection(self.gateway.address)
        body = crashes.KINDS[0].body(self.n, "lab:w-0").replace(b"sim: {", b'sim: {\\"delay_ms\\": 500, ')
        headers = {"Authorization": "Bearer km-test-wide", "x-keymux-tags": f"n-{self.n}"}
        self.n += 1
        caller.send(raw.request_bytes("/v1/chat/completions", body, headers))
        self.burst()
        self.gateway.child.kill()
        self.gateway.child.wait()
        self.gateway.child.stdout.close()
        caller.close()
        self.begin()

    def restarted(self):
        assert self.gateway.stop() == 0
        self.begin()

    def a_day_later(self):
        """The budgets begin anew. Clocks cannot be turned forward here, so what was spent is put into the past."""
        assert self.gateway.stop() == 0
        self.past_days += 1
        self.ledger.run(f"UPDATE spend SET day = {1000 - self.past_days} WHERE day > 1000")
        self.past = self.ledger.spend()
        self.begin()

    def quiet(self) -> dict:
        """Waits until nothing is under way, and all rows are in the database."""
        deadline = time.monotonic() + raw.PATIENCE_S
        while True:
            state = crashes.admin(self.gateway, "/admin/state")
            ledger = state["ledger"]
            if state["in_flight"] == 0 and ledger["buffered"] == 0 and ledger["log"]["rows"] == 0:
                return ledger
            assert time.monotonic() < deadline, state

    def check(self):
        """Everybody says the same."""
        ledger = self.quiet()
        assert ledger["log"]["open_reservations"] == 0, ledger
        rows = self.ledger.rows()
        own = [number(row["tags"]) for row in rows if row["outcome"] != ledgers.UNKNOWN]
        assert len(own) == len(set(own)) and len(rows) <= self.n, "a request has one row"
        sums: dict[tuple[str, str], int] = {}
        for row in rows:
            for payer in (("client", row["client"]), ("team", row["team"])):
                sums[payer] = sums.get(payer, 0) + (row["cost_nano_usd"] or 0)
        spend = self.ledger.spend()
        shown = {c["name"]: c for c in crashes.admin(self.gateway, "/admin/clients")["clients"]}
        for name, usd in BUDGETS.items():
            payer = ("client", f"config:{name}")
            total = sums.get(payer, 0)
            assert spend.get(payer, 0) == total
            today = total - self.past.get(payer, 0)
            if usd is not None:
                assert today <= nano(usd), f"{name} has spent {today}"
            one = crashes.admin(self.gateway, f"/admin/clients/config:{name}")
            self.shows(shown[name], total, today, usd)
            self.shows(one, total, today, usd)
            self.tells(name, total, today, usd)
        total = sums.get(("team", "t"), 0)
        team = total - self.past.get(("team", "t"), 0)
        assert team <= nano(TEAM), f"the team has spent {team}"
        self.shows(crashes.admin(self.gateway, "/admin/teams/t"), total, team, TEAM)
        self.shows(crashes.admin(self.gateway, "/admin/teams")["teams"][0], total, team, TEAM)
        for row in rows:
            self.generation(row)

    def shows(self, of: dict, total: int, today: int, budget: float | None):
        """The admin API's word."""
        assert (nano(of["spent"]["ever"]), nano(of["spent"]["today"])) == (total, today), of
        left = None if of["budget_left"] is None else nano(of["budget_left"])
        assert left == (None if budget is None else nano(budget) - today), of

    def ask(self, name: str, path: str) -> dict:
        """What a client is told over OpenRouter's surface."""
        headers = {"Authorization": f"Bearer km-test-{name}"}
        request = urllib.request.Request(f"{self.gateway.url}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=harness.PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def tells(self, name: str, total: int, today: int, budget: float | None):
        key, credits = self.ask(name, "/api/v1/key"), self.ask(name, "/api/v1/credits")
        assert (nano(key["usage"]), nano(key["usage_daily"])) == (total, today), key
        left = 0 if budget is None else nano(budget) - today
        assert (nano(credits["total_usage"]), nano(credits["total_credits"])) == (total, total + left), credits
        assert key["limit_remaining"] is None or nano(key["limit_remaining"]) == left, key

    def generation(self, row: dict):
        """Each request by itself: shown to whom it belongs to, and to nobody else."""
        owner = row["client"].removeprefix("config:")
        shown = self.ask(owner, f"/api/v1/generation?id={row['id']}")
        cost = None if shown["total_cost"] is None else nano(shown["total_cost"])
        assert cost == row["cost_nano_usd"], (shown, row)
        other = next(name for name in BUDGETS if name != owner)
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.ask(other, f"/api/v1/generation?id={row['id']}")
        assert refused.value.code == 404

    def close(self):
        if self.gateway.alive():
            self.gateway.stop()
        self.world.stop()
        self.ledger.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "seed"), [("sqlite", 0), ("sqlite", 1), ("sqlite", 2), ("postgres", 3), ("postgres", 4)])
def test_the_books_say_one_thing_and_never_more_than_the_budget(kind, seed, tmp_path):
    it = Books(tmp_path, kind, seed)
    try:
        for step in [it.burst, *it.dice.choices([it.burst, it.killed, it.restarted, it.a_day_later], weights=[4, 2, 1, 1], k=8)]:
            step()
            it.check()
        assert "panicked" not in it.gateway.log()
    finally:
        it.close()
