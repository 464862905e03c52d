"""No death of the process overruns a budget, leaks a reservation or loses what a budget was charged for."""

import random

import pytest

import crashes
import harness
import ledgers
from traffic import table

KILLS = 50


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_again_and_again_no_budget_is_overrun_and_no_reservation_leaks(kind, tmp_path, capsys):
    spec = tmp_path / "world.json"
    spec.write_text(crashes.json.dumps(crashes.world_spec()))
    world = harness.World(spec)
    ledger = ledgers.open_ledger(kind, tmp_path / "ledger")
    try:
        toll = crashes.killed(ledger, world, tmp_path / "gateway", kills=KILLS, dice=random.Random(kind))
    finally:
        ledger.close()
        world.stop()
    with capsys.disabled():
        print(f"\n{table([ledger.kind, ''], toll.lines())}")
    assert toll.overrun == 0, toll.who
    assert toll.leaked == 0
    # A run in which nobody was caught in the act, or nobody ran out of money, proves nothing.
    assert toll.unknown >= KILLS / 4
    assert toll.billed >= 10 * KILLS
    assert toll.estimated and any(toll.refused.values())


def test_reservations_cover_bills_and_nothing_billed_is_left_bare():
    def covers(rows, bills):
        return crashes.covers(rows, [(True, bill) for bill in bills])

    assert covers([], []) and covers([], [0, 0]) and covers([9], [9]) and covers([9], [0])
    assert covers([9, 9], [3, 4]) and covers([9], [0, 4]) and covers([9], [4, 0]) and covers([9, 5], [0, 9, 0, 2])
    assert not covers([], [1]), "billed, and no row"
    assert not covers([3], [4]), "a row below the bill"
    assert not covers([9], [3, 4]), "one row for two"
    assert not covers([9, 9], [3]), "a row for nobody"
    assert not covers([9, 3], [4, 4]), "one of them too small"
    assert crashes.covers([3], [(False, 4)]) and not crashes.covers([], [(False, 4)]), "an estimate, and no row"
