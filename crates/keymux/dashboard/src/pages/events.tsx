// What happened, newest first, and who outside of this page is told.

import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { clock, several } from '../format.ts';
import type { Happened, Level, Model } from '../model.ts';
import { Empty, Mark, Title } from '../parts.tsx';
import { Webhooks } from './webhooks.tsx';

const WORDS: Record<Level, string> = { bad: 'out', warn: 'short', good: 'back', info: 'note' };

/** An entry never changes: what was made of it once is what it is, and 500 of them cost nothing at each beat. */
const made = new WeakMap<Happened, VNode>();

function line(entry: Happened): VNode {
  const known = made.get(entry);
  if (known) return known;
  const vnode = (
    <li key={entry.id}>
      <time dateTime={new Date(entry.at_unix_ms).toISOString()}>{clock(entry.at_unix_ms)}</time>
      <Mark level={entry.level} /><span class="hidden">{WORDS[entry.level]}: </span>
      <span>{entry.text}</span>
    </li>
  );
  made.set(entry, vnode);
  return vnode;
}

export function Entries({ entries }: { entries: readonly Happened[] }) {
  if (entries.length === 0) return <Empty>Nothing has happened since the start.</Empty>;
  return <ol class="entries">{entries.toReversed().map(line)}</ol>;
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
