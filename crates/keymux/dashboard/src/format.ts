// Numbers, times and money, as a person says them. Pure: the same everywhere, whatever the machine's language.

const GROUPS = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** A count, short: 940, 1.2k, 38k, 4.1M. */
export function count(n: number): string {
  const size = Math.abs(n);
  if (size < 1_000) return String(Math.round(n));
  for (const [unit, name] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']] as const) {
    if (size >= unit * 0.9995) return `${trim(n / unit)}${name}`;
  }
  return String(Math.round(n));
}

/** A count in full: 12,345. */
export const whole = (n: number): string => GROUPS.format(n);

/** A rate: 0, 0.4, 7.2, 24, 1.2k. */
export function rate(n: number): string {
  if (n === 0) return '0';
  if (n < 0.05) return '<0.1';
  return n < 10 ? trim(n) : count(n);
}

/** A duration, to two digits of its unit: 85 ms, 1.2 s, 42 s, 4 min, 3 h, 2 d. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 59_500) return `${ms < 9_950 ? trim(ms / 1_000) : Math.round(ms / 1_000)} s`;
  if (ms < 59.5 * 60_000) return `${Math.round(ms / 60_000)} min`;
  return ms < 47.5 * 3_600_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} d`;
}

/** The labels of an axis: of neighbours that read the same only the last has one. */
export function labels(values: readonly number[], show: (n: number) => string): string[] {
  const shown = values.map(show);
  return shown.map((label, at) => (label === shown[at + 1] ? '' : label));
}

/** How long until something that is due then: "42 s", "4:05", or "any moment". */
export function countdown(ms: number): string {
  if (ms <= 0) return 'any moment';
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} min`;
  return duration(ms);
}

/** Nano-dollars. */
export function money(nano: number): string {
  const dollars = nano / 1e9;
  if (dollars === 0) return '$0';
  if (dollars < 0.0001) return '<$0.0001';
  if (dollars < 0.1) return `$${dollars.toFixed(4)}`;
  return dollars < 1_000 ? `$${dollars.toFixed(2)}` : `$${GROUPS.format(dollars)}`;
}

/** A share: 0 %, <1 %, 42 %. */
export function percent(share: number): string {
  return share > 0 && share < 0.01 ? '<1 %' : `${Math.round(share * 100)} %`;
}

/** Bytes: 512 B, 15 kB, 4.1 MB. */
export function bytes(n: number): string {
  return count(n).replace(/(\D?)$/, ' $1B');
}

/** The hour of the day. */
export function clock(unixMs: number): string {
  const at = new Date(unixMs);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

/** "1 key", "3 keys". */
export const several = (n: number, one: string, many = `${one}s`): string => `${whole(n)} ${n === 1 ? one : many}`;

/** "a", "a and b", "a, b and 3 more". */
export function list(names: readonly string[], most = 3): string {
  if (names.length <= 1) return names[0] ?? '';
  if (names.length <= most) return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  return `${names.slice(0, most - 1).join(', ')} and ${names.length - most + 1} more`;
}

function trim(n: number): string {
  return Math.abs(n) < 9.95 ? n.toFixed(1).replace(/\.0$/, '') : String(Math.round(n));
}
