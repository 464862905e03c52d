// What needs no browser: numbers as people say them, messages into state, and the one sentence.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, count, countdown, duration, labels, list, money, rate, several } from '../src/format.ts';
import { health, nextTry } from '../src/health.ts';
import { grouped, spread } from '../src/spending.ts';
import { Model, lately, runs, spentSince, typical, used, type All, type Tick } from '../src/model.ts';

const BLAME = ['request', 'key', 'account', 'quota', 'capacity', 'target', 'provider', 'client', 'local'];

/** One second: so many requests, so many of them answered. */
const point = (at: number, requests = 0, answered = requests, more: { cost?: number; p50?: number | null; p95?: number | null } = {}) =>
  [at, 1_000, requests, answered, 10 * answered, 20 * answered, more.cost ?? 0, 0, more.p50 ?? null, more.p95 ?? null, 0, 0, ...BLAME.map(() => 0)];

/** A fleet of one provider with accounts `a` and `b`; the keys' rows can be other ones. */
function told(rows: Record<string, unknown[]> = {}, more: Partial<All> = {}): All {
  const key = ['ready', 0, 5, {}, null, null, 120, [], []];
  return {
    version: '1', started_unix_ms: 0, blame: BLAME, reloadable: true, seconds: [], minutes: [], happened: [],
    mono_ms: 100_000, unix_ms: 0, draining: false, in_flight: 0, waiting: [0, 0, 0], waiting_bytes: 0, waiting_clients: [],
    totals: [0, 0, 0, 0], retry_budget: 0, keys_left_out: 0, ledger_away: null,
    rows: {
      P0: ['openai'], p0: [0, null, [], 3, 0],
      A0: [0, 'a', [['requests', 100, 'learned', false, []]]], a0: [0, null, null, null, [25], [0]],
      A1: [0, 'b', []], a1: [0, null, null, null, [], []],
      K0: [0, 'a-1', []], k0: key, K1: [0, 'a-2', []], k1: key, K2: [1, 'b-1', []], k2: key,
      ...rows,
    },
    ...more,
  };
}
const OUT = ['benched', 0, 5, { key: 1 }, 'key', 130_000, null, [], []];

test('numbers are short and never wrong by more than their last digit', () => {
  assert.deepEqual([0, 7, 999, 1_000, 1_240, 9_960, 38_400, 999_600, 4_120_000].map(count), ['0', '7', '999', '1k', '1.2k', '10k', '38k', '1M', '4.1M']);
  assert.deepEqual([0, 0.01, 0.4, 7.25, 24.4, 1_200].map(rate), ['0', '<0.1', '0.4', '7.3', '24', '1.2k']);
  assert.deepEqual([0, 85, 999, 1_240, 42_000, 59_400, 61_000, 7_200_000, 200_000_000].map(duration), ['0 ms', '85 ms', '999 ms', '1.2 s', '42 s', '59 s', '1 min', '2 h', '2 d']);
  assert.deepEqual(labels([0, 0.5, 1], duration), ['0 ms', '', '1 ms'], 'of an empty chart');
  assert.deepEqual(labels([0, 500, 1_000, 1_500], duration), ['0 ms', '500 ms', '1 s', '1.5 s']);
  assert.deepEqual([-5, 1, 42_000, 61_000, 245_000].map(countdown), ['any moment', '1 s', '42 s', '1:01 min', '4:05 min']);
  assert.deepEqual([0, 10, 12_300_000, 4_250_000_000, 12_345_000_000_000].map(money), ['$0', '<$0.0001', '$0.0123', '$4.25', '$12,345']);
  assert.deepEqual([0, 512, 15_300, 4_120_000].map(bytes), ['0 B', '512 B', '15 kB', '4.1 MB']);
  assert.deepEqual([several(1, 'key'), several(1_200, 'key')], ['1 key', '1,200 keys']);
  assert.deepEqual([[], ['a'], ['a', 'b'], ['a', 'b', 'c'], ['a', 'b', 'c', 'd']].map((names) => list(names)), ['', 'a', 'a and b', 'a, b and c', 'a, b and 2 more']);
});

test('rows that change replace their like, rows that are gone go, the rest stays', () => {
  const model = new Model(told());
  assert.deepEqual(model.keys.map((key) => key.path), ['openai/a-1', 'openai/a-2', 'openai/b-1']);
  assert.equal(used(model.keys[0]!.limits[0]!), 0.75);
  const tick = { ...told(), rows: { k0: ['ready', 3, 6, { quota: 2, target: 1 }, null, null, 90, [], []], K2: null, k2: null }, point: point(1) } as unknown as Tick;
  model.tick(tick);
  const [first, second, third] = model.keys;
  assert.deepEqual([first!.inFlight, first!.answered, first!.limited, first!.failures], [3, 6, 2, 1]);
  assert.equal(second!.answered, 5);
  assert.equal(third, undefined);
  assert.equal(model.seconds.length, 1);
});

test('keys come in the order of their names, with numbers as numbers', () => {
  const key = ['ready', 0, 0, {}, null, null, null, [], []];
  const named = Object.fromEntries([['K3', [1, 'b-10', []]], ['k3', key], ['K4', [1, 'b-9', []]], ['k4', key], ['K5', [0, 'A', []]], ['k5', key]]);
  const names = () => new Model(told(named as Record<string, unknown[]>)).keys.map((k) => k.name);
  assert.deepEqual(names(), ['A', 'a-1', 'a-2', 'b-1', 'b-9', 'b-10']);
});

test('what a check found out stands with its key, and a key that was never checked has none', () => {
  const [first, second] = new Model(told({ c0: ['used up', 'its own limit is used up', 5, 0, 50, 'monthly', 9, ['expires']] })).keys;
  assert.deepEqual(first!.check, { state: 'used up', detail: 'its own limit is used up', at: 5, left: 0, of: 50, resets: 'monthly', expires: 9, warnings: ['expires'] });
  assert.equal(second!.check, null);
});

test('the past is as long as the gateway keeps it, and events come once', () => {
  const model = new Model(told({}, { seconds: Array.from({ length: 600 }, (_, i) => point(i)) }));
  model.tick({ ...told(), rows: {}, point: point(600) } as unknown as Tick);
  assert.deepEqual([model.seconds.length, model.seconds[0]!.at], [600, 1]);
  const event = (id: number) => ({ id, at_unix_ms: id, level: 'info' as const, kind: 'by_operator', subject: '', text: '' });
  model.happens([event(1), event(2)]);
  model.happens([event(2), event(3)]);
  assert.deepEqual(model.happened.map((e) => e.id), [1, 2, 3]);
});

test('the sentence names what is worst, and nothing that is well', () => {
  const say = (rows: Record<string, unknown[]> = {}, more: Partial<All> = {}) => {
    const { level, sentence } = health(new Model(told(rows, more)));
    return `${level}: ${sentence}`;
  };
  const busy = Array.from({ length: 60 }, (_, i) => point(i, 4));
  const losing = Array.from({ length: 60 }, (_, i) => point(i, 10, 9));
  assert.equal(say(), 'good: All is well: 3 keys ready, no requests just now.');
  assert.equal(say({}, { seconds: busy }), 'good: All is well: 4 requests a second on 3 keys.');
  assert.equal(say({ k1: OUT }), 'warn: One of 3 keys is out; the others carry the load. Nobody waits.');
  assert.equal(say({ k1: OUT, k2: OUT }, { waiting: [0, 1, 0] }), 'warn: 2 of 3 keys are out; the others carry the load. 1 request waits.');
  assert.equal(say({ k0: OUT, k1: OUT, k2: OUT }), 'bad: Nothing can be answered: all 3 keys are out.');
  assert.equal(say({}, { waiting: [1, 2, 0] }), 'warn: Busy: 3 requests wait for a turn.');
  assert.equal(say({ p0: [0, 140_000, []] }), 'bad: openai is out; the other keys carry the load. Nobody waits.');
  assert.equal(say({}, { seconds: losing }), "bad: 10 % of the last minute's requests got no answer. Nobody waits.");
  assert.equal(say({}, { ledger_away: 'no route to it' }), 'warn: Requests are served, but the ledger is away: what they cost waits in its log.');
  assert.equal(say({}, { draining: true, in_flight: 2 }), 'warn: Stopping: finishing 2 requests in flight.');
  const off = ['disabled', 0, 0, {}, null, null, null, [], []];
  assert.equal(say({ k0: off }), 'good: All is well: 2 keys ready, no requests just now.');
  assert.equal(say({ k0: off, k1: off, k2: off }), 'bad: Nothing can be answered: every key is switched off.');
});

test('of a fleet too large to be told, the sentence counts every key', () => {
  const say = (keys: number, out: number, rows: Record<string, unknown[]> = {}) =>
    health(new Model(told({ p0: [0, null, [], keys, out], ...rows }, { keys_left_out: keys - 3 }))).sentence;
  assert.equal(say(1_200, 0), 'All is well: 1,200 keys ready, no requests just now.');
  assert.equal(say(1_200, 1), 'One of 1,200 keys is out; the others carry the load. Nobody waits.');
  assert.equal(say(1_200, 2, { k1: OUT }), '2 of 1,200 keys are out; the others carry the load. Nobody waits.');
  assert.equal(say(1_200, 3, { k0: OUT, k1: OUT, k2: OUT }), '3 of 1,200 keys are out; the others carry the load. Nobody waits.');
  assert.equal(say(1_200, 1_200, { k0: OUT, k1: OUT, k2: OUT }), 'Nothing can be answered: all 1,200 keys are out.');
});

test('a key that is out says why and when it is tried again, by the gateway’s own clock', () => {
  const model = new Model(told({ k1: OUT, a1: [0, 'account', 160_000, null, [], []], k2: ['benched', 0, 0, {}, null, null, null, [], []] }));
  assert.deepEqual(health(model).concerns.map((c) => c.text), [
    'openai/a-2: its provider refuses it; tried again in 30 s',
    'openai/b-1: its account is out of credit; tried again in 1:00 min',
  ]);
  assert.equal(nextTry(model.keys[0]!), null);
});

test('rates are over the time that passed, and money is counted once', () => {
  const model = new Model(told({}, {
    minutes: [point(60_000, 1, 1, { cost: 5 }), point(120_000, 1, 1, { cost: 7 })],
    seconds: [point(119_000, 1, 1, { cost: 7, p50: 300 }), point(121_000, 2, 1, { cost: 11, p50: 100 }), point(122_000, 0, 0)],
  }));
  const { span, requests, answered } = lately(model.seconds, 2_000);
  assert.deepEqual([span, requests, answered], [2_000, 2, 1]);
  assert.equal(spentSince(model, 0).nano, 23);
  assert.equal(spentSince(model, 60_000).nano, 18, 'a minute that ended before does not count');
  assert.equal(typical(model.seconds, 3_000, 'p50'), 300);
  assert.equal(typical(model.seconds, 1_000, 'p50'), null);
});

test('what is told again and again is one line', () => {
  const entry = (id: number, text: string) => ({ id, at_unix_ms: id, level: 'warn' as const, kind: 'quota_used_up', subject: '', text });
  const told = runs([entry(1, 'a'), entry(2, 'b'), entry(3, 'b'), entry(4, 'b'), entry(5, 'a')]);
  assert.deepEqual(told.map((run) => [run.first.id, run.last.id, run.times]), [[1, 1, 1], [2, 4, 3], [5, 5, 1]]);
});

test('spending: the dearest first, and each hour of the span whether anything was spent in it or not', () => {
  const row = (more: Record<string, string | number>) => ({
    requests: 1, answered: 1, input_tokens: 10, cached_input_tokens: 4, output_tokens: 5, cost_nano_usd: 0, cost_unknown: 0, ...more,
  });
  const sums = grouped([row({ provider: 'p', key: 'a', cost_nano_usd: 3 }), row({ provider: 'q', key: 'a', cost_nano_usd: 9 }), row({ provider: 'p', key: 'b', cost_unknown: 1 })], ['provider', 'key']);
  assert.deepEqual(sums.map((group) => [group.name, group.nano, group.unpriced]), [['q/a', 9, 0], ['p/a', 3, 0], ['p/b', 0, 1]]);
  const told = { since: '2027-01-01T22:00:00Z', until: '2027-01-02T01:00:00Z', rows: [
    row({ team: 'x', hour: '2027-01-01T23:00:00Z', cost_nano_usd: 1 }), row({ team: 'y', hour: '2027-01-01T23:00:00Z', cost_nano_usd: 2 }),
    row({ team: 'z', hour: '2027-01-02T00:00:00Z', cost_nano_usd: 4 }), row({ team: '', hour: '2027-01-02T00:00:00Z', cost_nano_usd: 8 }),
  ] };
  const over = spread(told, 'hour', ['team'], ['y', 'x']);
  assert.deepEqual(over.starts.map((at) => new Date(at).toISOString().slice(11, 13)), ['22', '23', '00']);
  assert.deepEqual(over.bars, [[0, 0, 0], [2, 1, 0], [0, 0, 12]]);
  const days = { ...told, rows: [row({ day: '2027-01-02', cost_nano_usd: 5 }), row({ day: '2026-12-01', cost_nano_usd: 7 })] };
  assert.deepEqual(spread(days, 'day', [], []).bars, [[0], [5]], 'what lies outside is left out');
});
