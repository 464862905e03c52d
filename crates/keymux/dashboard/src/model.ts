// What the gateway told, as the pages use it. Pure: messages in, state out; it knows no browser.

export type Level = 'bad' | 'warn' | 'good' | 'info';
export type KeyState = 'ready' | 'at its limit' | 'failing' | 'benched' | 'disabled';

/** `[dimension, size, source, daily, models]` */
type LimitRow = [string, number, 'preset' | 'declared' | 'learned', boolean, string[]];
/** `[state, detail, checked at, left $, of $, resets, expires at, warnings]` */
type CheckRow = [string, string | null, number, number | null, number | null, string | null, number | null, string[]];
type Row = readonly unknown[];

export interface Happened { id: number; at_unix_ms: number; level: Level; kind: string; subject: string; text: string }

interface Summary {
  mono_ms: number;
  unix_ms: number;
  draining: boolean;
  in_flight: number;
  waiting: [high: number, normal: number, low: number];
  waiting_bytes: number;
  waiting_clients: [name: string, waiting: number][];
  totals: [submitted: number, done: number, refused: number, cancelled: number];
  retry_budget: number;
  keys_left_out: number;
  ledger_away: string | null;
  rows: Record<string, Row | null>;
}
export interface Tick extends Summary { point: (number | null)[]; minute?: (number | null)[] }
export interface All extends Summary {
  version: string;
  started_unix_ms: number;
  blame: string[];
  reloadable: boolean;
  seconds: (number | null)[][];
  minutes: (number | null)[][];
  happened: Happened[];
}

export interface Limit {
  dimension: string; size: number; source: string; daily: boolean; models: string[];
  left: number; queued: number; account: string;
}
export interface Provider {
  id: number; name: string; inFlight: number; outUntil: number | null; noCapacity: [string, number][];
  /** Those that are not switched off, and those of them that are benched: also of keys that are not told. */
  keys: number; keysOut: number;
}
export interface Account {
  id: number; provider: Provider; name: string; inFlight: number;
  why: string | null; benchedUntil: number | null; limitedUntil: number | null; limits: Limit[];
}
/** What the last check of a key found out; money in dollars. */
export interface Check {
  state: string; detail: string | null; at: number; left: number | null; of: number | null; resets: string | null;
  expires: number | null; warnings: string[];
}
export interface Key {
  id: number; account: Account; name: string; path: string; state: KeyState; inFlight: number; answered: number;
  failed: Record<string, number>; limited: number; failures: number; why: string | null; until: number | null;
  firstOutputMs: number | null; limits: Limit[]; models: [model: string, why: string, until: number][];
  check: Check | null;
}
export interface Point {
  at: number; span: number; requests: number; answered: number; input: number; output: number; cost: number;
  unpriced: number; p50: number | null; p95: number | null; waiting: number; inFlight: number; failed: number[];
}

/** Seconds and minutes that are kept, as the gateway keeps them. */
const SECONDS = 600;
const MINUTES = 1_441;
const HAPPENED = 500;

export class Model {
  version = '';
  startedUnixMs = 0;
  blame: string[] = [];
  reloadable = false;
  now: Summary;
  seconds: Point[];
  minutes: Point[];
  happened: Happened[];
  private rows = new Map<string, Row>();
  private read: { keys: Key[]; accounts: Account[]; providers: Provider[] } | null = null;

  constructor(all: All) {
    this.version = all.version;
    this.startedUnixMs = all.started_unix_ms;
    this.blame = all.blame;
    this.reloadable = all.reloadable;
    this.now = all;
    this.seconds = all.seconds.map(point);
    this.minutes = all.minutes.map(point);
    this.happened = all.happened;
    this.take(all.rows);
  }

  tick(tick: Tick): void {
    this.now = tick;
    push(this.seconds, point(tick.point), SECONDS);
    if (tick.minute) push(this.minutes, point(tick.minute), MINUTES);
    this.take(tick.rows);
  }

  happens(entries: Happened[]): void {
    const last = this.happened.at(-1)?.id ?? 0;
    this.happened = [...this.happened, ...entries.filter((entry) => entry.id > last)].slice(-HAPPENED);
  }

  /** The same under another identity: components that were given it see that something is new. */
  again(): Model { return Object.assign(Object.create(Model.prototype) as Model, this); }

  get keys(): Key[] { return this.tables().keys; }
  get accounts(): Account[] { return this.tables().accounts; }
  get providers(): Provider[] { return this.tables().providers; }

  /** Time until an instant of the gateway's clock, by its last word. */
  until(monoMs: number): number { return monoMs - this.now.mono_ms; }

  private take(rows: Record<string, Row | null>): void {
    for (const name in rows) {
      const row = rows[name];
      if (row) this.rows.set(name, row);
      else this.rows.delete(name);
    }
    this.read = null;
  }

  private tables() {
    return (this.read ??= tables(this.rows));
  }
}

function push<T>(ring: T[], item: T, most: number): void {
  if (ring.length >= most) ring.splice(0, ring.length - most + 1);
  ring.push(item);
}

function point(row: (number | null)[]): Point {
  const n = (at: number) => row[at] ?? 0;
  return {
    at: n(0), span: n(1), requests: n(2), answered: n(3), input: n(4), output: n(5), cost: n(6), unpriced: n(7),
    p50: row[8] ?? null, p95: row[9] ?? null, waiting: n(10), inFlight: n(11), failed: row.slice(12).map((x) => x ?? 0),
  };
}

/** Numbers in names count as numbers; making one is dear, comparing by it cheap. */
const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/** Providers, accounts and keys, the keys in the order of their names. */
function tables(rows: Map<string, Row>) {
  const providers = new Map<number, Provider>();
  const accounts = new Map<number, Account>();
  const keys: Key[] = [];
  const kinds: Record<string, [name: string, row: Row][]> = { P: [], A: [], K: [] };
  for (const one of rows) kinds[one[0][0]!]?.push(one);
  for (const [name, still] of kinds['P']!) {
    const id = Number(name.slice(1));
    const [inFlight, outUntil, noCapacity, keys, keysOut] =
      (rows.get(`p${id}`) ?? [0, null, [], 0, 0]) as [number, number | null, [string, number][], number, number];
    providers.set(id, { id, name: still[0] as string, inFlight, outUntil, noCapacity, keys, keysOut });
  }
  for (const [name, still] of kinds['A']!) {
    const id = Number(name.slice(1));
    const [providerId, label, limitRows] = still as [number, string, LimitRow[]];
    const provider = providers.get(providerId);
    if (!provider) continue;
    const [inFlight, why, benchedUntil, limitedUntil, levels, queued] =
      (rows.get(`a${id}`) ?? [0, null, null, null, [], []]) as [number, string | null, number | null, number | null, number[], number[]];
    const limits = limitsOf(limitRows, levels, queued, `${provider.name}/${label}`);
    accounts.set(id, { id, provider, name: label, inFlight, why, benchedUntil, limitedUntil, limits });
  }
  for (const [name, still] of kinds['K']!) {
    const id = Number(name.slice(1));
    const [accountId, label, limitRows] = still as [number, string, LimitRow[]];
    const account = accounts.get(accountId);
    const row = rows.get(`k${id}`);
    if (!account || !row) continue;
    const [state, inFlight, answered, failed, why, until, firstOutputMs, levels, models] = row as
      [KeyState, number, number, Record<string, number>, string | null, number | null, number | null, number[], [string, string, number][]];
    const limited = failed['quota'] ?? 0;
    const failures = Object.values(failed).reduce((sum, n) => sum + n, 0) - limited;
    const path = `${account.provider.name}/${label}`;
    const limits = [...account.limits, ...limitsOf(limitRows, levels, [], path)];
    const checked = rows.get(`c${id}`) as CheckRow | undefined;
    const check = checked ? checkOf(checked) : null;
    keys.push({ id, account, name: label, path, state, inFlight, answered, failed, limited, failures, why, until, firstOutputMs, limits, models, check });
  }
  keys.sort((a, b) => byName(a.account.provider.name, b.account.provider.name) || byName(a.account.name, b.account.name) || byName(a.name, b.name));
  return { keys, accounts: [...accounts.values()], providers: [...providers.values()] };
}

function checkOf([state, detail, at, left, of, resets, expires, warnings]: CheckRow): Check {
  return { state, detail, at, left, of, resets, expires, warnings };
}

function limitsOf(rows: LimitRow[], levels: number[], queued: number[], account: string): Limit[] {
  return rows.map(([dimension, size, source, daily, models], at) => ({
    dimension, size, source, daily, models, left: levels[at] ?? 0, queued: queued[at] ?? 0, account,
  }));
}

/** The same thing, told several times in a row. */
export interface Run { first: Happened; last: Happened; times: number }

/** Entries in their order, what is told again and again as one: it would hide the rest. */
export function runs(entries: readonly Happened[]): Run[] {
  const all: Run[] = [];
  for (const entry of entries) {
    const run = all.at(-1);
    if (run && run.last.text === entry.text) {
      run.last = entry;
      run.times += 1;
    } else {
      all.push({ first: entry, last: entry, times: 1 });
    }
  }
  return all;
}

/** Sums of the points of the last so many milliseconds, and how long they are. */
export function lately(points: readonly Point[], ms: number) {
  const sum = { span: 0, requests: 0, answered: 0, tokens: 0, failed: 0 };
  for (let at = points.length - 1; at >= 0 && sum.span < ms; at--) {
    const point = points[at]!;
    sum.span += point.span;
    sum.requests += point.requests;
    sum.answered += point.answered;
    sum.tokens += point.input + point.output;
    sum.failed += point.failed.reduce((all, n) => all + n, 0);
  }
  return sum;
}

/** The time that a share of the answers of the last so many milliseconds needed: middle of the seconds' own figures. */
export function typical(points: readonly Point[], ms: number, which: 'p50' | 'p95'): number | null {
  const found: number[] = [];
  for (let at = points.length - 1, span = 0; at >= 0 && span < ms; at--) {
    const point = points[at]!;
    span += point.span;
    const value = point[which];
    if (value !== null) found.push(value);
  }
  if (found.length === 0) return null;
  found.sort((a, b) => a - b);
  return found[Math.floor(found.length / 2)]!;
}

/** What was spent since an instant: whole minutes, then the seconds after the last of them. */
export function spentSince(model: Pick<Model, 'minutes' | 'seconds'>, unixMs: number) {
  const spent = { nano: 0, unpriced: 0 };
  const done = model.minutes.filter((minute) => minute.at > unixMs);
  const after = Math.max(unixMs, done.at(-1)?.at ?? 0);
  for (const point of [...done, ...model.seconds.filter((second) => second.at > after)]) {
    spent.nano += point.cost;
    spent.unpriced += point.unpriced;
  }
  return spent;
}

/** The share of a limit that is used, between nothing and all. */
export const used = (limit: Limit): number =>
  limit.size > 0 ? Math.min(1, Math.max(0, 1 - limit.left / limit.size)) : 1;

/** The limit that binds first. */
export const tightest = (limits: readonly Limit[]): Limit | undefined =>
  limits.reduce<Limit | undefined>((worst, limit) => (!worst || used(limit) > used(worst) ? limit : worst), undefined);
