// Small things that several pages show the same way.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { count, whole } from './format.ts';
import { used, type KeyState, type Level, type Limit } from './model.ts';

/** Shape and word say what colour says. */
const MARKS: Record<Level, string> = { good: '●', warn: '▲', bad: '■', info: '○' };

export function Mark({ level }: { level: Level }) {
  return <span class={`mark ${level}`} aria-hidden="true">{MARKS[level]}</span>;
}

const STATES: Record<KeyState, Level> = { ready: 'good', 'at its limit': 'warn', failing: 'warn', benched: 'bad', disabled: 'info' };

export function State({ state }: { state: KeyState }) {
  return <span class="state"><Mark level={STATES[state]} />{state === 'disabled' ? 'switched off' : state}</span>;
}

/** How full a limit is: as a bar, in numbers, and where it is known from. */
export function Headroom({ limit, name }: { limit: Limit; name?: string }) {
  const share = used(limit);
  const level = share >= 0.98 ? 'full' : share >= 0.8 ? 'high' : '';
  const unit = limit.daily ? `${limit.dimension} a day` : limit.dimension;
  const models = limit.models.length ? `, for ${limit.models.join(', ')}` : '';
  const told = `${name ? `${name}: ` : ''}${whole(Math.max(0, limit.left))} of ${whole(limit.size)} ${unit} left${models}; ${limit.source}`;
  return (
    <span class="headroom" role="img" aria-label={told} title={told}>
      <span class="what">{short(limit)}</span>
      <span class={`bar ${level}`}><span style={{ width: `${share * 100}%` }} /></span>
      <span class="left">{count(Math.max(0, limit.left))}<i>/{count(limit.size)}</i></span>
    </span>
  );
}

const SHORT: Record<string, string> = {
  requests: 'req', 'input tokens': 'in', 'output tokens': 'out', tokens: 'tok', concurrent: 'conc', 'nano-dollars': '$',
};
const short = (limit: Limit) => `${SHORT[limit.dimension] ?? limit.dimension}${limit.daily ? '/d' : ''}`;

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** A heading that takes the focus when its page opens. */
export function Title({ children }: { children: ComponentChildren }) {
  return <h1 tabIndex={-1}>{children}</h1>;
}

/** A button that asks before it does, says what came of it, and says what went wrong. */
export function Action({ label, question, confirm, run, kind = '' }: {
  label: string; question: string; confirm: string; run: () => Promise<string>; kind?: string;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [told, tell] = useState<{ ok: boolean; text: string } | null>(null);
  const [busy, work] = useState(false);
  useEffect(() => {
    if (!told?.ok) return undefined;
    const timer = setTimeout(() => tell(null), 6_000);
    return () => clearTimeout(timer);
  }, [told]);
  const go = async () => {
    work(true);
    try {
      tell({ ok: true, text: await run() });
    } catch (error) {
      tell({ ok: false, text: (error as Error).message });
    }
    work(false);
    dialog.current?.close();
  };
  return (
    <span class="action">
      <button type="button" class={kind} onClick={() => { tell(null); dialog.current?.showModal(); }}>{label}</button>
      <span role="status" class={told && !told.ok ? 'told wrong' : 'told'}>{told?.text}</span>
      <dialog ref={dialog} aria-label={label}>
        <p>{question}</p>
        <div class="buttons">
          <button type="button" onClick={() => dialog.current?.close()}>Cancel</button>
          <button type="button" class={`primary ${kind}`} disabled={busy} onClick={() => void go()}>{busy ? 'One moment…' : confirm}</button>
        </div>
      </dialog>
    </span>
  );
}
