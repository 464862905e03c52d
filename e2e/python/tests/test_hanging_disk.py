"""The disk of the ledger's log hangs in the middle of a write: whoever has a budget is told so in time, whoever has none
is served, and when the disk goes on, every budget is as it was."""

import collections
import json
import subprocess

import harness
import raw
from test_admin_api import until
from test_clients import ANSWER, ASK, CENT, KEYS, ask, declared, rows
from test_ends import in_flight

# Loaded before the C library: while there is a file `hang` beside the log, a write to the log does not return.
HANGS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    ssize_t (*next)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    char link[64], path[PATH_MAX + 16] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, PATH_MAX) > 0 && strstr(path, "/ledger.log")) {
        strcpy(strrchr(path, '/'), "/hang");
        while (access(path, F_OK) == 0) {
            strcat(path, "s");
            close(open(path, O_CREAT | O_WRONLY, 0600));
            path[strlen(path) - 1] = 0;
            usleep(1000);
        }
    }
    return next(fd, bytes, count, at);
}
"""


def test_a_disk_that_hangs_costs_no_budget_anything_and_holds_up_nobody_without_one(workshop, tmp_path):
    source, library = tmp_path / "hangs.c", tmp_path / "hangs.so"
    source.write_text(HANGS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    upstream = workshop.upstream(raw.always(raw.response_bytes(ANSWER)))
    given = harness.provider("lab", f"{upstream.url}/v1", n=1)
    given += CENT + declared("one", "budget = 0.03") + declared("two")
    gateway = workshop.gateway(harness.SERVER + "workers = 2\n" + given, env={"LD_PRELOAD": str(library)})
    data = gateway.config.parent / "data"
    hang, hangs = data / "hang", data / "hangs"

    hang.touch()
    # Its row is written by the thread that flushes: that one hangs, and everybody's reservations wait for it.
    assert ask(gateway, KEYS["two"], ASK).status == 200
    until(hangs.exists)
    for _ in range(5):
        refused = ask(gateway, KEYS["one"], {**ASK, "max_tokens": 1}, **{"x-keymux-timeout": "100ms"})
        assert (refused.status, refused.json["error"]["code"]) == (503, "journal_unavailable")
    body = json.dumps({**ASK, "max_tokens": 1}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS['one']}"}
    with raw.Connection(gateway.address) as gone:
        gone.send(raw.request_bytes("/v1/chat/completions", body, headers=headers))
        until(lambda: in_flight(gateway) == 1)
    until(lambda: in_flight(gateway) == 0)
    for _ in range(8):
        assert ask(gateway, KEYS["two"], ASK).status == 200, "on either worker"
    assert len(upstream.requests) == 1 + 8, "nothing goes out on a budget that is not written down"

    hang.unlink()
    answers = [ask(gateway, KEYS["one"], {**ASK, "max_tokens": 1}).status for _ in range(4)]
    assert answers == [200, 200, 200, 402], "what came back came back once"
    assert gateway.stop() == 0
    charged = [(r["status"], r["cost_nano_usd"]) for r in rows(gateway) if r["client"] == "config:one"]
    assert collections.Counter(charged) == {(503, 0): 5, (499, 0): 1, (200, 10_000_000): 3, (402, 0): 1}
