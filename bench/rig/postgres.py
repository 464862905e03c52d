"""A PostgreSQL server of our own: in a folder of the bench, on a free port of the loopback, gone at the end."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from . import machine, process

# Debian keeps the server's programs out of the PATH, by version.
_PROGRAMS = Path("/usr/lib/postgresql")
# initdb and the server refuse to be root.
_USER = "postgres"


def _program(name: str) -> str:
    versions = sorted(_PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: int(path.parent.parent.name))
    path = str(versions[-1]) if versions else shutil.which(name)
    if path is None:
        raise machine.MissingTool(f"{name} is not installed: apt-get install postgresql")
    return path


def _as_user(command: list[str]) -> list[str]:
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", *command] if os.geteuid() == 0 else command


def prepare() -> None:
    """Installs it if it is not there; no daemon starts."""
    try:
        _program("initdb")
    except machine.MissingTool:
        subprocess.run([process.REPOSITORY / "scripts" / "need", "stores"], check=True)


class Server:
    """A server with one empty database."""

    def __init__(self, folder: Path):
        folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, _USER, _USER)
            # The way down to it must be open to the server's user.
            for parent in [folder.parent, folder.parent.parent]:
                if parent.name.startswith("keymux-bench-"):
                    parent.chmod(0o711)
        self.port = process.free_port()
        data = folder / "data"
        make = [_program("initdb"), "-D", str(data), "-U", _USER, "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(_as_user(make), check=True, stdout=subprocess.DEVNULL, cwd=folder)
        with (folder / "log").open("ab") as log:
            self._popen = subprocess.Popen(
                _as_user([_program("postgres"), "-D", str(data), "-p", str(self.port), "-k", str(folder)]),
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
            )
        self.url = f"postgres://{_USER}@127.0.0.1:{self.port}/postgres"
        self._wait(folder)

    def _wait(self, folder: Path) -> None:
        deadline = time.monotonic() + 30
        ready = [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode != 0:
            if self._popen.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise process.DidNotStart(f"postgres: {(folder / 'log').read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it at once (SIGINT: open connections are cut)."""
        if self._popen.poll() is None:
            self._popen.send_signal(2)
            self._popen.wait(20)
