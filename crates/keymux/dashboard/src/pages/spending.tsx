// What was spent, by whom and on what, over time: the ledger's sums, asked for again now and then.

import { useEffect, useState } from 'preact/hooks';
import { count, money, percent, several } from '../format.ts';
import { ask, beat } from '../live.ts';
import { Empty, Title } from '../parts.tsx';
import { remember, route } from '../route.ts';
import { grouped, spread, type Group, type Row, type Step } from '../spending.ts';

const BY: [name: string, label: string][] = [
  ['team', 'team'], ['client', 'client key'], ['model', 'model'], ['provider,key', 'provider key'], ['provider', 'provider'],
];
const SPANS: [name: string, label: string, step: Step][] = [['24h', '24 hours', 'hour'], ['7d', '7 days', 'day'], ['30d', '30 days', 'day']];
/** Colours of the largest, and of all the others together. */
const COLORS = ['--line-1', '--line-2', '--line-3', '--line-bad'];
const OTHERS = '--line-4';
/** More names than this are not asked for by the hour. */
const NAMES_OVER_TIME = 400;
const SHOWN = 50;
/** Beats (seconds) from one question to the next. */
const EVERY = 30;

interface Usage { since: string; until: string; rows: Row[] }
interface Terms { id?: string; name: string; budget: number | null; budget_left: number | null; reset: string | null }
interface Seen { by: string; groups: Group[]; bars: number[][]; starts: number[]; step: Step; terms: Map<string, Terms> }

async function look(by: string, span: string, step: Step): Promise<Seen> {
  const told = await ask<Usage>(`/admin/usage?by=${by}&since=${span}`);
  const groups = grouped(told.rows, by.split(','));
  const many = groups.length > NAMES_OVER_TIME;
  const over = await ask<Usage>(`/admin/usage?by=${many ? step : `${by},${step}`}&since=${span}`);
  const { starts, bars } = spread(over, step, many ? [] : by.split(','), groups.slice(0, COLORS.length).map((group) => group.name));
  const terms = new Map<string, Terms>();
  if (by === 'team') for (const team of (await ask<{ teams: Terms[] }>('/admin/teams')).teams) terms.set(team.name, team);
  if (by === 'client') for (const one of (await ask<{ clients: Terms[] }>('/admin/clients')).clients) terms.set(one.id!, one);
  return { by, groups, bars, starts, step, terms };
}

/** A name as a person knows it: a client's, not its id; what has none is said so. */
const called = (seen: Seen, name: string) => (seen.by === 'client' ? seen.terms.get(name)?.name ?? name.replace(/^config:/, '') : name) || `(no ${seen.by})`;

const color = (at: number) => `var(${COLORS[at] ?? OTHERS})`;

function when(start: number, step: Step): string {
  const iso = new Date(start).toISOString();
  return step === 'day' ? iso.slice(5, 10) : `${iso.slice(11, 13)}:00`;
}

/** Stacked bars, one for each hour or day in UTC. The table below has the same in numbers. */
function Bars({ seen }: { seen: Seen }) {
  const sums = seen.bars.map((bar) => bar.reduce((sum, nano) => sum + nano, 0));
  const most = Math.max(...sums, 1);
  const width = 100 / seen.bars.length;
  const top = sums.indexOf(Math.max(...sums));
  const told = sums[top] ? `most on ${when(seen.starts[top]!, seen.step)}: ${money(sums[top]!)}` : 'nothing was spent';
  const ticks = [0, Math.floor((seen.starts.length - 1) / 2), seen.starts.length - 1];
  return (
    <figure class="chart spend">
      <figcaption><h2>Spent each {seen.step}, UTC</h2><span class="legend"><b>{money(most === 1 ? 0 : most)}</b></span></figcaption>
      <svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label={`Spent each ${seen.step}; ${told}`}>
        {seen.bars.map((bar, at) => {
          let y = 40;
          return bar.map((nano, which) => {
            const height = (nano / most) * 39;
            y -= height;
            return height > 0 && <rect key={`${at}-${which}`} x={at * width + width * 0.12} width={width * 0.76} y={y} height={height} fill={color(which)}><title>{`${when(seen.starts[at]!, seen.step)}, ${which < COLORS.length && seen.groups[which] ? called(seen, seen.groups[which].name) : 'others'}: ${money(nano)}`}</title></rect>;
          });
        })}
      </svg>
      <div class="ticks" aria-hidden="true">{ticks.map((at) => <span key={at}>{seen.starts[at] === undefined ? '' : when(seen.starts[at], seen.step)}</span>)}</div>
    </figure>
  );
}

function Left({ terms }: { terms: Terms | undefined }) {
  if (!terms || terms.budget === null) return <>–</>;
  if (terms.budget_left === null) return <>unknown</>;
  return <>{money(terms.budget_left * 1e9)} <i>of</i> {money(terms.budget * 1e9)}{terms.reset && <i> {terms.reset}</i>}</>;
}

function Sums({ seen, label }: { seen: Seen; label: string }) {
  const budgets = seen.by === 'team' || seen.by === 'client';
  const all = seen.groups.reduce((sum, group) => sum + group.nano, 0);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`Spent by ${label}`}>
      <table class="requests">
        <thead><tr>
          <th scope="col">{label}</th><th scope="col" class="n">spent</th><th scope="col" class="n">share</th>{budgets && <th scope="col" class="n">budget left</th>}
          <th scope="col" class="n">requests</th><th scope="col" class="n">answered</th><th scope="col" class="n">tokens in</th><th scope="col" class="n">cached</th><th scope="col" class="n">out</th>
        </tr></thead>
        <tbody>
          {seen.groups.slice(0, SHOWN).map((group, at) => (
            <tr key={group.name}>
              <th scope="row" class="model"><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" rx="2" fill={color(at)} /></svg>{called(seen, group.name)}</th>
              <td class="n">{group.nano === 0 && group.unpriced ? 'unknown' : money(group.nano)}{group.nano > 0 && group.unpriced > 0 && <i title={`${several(group.unpriced, 'request')} of unknown cost`}>+?</i>}</td>
              <td class="n">{all ? percent(group.nano / all) : '–'}</td>
              {budgets && <td class="n"><Left terms={seen.terms.get(group.name)} /></td>}
              <td class="n">{count(group.requests)}</td><td class="n">{percent(group.requests ? group.answered / group.requests : 1)}</td>
              <td class="n">{count(group.input)}</td><td class="n">{group.input ? percent(group.cached / group.input) : '–'}</td><td class="n">{count(group.output)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Spending() {
  const { query } = route.value;
  const by = BY.find(([name]) => name === query.get('by')) ?? BY[0]!;
  const span = SPANS.find(([name]) => name === query.get('span')) ?? SPANS[1]!;
  const [seen, take] = useState<Seen | null>(null);
  const [wrong, fail] = useState('');
  const now = Math.floor(beat.value / EVERY);
  useEffect(() => {
    let left = false;
    look(by[0], span[0], span[2])
      .then((found) => { if (!left) { take(found); fail(''); } })
      .catch((error: Error) => { if (!left) fail(error.message); });
    return () => { left = true; };
  }, [now, by[0], span[0]]);
  const set = (change: Record<string, string>) => remember({ by: by[0], span: span[0], ...change });
  const all = seen?.groups.reduce((sum, group) => sum + group.nano, 0) ?? 0;
  const unpriced = seen?.groups.reduce((sum, group) => sum + group.unpriced, 0) ?? 0;
  return (
    <>
      <Title>Spending</Title>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <label>by <select value={by[0]} onChange={(event) => set({ by: event.currentTarget.value })}>{BY.map(([name, label]) => <option value={name} key={name}>{label}</option>)}</select></label>
        <label>over <select value={span[0]} onChange={(event) => set({ span: event.currentTarget.value })}>{SPANS.map(([name, label]) => <option value={name} key={name}>{label}</option>)}</select></label>
        {seen && <p class="quiet grow" role="status">{money(all)} in the last {span[1]}{unpriced > 0 && `; ${several(unpriced, 'request')} of unknown cost not in it`}</p>}
      </form>
      {wrong && <p class="wrong" role="status">{wrong}</p>}
      {seen === null ? !wrong && <Empty>One moment…</Empty>
        : seen.groups.length === 0 ? <Empty>Nothing was asked for in the last {span[1]}.</Empty>
        : <><Bars seen={seen} /><Sums seen={seen} label={(BY.find(([name]) => name === seen.by) ?? by)[1]} />
          {seen.groups.length > SHOWN && <p class="quiet">The {SHOWN} that spent most of {several(seen.groups.length, 'name')}; all of them: <code>keymux usage --by {by[0]} --csv</code></p>}</>}
    </>
  );
}
