// Whether all is well, in one sentence that a person would say, and what needs one. Pure.

import { countdown, list, percent, rate, several, whole } from './format.ts';
import { lately, type Key, type Level, type Model } from './model.ts';

export interface Health { level: Level; sentence: string; concerns: Concern[] }
export interface Concern { level: Level; text: string; href: string }

const WHY: Record<string, string> = {
  key: 'its provider refuses it',
  account: 'its account is out of credit',
  quota: 'it is at a limit',
  capacity: 'its provider has no capacity',
  target: 'it fails',
  provider: 'its provider fails',
  request: 'it refuses requests',
  client: 'clients left',
  local: 'keymux could not reach it',
};

/** Why a key is out, in words; nothing if it is not. */
export function reason(key: Key): string {
  if (key.state === 'disabled') return 'switched off';
  if (key.account.why) return WHY[key.account.why] ?? key.account.why;
  if (key.why) return WHY[key.why] ?? key.why;
  if (key.state === 'failing') return 'its breaker is open';
  return '';
}

/** When a key is tried again, on the gateway's clock. */
export function nextTry(key: Key): number | null {
  if (key.state === 'disabled') return null;
  const open = key.models.map(([, , until]) => until);
  return key.until ?? key.account.benchedUntil ?? key.account.limitedUntil ?? (open.length ? Math.min(...open) : null);
}

/** All of it. */
export function health(model: Model): Health {
  const keys = model.keys.filter((key) => key.state !== 'disabled');
  const out = keys.filter((key) => key.state === 'benched' || key.state === 'failing');
  const full = keys.filter((key) => key.state === 'at its limit');
  const waiting = model.now.waiting.reduce((sum, n) => sum + n, 0);
  const down = model.providers.filter((provider) => provider.outUntil !== null);
  const beyond = notTold(model, keys);
  const many = { keys: keys.length + beyond.keys, out: out.length + beyond.out, full: full.length };
  const { level, sentence } = say(model, many, waiting, down.map((p) => p.name));
  return { level, sentence, concerns: concerns(model, out, down) };
}

/** Of a fleet too large to be told, how many keys there are besides, and how many of them are out. */
function notTold(model: Model, keys: Key[]): { keys: number; out: number } {
  if (model.now.keys_left_out === 0) return { keys: 0, out: 0 };
  const sum = (of: (provider: Model['providers'][number]) => number) => model.providers.reduce((all, provider) => all + of(provider), 0);
  const benched = keys.filter((key) => key.state === 'benched').length;
  return { keys: Math.max(0, sum((p) => p.keys) - keys.length), out: Math.max(0, sum((p) => p.keysOut) - benched) };
}

function say(model: Model, many: { keys: number; out: number; full: number }, waiting: number, down: string[]): { level: Level; sentence: string } {
  const bad = (sentence: string) => ({ level: 'bad' as const, sentence });
  const warn = (sentence: string) => ({ level: 'warn' as const, sentence });
  const queue = waiting > 0 ? ` ${several(waiting, 'request waits', 'requests wait')}.` : ' Nobody waits.';
  if (model.now.draining) return warn(`Stopping: finishing ${several(model.now.in_flight, 'request')} in flight.`);
  if (model.keys.length === 0) return warn('No keys are configured.');
  if (many.keys === 0) return bad('Nothing can be answered: every key is switched off.');
  if (many.out === many.keys) return bad(`Nothing can be answered: ${many.keys === 1 ? 'the only key is' : `all ${whole(many.keys)} keys are`} out.${waiting ? queue : ''}`);
  if (down.length) return bad(`${list(down)} ${down.length === 1 ? 'is' : 'are'} out; the other keys carry the load.${queue}`);
  const minute = lately(model.seconds, 60_000);
  const lost = minute.requests - minute.answered;
  if (minute.requests >= 20 && lost / minute.requests > 0.02) {
    return bad(`${percent(lost / minute.requests)} of the last minute's requests got no answer.${queue}`);
  }
  if (many.out) {
    const some = many.out === 1 ? `One of ${whole(many.keys)} keys is out` : `${whole(many.out)} of ${whole(many.keys)} keys are out`;
    return warn(`${some}; the others carry the load.${queue}`);
  }
  if (model.now.ledger_away) return warn('Requests are served, but the ledger is away: what they cost waits in its log.');
  if (waiting > 0) {
    const all = many.full === many.keys ? 'All keys are full' : 'Busy';
    return warn(`${all}: ${several(waiting, 'request waits', 'requests wait')} for a turn.`);
  }
  const now = lately(model.seconds, 5_000);
  const perSecond = now.span ? (now.requests * 1_000) / now.span : 0;
  const load = perSecond > 0 ? `${rate(perSecond)} requests a second on ${several(many.keys, 'key')}` : `${several(many.keys, 'key')} ready, no requests just now`;
  return { level: 'good', sentence: `All is well: ${load}.` };
}

function concerns(model: Model, out: Key[], down: Model['providers']): Concern[] {
  const again = (until: number | null) => (until === null ? '' : `; tried again in ${countdown(model.until(until))}`);
  const providers = down.map((provider): Concern => ({
    level: 'bad', href: `#/keys?search=${encodeURIComponent(provider.name)}`, text: `${provider.name} is out${again(provider.outUntil)}`,
  }));
  const keys = out.map((key): Concern => ({
    level: key.state === 'benched' ? 'bad' : 'warn', href: `#/keys/${key.id}`, text: `${key.path}: ${reason(key)}${again(nextTry(key))}`,
  }));
  return [...providers, ...keys];
}
