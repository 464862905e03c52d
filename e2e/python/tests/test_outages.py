"""The ledger's database is locked, damaged, full or gone, or the log before it cannot be written: rows wait, nobody is
served on a budget that cannot be written down, and nothing is lost on the way back."""

import contextlib
import json
import os
import resource
import sqlite3
import time
import urllib.request
from pathlib import Path

import pytest

import crashes
import harness
import ledgers
import raw
from traffic import Caller, Kind, Sent, billed, number

SPEC = {
    "provider": [
        {
            "name": "lab",
            "model": [{"id": "m", "input_nano_usd": 10, "output_nano_usd": 2000}],
            "account": [{"name": f"a-{i}", "key": [{"name": f"lab-{i}", "secret": f"sk-test-lab-{i}"}]} for i in (1, 2, 3)],
            "latency": {"ttft_ms": 1, "ttft_sigma": 0, "per_token_ms": 0.05, "output": {"mean": 9, "sigma": 0.3, "max": 20}},
        }
    ]
}
PLAIN = Kind("plain", more={"max_tokens": 50})
KEYS = {"config:budgeted": "km-test-budgeted", "config:free": "km-test-free"}


class Bench:
    """A world, a ledger, a gateway that can be ended and begun again, and what was sent."""

    def __init__(self, folder, kind: str, more: str = ""):
        spec = folder / "world.json"
        spec.write_text(json.dumps(SPEC))
        self.folder = folder / "gateway"
        self.world = harness.World(spec)
        self.ledger = ledgers.open_ledger(kind, folder / "ledger")
        self.more = more
        self.sent: list[Sent] = []
        self.gateway: harness.Gateway | None = None
        self.begin()

    def begin(self):
        text = harness.SERVER + harness.provider("lab", f"{self.world.url}/lab/v1")
        text += f'\n[ledger]\n{self.ledger.setting}\nlog_bytes = "1MiB"\n{self.more}\n'
        text += '\n[[price]]\nmodel = "lab:m"\ninput = 0.01\noutput = 2\n'
        text += f'\n[[client]]\nname = "budgeted"\nsecret = "literal:{KEYS["config:budgeted"]}"\nbudget = 1000\n'
        text += f'\n[[client]]\nname = "free"\nsecret = "literal:{KEYS["config:free"]}"\n'
        self.gateway = harness.Gateway(text, self.folder, ends_at_file_limits=False)
        self.callers = [Caller(self.gateway.address, client, key) for client, key in KEYS.items()]

    def end(self):
        for caller in self.callers:
            caller.close()
        assert self.gateway.stop() == 0
        assert "panicked" not in self.gateway.log(), self.gateway.log()

    def send(self, times: int = 1) -> list[int]:
        """One request of each client, so many times; the last statuses, budgeted first."""
        for _ in range(times):
            for caller in self.callers:
                self.sent.append(caller.send(len(self.sent), PLAIN, "lab:m"))
        return [one.status for one in self.sent[-len(self.callers) :]]

    def send_until(self, wanted, most: int) -> list[int]:
        """Sends until the statuses are as wanted."""
        for _ in range(most):
            if wanted(found := self.send()):
                return found
        raise AssertionError(f"after {most} requests: {found}; {self.state()}")

    def state(self) -> dict:
        headers = {"Authorization": f"Bearer {harness.ADMIN_TOKEN}"}
        request = urllib.request.Request(f"{self.gateway.admin}/admin/state", headers=headers)
        with urllib.request.urlopen(request, timeout=raw.PATIENCE_S) as response:
            return json.load(response)["ledger"]

    def until(self, wanted) -> dict:
        """Waits until the ledger is as wanted."""
        deadline = time.monotonic() + 2 * raw.PATIENCE_S
        while not wanted(state := self.state()):
            assert time.monotonic() < deadline, f"{state}\n{self.gateway.log()}"
        return state

    def until_told(self, event: str):
        deadline = time.monotonic() + raw.PATIENCE_S
        while event not in self.gateway.log():
            assert time.monotonic() < deadline and self.state(), f"no '{event}' in:\n{self.gateway.log()}"

    def settle(self):
        """All of SQLite's database of a gateway that has ended in its one file: a process may leave rows in its log."""
        with contextlib.closing(sqlite3.connect(self.ledger.path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in ("-wal", "-shm"):
            Path(f"{self.ledger.path}{suffix}").unlink(missing_ok=True)

    def damage(self) -> bytes:
        """Overwrites the database of a gateway that has ended; what was in it."""
        self.settle()
        good = self.ledger.path.read_bytes()
        self.ledger.path.write_bytes(b"?" * 100_000)
        return good

    def put_back(self, good: bytes):
        """The mended database, whole at once."""
        mended = self.ledger.path.with_name("mended")
        mended.write_bytes(good)
        os.replace(mended, self.ledger.path)

    def until_back(self):
        self.until(lambda s: s["state"] == "open" and s["log"]["rows"] == 0 and s["buffered"] == 0)
        self.until_told("ledger back")

    def check(self):
        """Ends everything; each request that was served has its row, and each row says what was billed."""
        self.end()
        bills = billed(self.world.records())
        rows = {number(row["tags"]): row for row in self.ledger.rows()}
        served = [one for one in self.sent if one.status == 200]
        lost = [one for one in served if one.n not in rows]
        assert not lost, f"{len(lost)} of {len(served)} have no row: {lost[:3]}"
        wrong = [(rows[n], bill) for n, bill in bills.items() if rows[n]["cost_nano_usd"] != bill["cost"]]
        assert not wrong, wrong[:3]
        assert len(served) == len(bills), "nobody was billed for what was refused"

    def close(self):
        if self.gateway.alive():
            self.gateway.stop()
        self.ledger.close()
        self.world.stop()


@pytest.fixture
def bench(tmp_path):
    """Makes one bench for a test, and clears it away."""
    made: list[Bench] = []

    def make(kind: str = "sqlite", more: str = "") -> Bench:
        made.append(Bench(tmp_path, kind, more))
        return made[0]

    yield make
    for one in made:
        one.close()


def away(state: dict) -> bool:
    return state["state"] == "away"


def test_requests_are_served_while_somebody_else_locks_the_database(bench):
    it = bench()
    assert it.send(5) == [200, 200]
    with sqlite3.connect(it.ledger.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert it.send(10) == [200, 200]
        state = it.until(away)
        assert "lock" in state["away"]["why"], state
        assert it.send(50) == [200, 200], "on a budget too: the log needs no database"
        it.until(lambda s: s["log"]["rows"] >= 120 and s["log"]["open_reservations"] == 0)
        it.until_told("ledger away")
        other.execute("COMMIT")
    it.until_back()
    it.check()


def test_nobody_is_served_without_the_database_if_the_configuration_says_so(bench):
    it = bench(more='when_unavailable = "refuse"')
    assert it.send(5) == [200, 200]
    with sqlite3.connect(it.ledger.path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        it.send_until(lambda found: found == [503, 503], most=20_000)
        other.execute("COMMIT")
    it.until_back()
    it.send_until(lambda found: found == [200, 200], most=20_000)
    it.check()


def test_rows_wait_while_the_database_is_damaged_also_over_a_restart(bench):
    it = bench()
    assert it.send(5) == [200, 200]
    it.end()
    good = it.damage()
    it.begin()
    # What the budget has spent cannot be read: nobody may spend on it. The others do not need it.
    assert it.send(20) == [503, 200]
    it.until(away)
    it.until_told("ledger away")
    it.end()
    assert it.ledger.path.read_bytes() == b"?" * 100_000, "left for whoever mends it"
    it.begin()
    assert it.send(20) == [503, 200]
    it.put_back(good)
    it.until_back()
    it.send_until(lambda found: found == [200, 200], most=20_000)
    it.check()


def test_what_nobody_can_say_now_is_not_shown_as_nothing(bench):
    """Amounts that are not known are null, and refused where a number must stand."""
    it = bench()
    assert it.send(3) == [200, 200]
    admin = crashes.admin
    before = {c["name"]: c for c in admin(it.gateway, "/admin/clients")["clients"]}
    assert all(before[name]["spent"]["ever"] > 0 for name in ("budgeted", "free")), before
    it.end()
    good = it.damage()
    it.begin()
    it.until(away)
    for name in ("budgeted", "free"):
        client = admin(it.gateway, f"/admin/clients/config:{name}")
        assert client["spent"] is None and client["budget_left"] is None, client
    for path in ("/api/v1/key", "/api/v1/credits"):
        request = raw.request_bytes(path, headers={"Authorization": f"Bearer {KEYS['config:free']}"}, method="GET")
        told = raw.exchange(it.gateway.address, request)
        assert told.status == 503 and "usage" not in told.json, told.json
    it.put_back(good)
    it.until_back()
    deadline = time.monotonic() + raw.PATIENCE_S
    while {c["name"]: c["spent"] for c in admin(it.gateway, "/admin/clients")["clients"]} != {n: c["spent"] for n, c in before.items()}:
        assert time.monotonic() < deadline, admin(it.gateway, "/admin/clients")
    it.check()


@pytest.mark.parametrize(
    ("kind", "what"),
    [("sqlite", "another keymux uses"), ("postgres", "another keymux works on its database")],
)
def test_a_second_gateway_on_the_same_database_does_not_begin(bench, kind, what):
    it = bench(kind)
    assert it.send() == [200, 200]
    text = it.gateway.config.read_text()
    folder = it.folder.with_name("second")
    if kind == "postgres":
        # A folder of its own does not help: rows of two gateways in one database would count each other's spending.
        text = text.replace(str(it.folder / "data"), str(folder / "data"))
    with pytest.raises(Exception, match=f"{what}.*server.data_dir"):
        harness.Gateway(text, folder, ends_at_file_limits=False)
    assert it.send() == [200, 200]
    it.check()


@pytest.mark.parametrize(("kind", "how"), [("sqlite", "gone"), ("sqlite", "emptied"), ("postgres", "emptied")])
def test_a_ledger_that_is_gone_is_no_new_start_for_budgets(bench, kind, how):
    """A volume that was not mounted, a file that a crash left empty, a database that was restored without its tables."""
    it = bench(kind)
    assert it.send(3) == [200, 200]
    text = it.gateway.config.read_text()
    it.end()
    aside = it.folder.with_name("aside")
    if kind == "postgres":
        it.ledger.run("ALTER SCHEMA public RENAME TO aside")
        it.ledger.run("CREATE SCHEMA public")
    else:
        it.settle()
        it.ledger.path.rename(aside)
        if how == "emptied":
            it.ledger.path.touch()
    with pytest.raises(Exception, match="the ledger was in it.*ledger.place.*all budgets are whole"):
        harness.Gateway(text, it.folder, ends_at_file_limits=False)
    if kind == "postgres":
        it.ledger.run("DROP SCHEMA public CASCADE")
        it.ledger.run("ALTER SCHEMA aside RENAME TO public")
    else:
        aside.replace(it.ledger.path)
    it.begin()
    assert it.send(2) == [200, 200], "put back, it is the one it was"
    it.check()


def test_a_database_that_finds_no_room_on_its_disk_is_waited_for(bench):
    it = bench()
    assert it.send(5) == [200, 200]
    pid = it.gateway.child.pid
    # No file may grow beyond this. The log is as large as it will ever be; what SQLite writes is not.
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    size = (it.folder / "data" / "ledger.log").stat().st_size
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    for _ in range(200):
        assert it.send(20) == [200, 200]
        if away(it.state()):
            break
    it.until(away)
    assert it.send(20) == [200, 200]
    it.until_told("ledger away")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    it.until_back()
    it.check()


def test_a_log_that_cannot_be_written_refuses_budgets_and_nobody_else(bench):
    it = bench()
    assert it.send(5) == [200, 200]
    pid = it.gateway.child.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    # The log goes round in its file: it comes to this place sooner or later.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (256 << 10, before[1]))
    it.send_until(lambda found: found == [503, 200], most=2_000)
    assert it.send(50) == [503, 200]
    it.until_told("log cannot be written")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    it.send_until(lambda found: found == [200, 200], most=20_000)
    it.until(lambda s: s["log"]["rows"] == 0 and s["buffered"] == 0 and s["state"] == "open")
    it.check()


def test_a_full_log_refuses_everybody_and_loses_nobody_it_served(bench):
    it = bench()
    it.end()
    good = it.damage()
    it.begin()
    it.send_until(lambda found: found == [503, 503], most=20_000)
    it.until_told("ledger log filling")
    assert it.state()["lost"] == 0
    it.put_back(good)
    it.until_back()
    it.send_until(lambda found: found == [200, 200], most=20_000)
    it.check()


def test_rows_wait_while_postgresql_is_stopped_and_started_again(bench):
    it = bench("postgres")
    assert it.send(10) == [200, 200]
    it.until(lambda s: s["log"]["rows"] == 0 and s["buffered"] == 0)
    it.ledger.down()
    assert it.send(50) == [200, 200], "what is spent is known, and the log takes the rest"
    it.until(away)
    assert it.send(50) == [200, 200]
    it.until_told("ledger away")
    it.ledger.up()
    it.until_back()
    it.ledger.down()
    it.end()
    it.begin()
    assert it.send(20) == [503, 200], "nobody spends while it is unknown what was spent"
    it.ledger.up()
    it.until_back()
    it.send_until(lambda found: found == [200, 200], most=20_000)
    it.check()
