// The waiting room: who waits, and for what.

import { Chart, type Line } from '../chart.tsx';
import { bytes, rate, several, whole, count, percent } from '../format.ts';
import { used, type Model } from '../model.ts';
import { Empty, Headroom, Title } from '../parts.tsx';

const WAITING: Line[] = [{ label: 'waiting', color: '--line-2', fill: true, value: (p) => p.waiting }];
const CLASSES = ['high', 'normal', 'low'] as const;

function Share({ name, n, all }: { name: string; n: number; all: number }) {
  return (
    <li>
      <span class="what">{name}</span>
      <span class="bar" aria-hidden="true"><span style={{ width: `${all ? (n / all) * 100 : 0}%` }} /></span>
      <span class="n">{whole(n)}</span>
      <small>{all > 0 && percent(n / all)}</small>
    </li>
  );
}

export function Waiting({ model }: { model: Model }) {
  const { waiting, waiting_clients: clients, waiting_bytes: held } = model.now;
  const all = waiting.reduce((sum, n) => sum + n, 0);
  const needed = model.accounts.flatMap((account) => account.limits).filter((limit) => limit.queued > 0).sort((a, b) => used(b) - used(a)).slice(0, 12);
  const peak = model.seconds.reduce((most, second) => Math.max(most, second.waiting), 0);
  return (
    <>
      <Title>Waiting room</Title>
      <p class="lead" role="status">{all === 0 ? 'Nobody waits.' : `${several(all, 'request waits', 'requests wait')}, holding ${bytes(held)} of bodies.`}</p>
      <Chart title="Waiting" points={model.seconds} lines={WAITING} show={rate} told={`${whole(all)} now, at most ${whole(peak)} in ten minutes`} />
      <div class="pair">
        <section>
          <h2>By class</h2>
          <ul class="shares">{CLASSES.map((name, at) => <Share key={name} name={name} n={waiting[at] ?? 0} all={all} />)}</ul>
        </section>
        <section>
          <h2>By client</h2>
          {clients.length === 0 ? <Empty>No client waits.</Empty> : <ul class="shares">{clients.map(([name, n]) => <Share key={name} name={name} n={n} all={all} />)}</ul>}
        </section>
      </div>
      <section>
        <h2>What they wait for</h2>
        {needed.length === 0 ? <Empty>No limit holds anybody up.</Empty> : (
          <ul class="limit-list">{needed.map((limit) => (
            <li key={limit.account + limit.dimension + limit.models.join()}>
              <Headroom limit={limit} name={limit.account} />
              <span>{limit.account}<small>{count(limit.queued)} {limit.dimension} wanted, {count(Math.max(0, limit.left))} left</small></span>
            </li>
          ))}</ul>
        )}
      </section>
    </>
  );
}
