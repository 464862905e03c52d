"""Where a gateway's ledger lies, read by other means than the gateway's own: SQLite's library, PostgreSQL's psql.

The rows are told as they stand in the tables, so that what an API says can be held against them.
"""

import glob
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

ROWS = """SELECT r.id, r.generation, s.client, s.team, s.model, s.provider, s.key_name, s.endpoint, r.tags, r.status,
  r.outcome, r.attempts, r.started_unix_ms, r.charged_unix_ms, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens,
  r.output_tokens, r.reasoning_tokens, r.cost_nano_usd, r.cost_source, r.estimated
  FROM requests r JOIN series s ON s.id = r.series ORDER BY r.n"""
SPEND = "SELECT kind, name, sum(cost_nano_usd) AS cost_nano_usd FROM spend GROUP BY kind, name"
HOURS = "SELECT sum(requests) AS requests, sum(cost_nano_usd) AS cost_nano_usd, sum(unknown) AS unknown FROM hourly"

UNKNOWN = "unknown"
"""The outcome of a request of which only the reservation survived."""


class Ledger:
    """What both kinds have in common: rows, and what is spent, as dictionaries."""

    def query(self, sql: str) -> list[dict]:
        raise NotImplementedError

    def run(self, sql: str):
        """A statement that changes something, while no gateway runs."""
        raise NotImplementedError

    def rows(self) -> list[dict]:
        """Every request, in the order in which they came in."""
        rows = self.query(ROWS)
        for row in rows:
            row["tags"] = json.loads(row["tags"] or "[]")
        return rows

    def spend(self) -> dict[tuple[str, str], int]:
        """Nano-dollars that the roll-up gives for each `("client" or "team", name)`."""
        return {(row["kind"], row["name"]): int(row["cost_nano_usd"]) for row in self.query(SPEND)}

    def hours(self) -> dict:
        """The sums of the hourly roll-up."""
        return {name: int(value or 0) for name, value in self.query(HOURS)[0].items()}

    def close(self):
        pass


class Sqlite(Ledger):
    """A file of its own in a folder."""

    kind = "SQLite"

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "ledger.db"
        self.setting = f'database = "sqlite:{self.path}"'

    def query(self, sql: str) -> list[dict]:
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql)]

    def run(self, sql: str):
        with sqlite3.connect(self.path) as db:
            db.execute(sql)


class Postgres(Ledger):
    """A server of its own: a real one, in a temporary folder and on a socket in it."""

    kind = "PostgreSQL"
    port = 5432

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="keymux-pg-"))
        self.bin = bin_folder()
        if os.geteuid() == 0:
            # It refuses to run as root.
            shutil.chown(self.folder, "postgres")
        self._ctl("initdb", "-o", "--auth=trust --no-sync --locale=C --encoding=UTF8 --username=keymux")
        self.up()
        self.setting = f'database = "literal:postgres:///postgres?user=keymux&host={self.folder}&port={self.port}"'

    def _ctl(self, *args: str, may_fail: bool = False):
        argv = [str(self.bin / "pg_ctl"), *args, "-D", str(self.folder / "data")]
        if os.geteuid() == 0:
            argv = ["runuser", "-u", "postgres", "--", *argv]
        done = subprocess.run(argv, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
        assert may_fail or done.returncode == 0, f"{argv}: {done.stderr.decode(errors='replace')}"

    def up(self):
        socket = f"-k {self.folder} -p {self.port} {self.listening()}"
        self._ctl("start", "-w", "-l", str(self.folder / "server.log"), "-o", socket)

    def listening(self) -> str:
        """The server's options: on a socket of its folder only."""
        return "-c listen_addresses=''"

    def down(self):
        """At once, as if the power went."""
        self._ctl("stop", "-w", "-m", "immediate")

    def query(self, sql: str) -> list[dict]:
        return [json.loads(line) for line in self._psql(f"SELECT row_to_json(t) FROM ({sql}) t").splitlines()]

    def run(self, sql: str):
        self._psql(sql)

    def _psql(self, sql: str) -> str:
        argv = [str(self.bin / "psql"), "-X", "-At", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p", str(self.port), "-U", "keymux"]
        done = subprocess.run([*argv, "postgres", "-c", sql], capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()

    def close(self):
        self._ctl("stop", "-m", "immediate", "-s", may_fail=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def bin_folder() -> Path:
    """PostgreSQL's programs: Debian keeps them out of the way, by version."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_ctl")) or [shutil.which("pg_ctl")]
    assert found[-1], "no PostgreSQL: scripts/need stores installs it"
    return Path(found[-1]).parent


def open_ledger(kind: str, folder: Path) -> Ledger:
    """`sqlite` or `postgres`."""
    return Sqlite(folder) if kind == "sqlite" else Postgres()
