// The ledger's sums as the spending page draws them. Pure.

export type Step = 'hour' | 'day';
export interface Row {
  [name: string]: string | number;
  requests: number; answered: number; input_tokens: number; cached_input_tokens: number; output_tokens: number;
  cost_nano_usd: number; cost_unknown: number;
}
export interface Group { name: string; nano: number; unpriced: number; requests: number; answered: number; input: number; cached: number; output: number }

/** What a row is of: "openai/org-a-1" where two names tell it apart. */
const named = (row: Row, by: readonly string[]) => by.map((name) => row[name]).join('/');

/** One for each name, the dearest first. */
export function grouped(rows: readonly Row[], by: readonly string[]): Group[] {
  const groups = rows.map((row) => ({
    name: named(row, by), nano: row.cost_nano_usd, unpriced: row.cost_unknown, requests: row.requests, answered: row.answered,
    input: row.input_tokens, cached: row.cached_input_tokens, output: row.output_tokens,
  }));
  return groups.sort((a, b) => b.nano - a.nano || b.requests - a.requests || a.name.localeCompare(b.name));
}

const LENGTH = { hour: 3_600_000, day: 86_400_000 };

/**
 * When each hour or day of the span begins (Unix ms), and what was spent in it: by each of `names`, and by all others in
 * the last place. Without `by` everything counts as others.
 */
export function spread(told: { since: string; until: string; rows: readonly Row[] }, step: Step, by: readonly string[], names: readonly string[]) {
  const length = LENGTH[step];
  const first = Math.floor(Date.parse(told.since) / length);
  const end = Math.ceil(Date.parse(told.until) / length);
  const starts = Array.from({ length: Math.max(1, end - first) }, (_, at) => (first + at) * length);
  const bars = starts.map(() => Array<number>(names.length + 1).fill(0));
  for (const row of told.rows) {
    const bar = bars[Math.floor(Date.parse(String(row[step])) / length) - first];
    if (!bar) continue;
    const at = by.length ? names.indexOf(named(row, by)) : -1;
    bar[at < 0 ? names.length : at]! += row.cost_nano_usd;
  }
  return { starts, bars };
}
