// One request's path: where it waited, where it went, what was passed over and until when, how it ended.

import { useEffect, useState } from 'preact/hooks';
import { clock, duration, several, whole } from '../format.ts';
import { ask } from '../live.ts';
import { Empty, Mark, Title } from '../parts.tsx';
import { Outcome, type Line } from './requests.tsx';

interface Step {
  provider: string; key: string; model: string; begun_ms: number; ended_ms: number | null; waited_ms: number; probe: boolean;
  outcome: string; detail: string | null; passed_over: { key: string; why: string; until_ms: number | null }[];
}
interface Whole extends Line { steps: Step[]; refusal?: { code: string; message: string } }

const BLAME: Record<string, string> = {
  answered: 'answered', quota: 'refused by a limit', key: 'the key was refused', account: 'out of credit', capacity: 'no capacity for the model',
  target: 'the model failed', provider: 'the provider failed', request: 'the provider found the request wrong', client: 'the client left', local: 'the provider was not reached',
};

/** Where a span lies within the whole. */
function Span({ from, to, all, kind }: { from: number; to: number; all: number; kind: string }) {
  const share = (ms: number) => (all > 0 ? Math.min(100, (ms / all) * 100) : 0);
  return (
    <svg class="span" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect class="whole" width="100" height="6" />
      <rect class={kind} x={share(from)} width={Math.max(0.6, share(to) - share(from))} height="6" />
    </svg>
  );
}

function Attempt({ step, at, all, total }: { step: Step; at: number; all: number; total: number }) {
  const ended = step.ended_ms ?? total;
  const well = step.outcome === 'answered';
  return (
    <li class={well ? 'good' : 'bad'}>
      <h2>{all > 1 && `Attempt ${at + 1}: `}{step.provider} / {step.key}</h2>
      <p><Mark level={well ? 'good' : 'bad'} />{BLAME[step.outcome] ?? step.outcome}{step.detail && `: ${step.detail}`}</p>
      <Span from={step.begun_ms} to={ended} all={total} kind={well ? 'well' : 'ill'} />
      <p class="quiet">model {step.model}; from {duration(step.begun_ms)} to {duration(ended)}, {duration(ended - step.begun_ms)} in all{step.probe && '; it probed a key that was out'}</p>
      {step.passed_over.length > 0 && (
        <details open={step.passed_over.length <= 6}>
          <summary>{several(step.passed_over.length, 'key')} passed over</summary>
          <table>
            <thead><tr><th scope="col">key</th><th scope="col">why</th><th scope="col" class="n">until</th></tr></thead>
            <tbody>{step.passed_over.map((over) => (
              <tr key={over.key + over.why}><td>{over.key}</td><td>{over.why}</td><td class="n">{over.until_ms === null ? '–' : `${duration(over.until_ms)} after it came`}</td></tr>
            ))}</tbody>
          </table>
        </details>
      )}
    </li>
  );
}

function Path({ told }: { told: Whole }) {
  let waited = 0;
  return (
    <ol class="path">
      <li><h2>Arrived {clock(told.at_unix_ms)}</h2><p class="quiet">{told.endpoint}, model {told.model || 'unknown'}</p></li>
      {told.steps.flatMap((step, at) => {
        const more = step.waited_ms - waited;
        const wait = more > 0 && (
          <li key={`w${at}`} class="wait">
            <h2>Waited {duration(more)}</h2>
            <Span from={step.begun_ms - more} to={step.begun_ms} all={told.total_ms} kind="hold" />
            <p class="quiet">in the waiting room, for a turn at {step.provider}</p>
          </li>
        );
        waited = step.waited_ms;
        return [wait, <Attempt key={at} step={step} at={at} all={told.steps.length} total={told.total_ms} />];
      })}
      {told.steps.length === 0 && told.queue_ms > 0 && <li class="wait"><h2>Waited {duration(told.queue_ms)}</h2></li>}
      {told.refusal && <li class="bad"><h2>Refused by keymux: {told.refusal.code}</h2><p>{told.refusal.message}</p></li>}
      <li><h2>Over after {duration(told.total_ms)}: status {told.status}</h2>
        <p class="quiet">{told.first_output_ms !== null && `first output after ${duration(told.first_output_ms)}; `}{whole(told.input_tokens)} tokens in, {whole(told.output_tokens)} out</p></li>
    </ol>
  );
}

export function RequestPage({ id }: { id: string }) {
  const [told, take] = useState<Whole | null>(null);
  const [wrong, fail] = useState('');
  useEffect(() => {
    take(null);
    fail('');
    ask<Whole>(`/admin/requests/${encodeURIComponent(id)}`).then(take, (error: Error) => fail(error.message));
  }, [id]);
  return (
    <>
      <p class="back"><a href="#/requests">Requests</a></p>
      <Title><span class="id">{id}</span></Title>
      {wrong ? <Empty>{wrong}</Empty> : told === null ? <Empty>One moment…</Empty> : <><p class="lead"><Outcome line={told} />{told.steps.length > 1 && <span>by attempt {told.steps.length}</span>}</p><Path told={told} /></>}
    </>
  );
}
