// All keys, as many as there are: only the rows that are on the screen are in the document.

import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { countdown, duration, several, whole, count } from '../format.ts';
import { nextTry, reason } from '../health.ts';
import { tightest, used, type Key, type Model } from '../model.ts';
import { Empty, Headroom, State, Title } from '../parts.tsx';
import { remember, route } from '../route.ts';

const SORTS: Record<string, [label: string, order: (a: Key, b: Key) => number]> = {
  // As they come.
  name: ['name', () => 0],
  full: ['fullest first', (a, b) => fullness(b) - fullness(a)],
  trouble: ['trouble first', (a, b) => rank(a) - rank(b)],
  busy: ['most in flight', (a, b) => b.inFlight - a.inFlight],
  failed: ['most failures', (a, b) => b.failures - a.failures],
};
const STATES: Record<string, [label: string, fits: (key: Key) => boolean]> = {
  '': ['all', () => true],
  ready: ['ready', (key) => key.state === 'ready'],
  full: ['at their limit', (key) => key.state === 'at its limit'],
  out: ['out', (key) => key.state === 'benched' || key.state === 'failing'],
  off: ['switched off', (key) => key.state === 'disabled'],
};

const accountPath = (key: Key) => `${key.account.provider.name}/${key.account.name}`;
const rank = (key: Key) => ['benched', 'failing', 'at its limit', 'disabled', 'ready'].indexOf(key.state);
const fullness = (key: Key) => { const limit = tightest(key.limits); return limit ? used(limit) : 0; };

function Row({ model, entry, index }: { model: Model; entry: Key; index: number }) {
  const until = nextTry(entry);
  const why = reason(entry);
  const limits = entry.limits.toSorted((a, b) => used(b) - used(a));
  return (
    <div role="row" class="row" aria-rowindex={index + 2}>
      <span role="cell" class="name"><a href={`#/keys/${entry.id}`}>{entry.name}</a><small>{accountPath(entry)}</small></span>
      <span role="cell" class="how">
        <State state={entry.state} />
        {(why || until !== null) && <small>{[why, until !== null && entry.state !== 'disabled' ? `again in ${countdown(model.until(until))}` : ''].filter(Boolean).join('; ')}</small>}
      </span>
      <span role="cell" class="limits">
        {limits.slice(0, 3).map((limit) => <Headroom key={limit.dimension + limit.models.join() + limit.account} limit={limit} />)}
        {limits.length > 3 && <small>and {limits.length - 3} more</small>}
        {limits.length === 0 && <small>none known</small>}
      </span>
      <span role="cell" class="n" data-label="in flight">{whole(entry.inFlight)}</span>
      <span role="cell" class="n" data-label="answered">{count(entry.answered)}</span>
      <span role="cell" class="n" data-label="limited">{count(entry.limited)}</span>
      <span role="cell" class="n" data-label="failed">{count(entry.failures)}</span>
      <span role="cell" class="n" data-label="first output">{entry.firstOutputMs === null ? '–' : duration(entry.firstOutputMs)}</span>
    </div>
  );
}

/** Which rows are on the screen, or near it. */
function useWindow(length: number) {
  const place = useRef<HTMLDivElement>(null);
  const [range, move] = useState({ from: 0, to: 40, height: 56 });
  useLayoutEffect(() => {
    const look = () => {
      const element = place.current;
      if (!element) return;
      const height = parseFloat(getComputedStyle(element).getPropertyValue('--row')) || 56;
      const above = Math.max(0, -element.getBoundingClientRect().top);
      const from = Math.max(0, Math.floor(above / height) - 8);
      const to = from + Math.ceil(innerHeight / height) + 16;
      move((was) => (was.from === from && was.to === to && was.height === height ? was : { from, to, height }));
    };
    look();
    addEventListener('scroll', look, { passive: true });
    addEventListener('resize', look);
    return () => {
      removeEventListener('scroll', look);
      removeEventListener('resize', look);
    };
  }, [length]);
  return { place, ...range };
}

export function Keys({ model }: { model: Model }) {
  const { query } = route.value;
  const search = query.get('search') ?? '';
  const sort = query.get('sort') ?? 'name';
  const chosen = query.get('state') ?? '';
  const [, order] = SORTS[sort] ?? SORTS['name']!;
  const [, fits] = STATES[chosen] ?? STATES['']!;
  const words = search.toLowerCase().split(/\s+/);
  const keys = model.keys
    .filter((key) => fits(key) && words.every((word) => `${accountPath(key)} ${key.name} ${key.state}`.toLowerCase().includes(word)))
    .sort(order);
  const { place, from, to, height } = useWindow(keys.length);
  const set = (change: Record<string, string>) => remember({ search, sort: sort === 'name' ? '' : sort, state: chosen, ...change });
  return (
    <>
      <Title>Keys</Title>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <label class="grow"><span class="hidden">Search keys</span><input type="search" placeholder="Search: provider, account, key" value={search} onInput={(event) => set({ search: event.currentTarget.value })} /></label>
        <label>show <select value={chosen} onChange={(event) => set({ state: event.currentTarget.value })}>{Object.entries(STATES).map(([name, [label]]) => <option value={name} key={name}>{label}</option>)}</select></label>
        <label>sort by <select value={sort} onChange={(event) => set({ sort: event.currentTarget.value })}>{Object.entries(SORTS).map(([name, [label]]) => <option value={name} key={name}>{label}</option>)}</select></label>
      </form>
      <p class="quiet" role="status">{several(keys.length, 'key')}{keys.length < model.keys.length && ` of ${whole(model.keys.length)}`}{model.now.keys_left_out > 0 && `; ${whole(model.now.keys_left_out)} more are not shown`}</p>
      {keys.length === 0 ? (
        <Empty>{model.keys.length === 0 ? 'No keys are configured.' : <>No key fits. <button type="button" onClick={() => remember({})}>Show all</button></>}</Empty>
      ) : (
        <div role="table" class="table keys" aria-label="Keys" aria-rowcount={keys.length + 1}>
          <div role="rowgroup"><div role="row" class="row head" aria-rowindex={1}>
            {['key', 'state', 'left of its limits', 'in flight', 'answered', 'limited', 'failed', 'first output'].map((name, at) => <span role="columnheader" class={at > 2 ? 'n' : ''} key={name}>{name}</span>)}
          </div></div>
          <div role="rowgroup" ref={place} class="window" style={{ paddingTop: `${Math.min(from, keys.length) * height}px`, paddingBottom: `${Math.max(0, keys.length - to) * height}px` }}>
            {keys.slice(from, to).map((key, at) => <Row key={key.id} model={model} entry={key} index={from + at} />)}
          </div>
        </div>
      )}
    </>
  );
}
