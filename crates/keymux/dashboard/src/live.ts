// The one connection to the gateway: who is signed in, the stream of what happens, and coming back by itself after a
// restart. Everything else reads signals.

import { computed, signal } from '@preact/signals';
import { Model, type All, type Happened, type Tick } from './model.ts';

/** `lost` keeps the last picture on the page, and says that it is old. */
export type Link = 'starting' | 'signed-out' | 'live' | 'lost';

export const link = signal<Link>('starting');
const held = signal<{ model: Model | null; beat: number }>({ model: null, beat: 0 });
/** The state; a new value at each beat. */
export const state = computed(() => held.value.model && { model: held.value.model, beat: held.value.beat });
/** Counts the pictures that arrived. */
export const beat = computed(() => held.value.beat);

const RETRY_MS = 1_000;
/** Pictures come once a second; after so long without one the connection is dead, whatever TCP believes. */
const SILENCE_MS = 5_000;

let source: EventSource | null = null;
let silence: ReturnType<typeof setTimeout> | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;

function changed(model: Model | null): void {
  held.value = { model: model && model.again(), beat: held.value.beat + 1 };
}

function heard(): void {
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
}

function lost(): void {
  source?.close();
  source = null;
  clearTimeout(silence);
  if (link.value === 'live') link.value = 'lost';
  clearTimeout(retry);
  retry = setTimeout(connect, RETRY_MS);
}

/** Looks whether we are signed in, then listens. */
export async function connect(): Promise<void> {
  clearTimeout(retry);
  try {
    const answer = await fetch('/admin/session', { cache: 'no-store' });
    if (!answer.ok) return lost();
    const { signed_in } = (await answer.json()) as { signed_in: boolean };
    if (!signed_in) {
      link.value = 'signed-out';
      return;
    }
  } catch {
    if (link.value === 'starting') link.value = 'lost';
    return lost();
  }
  source?.close();
  source = new EventSource('/admin/feed');
  source.onerror = lost;
  source.addEventListener('all', (event) => {
    heard();
    changed(new Model(JSON.parse(event.data) as All));
    link.value = 'live';
    // For whoever measures: the first picture with the gateway's state in it is drawn next.
    requestAnimationFrame(() => performance.getEntriesByName('first-state').length || performance.mark('first-state'));
  });
  source.addEventListener('tick', (event) => {
    heard();
    const { model } = held.value;
    model?.tick(JSON.parse(event.data) as Tick);
    changed(model);
  });
  source.addEventListener('happened', (event) => {
    const { model } = held.value;
    model?.happens(JSON.parse(event.data) as Happened[]);
    changed(model);
  });
}

/** Shows the token; says what is wrong with it, if something is. */
export async function signIn(token: string): Promise<string | null> {
  try {
    const answer = await fetch('/admin/session', {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ token }),
    });
    if (!answer.ok) return (await answer.text()).trim();
  } catch {
    return 'The gateway does not answer. Is it running?';
  }
  await connect();
  return null;
}

export async function signOut(): Promise<void> {
  source?.close();
  source = null;
  clearTimeout(silence);
  clearTimeout(retry);
  await fetch('/admin/session', { method: 'DELETE' }).catch(() => undefined);
  changed(null);
  link.value = 'signed-out';
}

/** Asks for JSON; throws a sentence. */
export async function ask<T>(path: string, method = 'GET'): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, { method, cache: 'no-store' });
  } catch {
    throw new Error('The gateway does not answer.');
  }
  if (answer.status === 401) link.value = 'signed-out';
  if (!answer.ok) throw new Error(sentence(await answer.text()) || `The gateway answered ${answer.status}.`);
  return (await answer.json()) as T;
}

/** What an error says: its message where it is JSON, else its text. */
function sentence(text: string): string {
  try {
    return (JSON.parse(text) as { error: { message: string } }).error.message;
  } catch {
    return text.trim();
  }
}
