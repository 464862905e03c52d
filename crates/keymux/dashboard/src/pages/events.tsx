// What happened, newest first, and who outside of this page is told.

import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { clock, several, whole } from '../format.ts';
import { runs, type Happened, type Level, type Model, type Run } from '../model.ts';
import { Empty, Mark, Title } from '../parts.tsx';
import { Webhooks } from './webhooks.tsx';

const WORDS: Record<Level, string> = { bad: 'out', warn: 'short', good: 'back', info: 'note' };

/** What was made of a run of entries, by the first of them: it changes only when the run grows, so 500 cost nothing at each beat. */
const made = new WeakMap<Happened, { run: Run; vnode: VNode }>();

function line(run: Run): VNode {
  const known = made.get(run.first);
  if (known && known.run.last === run.last) return known.vnode;
  const { first, last, times } = run;
  const vnode = (
    <li key={first.id}>
      <time dateTime={new Date(last.at_unix_ms).toISOString()}>{clock(last.at_unix_ms)}</time>
      <Mark level={last.level} /><span class="hidden">{WORDS[last.level]}: </span>
      <span>{last.text}{times > 1 && <small> {whole(times)} times since {clock(first.at_unix_ms)}</small>}</span>
    </li>
  );
  made.set(first, { run, vnode });
  return vnode;
}

/** The newest first, at most so many lines. */
export function Entries({ entries, most = Infinity }: { entries: readonly Happened[]; most?: number }) {
  if (entries.length === 0) return <Empty>Nothing has happened since the start.</Empty>;
  return <ol class="entries">{runs(entries).slice(-most).reverse().map(line)}</ol>;
}

export function Events({ model }: { model: Model }) {
  const [shown, show] = useState<Level[]>(['bad', 'warn', 'good', 'info']);
  const [search, look] = useState('');
  const entries = model.happened.filter((e) => shown.includes(e.level) && e.text.toLowerCase().includes(search.toLowerCase()));
  const toggle = (level: Level) => show(shown.includes(level) ? shown.filter((l) => l !== level) : [...shown, level]);
  return (
    <>
      <Title>Events</Title>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <label class="grow"><span class="hidden">Search events</span><input type="search" placeholder="Search: a key, a model, “breaker”…" value={search} onInput={(event) => look(event.currentTarget.value)} /></label>
        {(['bad', 'warn', 'good', 'info'] as const).map((level) => (
          <label class="check" key={level}><input type="checkbox" checked={shown.includes(level)} onChange={() => toggle(level)} /><Mark level={level} />{WORDS[level]}</label>
        ))}
      </form>
      <p class="quiet">{several(entries.length, 'event')}{entries.length < model.happened.length && ` of ${model.happened.length}`}; the last 500 are kept.</p>
      {entries.length === 0 && model.happened.length > 0 ? <Empty>No event fits.</Empty> : <Entries entries={entries} />}
      <Webhooks />
    </>
  );
}
