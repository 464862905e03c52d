// The page that one looks at first: is all well, how fast does it go, what just happened.

import { useState } from 'preact/hooks';
import { Chart, type Line } from '../chart.tsx';
import { clock, count, duration, money, percent, rate, several, whole } from '../format.ts';
import { health } from '../health.ts';
import { lately, spentSince, tightest, typical, used, type Model, type Point } from '../model.ts';
import { Empty, Headroom, Mark, State } from '../parts.tsx';
import { Entries } from './events.tsx';

const perSecond = (n: (point: Point) => number) => (point: Point) => (point.span ? (n(point) * 1_000) / point.span : null);

const REQUESTS: Line[] = [
  { label: 'answered', color: '--line-1', fill: true, value: perSecond((p) => p.answered) },
  { label: 'not answered', color: '--line-bad', dash: [4, 3], value: perSecond((p) => p.requests - p.answered) },
];
const TOKENS: Line[] = [
  { label: 'out', color: '--line-1', fill: true, value: perSecond((p) => p.output) },
  { label: 'in', color: '--line-2', dash: [4, 3], value: perSecond((p) => p.input) },
];
const FIRST_OUTPUT: Line[] = [
  { label: 'p50', color: '--line-1', value: (p) => p.p50 },
  { label: 'p95', color: '--line-2', dash: [4, 3], value: (p) => p.p95 },
];
/** Whose fault it was, as a person says it; the rest is rare and drawn as one. */
const BLAME: [label: string, classes: string[], color: string, dash?: number[]][] = [
  ['limits', ['quota'], '--line-2'],
  ['keys, credit', ['key', 'account'], '--line-bad', [6, 2]],
  ['providers', ['target', 'provider', 'capacity'], '--line-3', [2, 2]],
  ['clients, other', ['request', 'client', 'local'], '--line-4', [8, 3]],
];

function blameLines(classes: string[]): Line[] {
  return BLAME.map(([label, of, color, dash]) => {
    const at = of.map((name) => classes.indexOf(name)).filter((index) => index >= 0);
    const value = perSecond((p) => at.reduce((sum, index) => sum + (p.failed[index] ?? 0), 0));
    return { label, color, value, ...(dash && { dash }) };
  });
}

function midnight(): number {
  const day = new Date();
  return day.setHours(0, 0, 0, 0);
}

function Figure({ label, value, note }: { label: string; value: string; note?: string }) {
  return <div class="figure"><dt>{label}</dt><dd>{value}{note && <small>{note}</small>}</dd></div>;
}

function Figures({ model }: { model: Model }) {
  const now = lately(model.seconds, 5_000);
  const speed = (n: number) => (now.span ? (n * 1_000) / now.span : 0);
  const p95 = typical(model.seconds, 10_000, 'p95');
  const p50 = typical(model.seconds, 10_000, 'p50');
  const spent = spentSince(model, midnight());
  const since = model.startedUnixMs > midnight() ? `since ${clock(model.startedUnixMs).slice(0, 5)}` : 'today';
  const waiting = model.now.waiting.reduce((sum, n) => sum + n, 0);
  return (
    <dl class="figures">
      <Figure label="requests a second" value={rate(speed(now.requests))} />
      <Figure label="tokens a second" value={rate(speed(now.tokens))} />
      <Figure label="first output" value={p50 === null ? '–' : duration(p50)} {...(p95 !== null && { note: `p95 ${duration(p95)}` })} />
      <Figure label="in flight" value={whole(model.now.in_flight)} />
      <Figure label="waiting" value={whole(waiting)} />
      <Figure label={`spent ${since}`} value={spent.nano === 0 && spent.unpriced > 0 ? 'unknown' : money(spent.nano)}
        {...(spent.unpriced > 0 && { note: `${several(spent.unpriced, 'answer')} of unknown price` })} />
    </dl>
  );
}

function Charts({ model }: { model: Model }) {
  const [day, show] = useState(false);
  const points = day ? model.minutes : model.seconds;
  const minute = lately(model.seconds, 60_000);
  const speed = minute.span ? rate((minute.requests * 1_000) / minute.span) : '0';
  const tokens = minute.span ? rate((minute.tokens * 1_000) / minute.span) : '0';
  const told = (which: 'p50' | 'p95') => { const ms = typical(model.seconds, 60_000, which); return ms === null ? 'none' : duration(ms); };
  return (
    <section aria-label="Over time">
      <div class="range" role="group" aria-label="Span of the charts">
        <button type="button" aria-pressed={!day} onClick={() => show(false)}>10 minutes</button>
        <button type="button" aria-pressed={day} onClick={() => show(true)}>24 hours</button>
      </div>
      <div class="charts">
        <Chart title="Requests a second" points={points} lines={REQUESTS} show={rate} told={`${speed} in the last minute, ${percent(minute.requests ? minute.answered / minute.requests : 1)} answered`} />
        <Chart title="Time to first output" points={points} lines={FIRST_OUTPUT} show={duration} told={`half within ${told('p50')}, 95 % within ${told('p95')} in the last minute`} />
        <Chart title="Tokens a second" points={points} lines={TOKENS} show={rate} told={`${tokens} in the last minute`} />
        <Chart title="Failed attempts a second, by blame" points={points} lines={blameLines(model.blame)} show={rate} told={`${count(minute.failed)} in the last minute`} />
      </div>
    </section>
  );
}

/** The fullest keys that are in use. */
function Fullest({ model }: { model: Model }) {
  const share = (key: Model['keys'][number]) => { const limit = tightest(key.limits); return limit ? used(limit) : 0; };
  const accounts = new Map(model.keys.filter((key) => key.limits.length && key.state !== 'disabled').map((key) => [key.account.id, key]));
  const keys = [...accounts.values()].sort((a, b) => share(b) - share(a)).slice(0, 6);
  if (keys.length === 0) return <Empty>No limit is known yet: providers tell theirs with the first answers.</Empty>;
  return (
    <ul class="fullest">
      {keys.map((key) => (
        <li key={key.account.id}>
          <a href={`#/keys?search=${encodeURIComponent(key.account.name)}`}>{key.account.provider.name}/{key.account.name}</a>
          <State state={key.state} />
          <Headroom limit={tightest(key.limits)!} />
        </li>
      ))}
    </ul>
  );
}

export function Overview({ model }: { model: Model }) {
  const { level, sentence, concerns } = health(model);
  return (
    <>
      <section class={`health ${level}`} aria-label="Health" data-seconds={model.seconds.length}>
        <h1 tabIndex={-1}><Mark level={level} /><span role="status">{sentence}</span></h1>
        {concerns.length > 0 && (
          <ul class="concerns">
            {concerns.slice(0, 4).map((concern) => <li key={concern.text.split(';')[0]}><a href={concern.href}>{concern.text}</a></li>)}
            {concerns.length > 4 && <li><a href="#/keys?state=out">and {several(concerns.length - 4, 'other')}</a></li>}
          </ul>
        )}
      </section>
      <Figures model={model} />
      <Charts model={model} />
      <div class="pair">
        <section><h2>Fullest accounts <a class="more" href="#/keys">all keys</a></h2><Fullest model={model} /></section>
        <section><h2>Just happened <a class="more" href="#/events">all events</a></h2><Entries entries={model.happened} most={7} /></section>
      </div>
    </>
  );
}
