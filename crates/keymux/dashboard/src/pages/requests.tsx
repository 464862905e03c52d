// The last requests, live; asked for again at each beat while somebody looks and has not stopped it. It stands still for
// whoever points at it or is in it by keyboard: a row that moves away cannot be followed.

import { useEffect, useRef, useState } from 'preact/hooks';
import { clock, count, duration } from '../format.ts';
import { ask, beat } from '../live.ts';
import { Empty, Mark, Title } from '../parts.tsx';
import { remember, route } from '../route.ts';
import type { Level } from '../model.ts';

export interface Line {
  id: string; at_unix_ms: number; endpoint: string; model: string; outcome: string; status: number; provider: string; key: string;
  attempts: number; queue_ms: number; first_output_ms: number | null; total_ms: number; input_tokens: number; output_tokens: number;
  client?: string; team?: string;
}

export const OUTCOMES: Record<string, [label: string, level: Level]> = {
  answered: ['answered', 'good'],
  refused: ['refused', 'bad'],
  provider_error: ['provider error', 'bad'],
  broken: ['broke off', 'bad'],
  client_gone: ['client left', 'info'],
};

export function Outcome({ line }: { line: Pick<Line, 'outcome' | 'attempts' | 'status'> }) {
  const [label, level] = OUTCOMES[line.outcome] ?? [line.outcome, 'info'];
  return <span class="state"><Mark level={level === 'good' && line.attempts > 1 ? 'warn' : level} />{label}</span>;
}

function List({ lines, hold }: { lines: Line[]; hold: (held: boolean) => void }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="The last requests"
      onPointerEnter={() => hold(true)} onPointerLeave={() => hold(false)} onFocusIn={() => hold(true)} onFocusOut={() => hold(false)}>
      <table class="requests">
        <thead><tr>
          <th scope="col">time</th><th scope="col">model</th><th scope="col">outcome</th><th scope="col">answered by</th><th scope="col" class="n">attempts</th>
          <th scope="col" class="n">waited</th><th scope="col" class="n">first output</th><th scope="col" class="n">total</th><th scope="col" class="n">tokens</th>
        </tr></thead>
        <tbody>
          {/* By place, not by id: under load all hundred are others each second, and cells that stay are cheaper than new ones. */}
          {lines.map((line, at) => (
            <tr key={at}>
              <td><a href={`#/requests/${encodeURIComponent(line.id)}`} aria-label={`Request at ${clock(line.at_unix_ms)}, ${line.id}`}>{clock(line.at_unix_ms)}</a></td>
              <td class="model">{line.model || '–'}</td>
              <td><Outcome line={line} /></td>
              <td>{line.provider === '-' ? '–' : `${line.provider}/${line.key}`}</td>
              <td class="n">{line.attempts}</td>
              <td class="n">{line.queue_ms > 0 ? duration(line.queue_ms) : '–'}</td>
              <td class="n">{line.first_output_ms === null ? '–' : duration(line.first_output_ms)}</td>
              <td class="n">{duration(line.total_ms)}</td>
              <td class="n">{count(line.input_tokens)}<i>+</i>{count(line.output_tokens)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Requests() {
  const { query } = route.value;
  const search = query.get('search') ?? '';
  const outcome = query.get('outcome') ?? '';
  const [paused, pause] = useState(false);
  const [held, hold] = useState(false);
  const [lines, take] = useState<Line[] | null>(null);
  const [wrong, fail] = useState('');
  const busy = useRef(false);
  const asked = new URLSearchParams({ limit: '100', ...(search && { search }), ...(outcome === 'troubled' ? { troubled: 'true' } : outcome && { outcome }) }).toString();
  const now = beat.value;
  const last = useRef('');
  useEffect(() => {
    // One question at a time; a filter that changed is asked about even while paused.
    if (busy.current || ((paused || held) && last.current === asked)) return;
    busy.current = true;
    last.current = asked;
    ask<{ requests: Line[] }>(`/admin/requests?${asked}`)
      .then((told) => { take(told.requests); fail(''); })
      .catch((error: Error) => fail(error.message))
      .finally(() => { busy.current = false; });
  }, [now, asked, paused, held]);
  const set = (change: Record<string, string>) => remember({ search, outcome, ...change });
  return (
    <>
      <Title>Requests</Title>
      <form class="filter" onSubmit={(event) => event.preventDefault()}>
        <label class="grow"><span class="hidden">Search requests</span><input type="search" placeholder="Search: id, model, provider, key" value={search} onInput={(event) => set({ search: event.currentTarget.value })} /></label>
        <label>show <select value={outcome} onChange={(event) => set({ outcome: event.currentTarget.value })}>
          <option value="">all</option><option value="troubled">with trouble</option>
          {Object.entries(OUTCOMES).map(([name, [label]]) => <option value={name} key={name}>{label}</option>)}
        </select></label>
        <button type="button" aria-pressed={paused} onClick={() => pause(!paused)}>{paused ? 'Resume' : 'Pause'}</button>
      </form>
      <p class="quiet" role="status">{wrong ? <span class="wrong">{wrong}</span> : paused ? 'Paused.' : held ? 'Held while you are on the list.' : 'Live: the newest hundred, and longer those that had trouble.'}</p>
      {lines === null ? <Empty>One moment…</Empty> : lines.length === 0 ? <Empty>{search || outcome ? 'No request fits.' : 'No request has ended yet.'}</Empty> : <List lines={lines} hold={hold} />}
    </>
  );
}
