// Who is told when something needs a person, whether that comes through, and a message to try it.

import { useEffect, useState } from 'preact/hooks';
import { clock, several, whole } from '../format.ts';
import { ask, beat } from '../live.ts';
import { Action, Empty, Mark } from '../parts.tsx';

interface Hook {
  name: string; kind: string; url: string; signed: boolean; events: string[]; severity: string;
  open: number; delivered: number; last_unix_ms: number | null; failing: string | null;
}

/** Beats (seconds) from one question to the next. */
const EVERY = 5;

function Row({ hook }: { hook: Hook }) {
  const run = async () => (await ask<{ done: string }>(`/admin/webhooks/${encodeURIComponent(hook.name)}/test`, 'POST')).done;
  return (
    <tr>
      <th scope="row">{hook.name}</th>
      <td>{hook.kind}{hook.signed && ', signed'}</td>
      <td>{hook.url}</td>
      <td><Mark level={hook.failing ? 'bad' : 'good'} />{hook.failing ?? (hook.last_unix_ms === null ? 'nothing sent yet' : `last at ${clock(hook.last_unix_ms)}`)}</td>
      <td class="n">{whole(hook.open)}</td>
      <td class="n">{whole(hook.delivered)}</td>
      <td><Action label="Send a test" confirm="Send" question={`Send ${hook.name} a message now?`} run={run} /></td>
    </tr>
  );
}

export function Webhooks() {
  const [hooks, take] = useState<Hook[] | null>(null);
  const [wrong, fail] = useState('');
  const now = Math.floor(beat.value / EVERY);
  useEffect(() => {
    ask<{ webhooks: Hook[] }>('/admin/webhooks')
      .then((told) => { take(told.webhooks); fail(''); })
      .catch((error: Error) => fail(error.message));
  }, [now]);
  return (
    <section>
      <h2>Who is told{hooks && hooks.length > 0 && <span class="more">{several(hooks.length, 'webhook')}</span>}</h2>
      {wrong && <p class="wrong" role="status">{wrong}</p>}
      {hooks === null ? !wrong && <Empty>One moment…</Empty>
        : hooks.length === 0 ? <Empty>Nobody outside of this page: declare a <code>[[webhook]]</code> for a chat room or a program.</Empty>
        : (
          <div class="scroll" tabIndex={0} role="region" aria-label="Webhooks">
            <table class="requests">
              <thead><tr><th scope="col">name</th><th scope="col">kind</th><th scope="col">to</th><th scope="col">state</th><th scope="col" class="n">open</th><th scope="col" class="n">messages</th><th scope="col"><span class="hidden">actions</span></th></tr></thead>
              <tbody>{hooks.map((hook) => <Row key={hook.name} hook={hook} />)}</tbody>
            </table>
          </div>
        )}
    </section>
  );
}
