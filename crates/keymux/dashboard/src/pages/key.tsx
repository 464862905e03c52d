// One key: how it stands, why, and what one can do about it.

import { clock, countdown, duration, money, several, whole } from '../format.ts';
import { nextTry, reason } from '../health.ts';
import { ask } from '../live.ts';
import { used, type Key, type Model } from '../model.ts';
import { Action, Empty, Headroom, State, Title } from '../parts.tsx';

const BLAME: Record<string, string> = {
  quota: 'refused by a limit', key: 'the key was refused', account: 'out of credit', capacity: 'no capacity for the model',
  target: 'the model failed', provider: 'the provider failed', request: 'the request was wrong', client: 'the client left', local: 'not reached',
};

function Actions({ entry }: { entry: Key }) {
  const path = `/admin/keys/${encodeURIComponent(entry.account.provider.name)}/${encodeURIComponent(entry.name)}`;
  const run = (verb: string) => async () => (await ask<{ done: string }>(`${path}/${verb}`, 'POST')).done;
  const out = entry.state === 'benched' || entry.state === 'failing' || entry.models.length > 0;
  return (
    <div class="actions">
      {entry.state === 'disabled'
        ? <Action label="Switch on" confirm="Switch on" run={run('enable')} question={`Let ${entry.path} take requests again? The switch holds until the gateway restarts.`} />
        : <Action label="Switch off" kind="danger" confirm="Switch off" run={run('disable')} question={`Take ${entry.path} out? It gets no new requests; ${several(entry.inFlight, 'request')} in flight finish. The switch holds until it is switched on again, or the gateway restarts.`} />}
      {out && <Action label="Try again now" confirm="Try again" run={run('restore')} question={`Lift the bench and the breakers of ${entry.path}? Its next request finds out whether it works; if not, it is out again.`} />}
    </div>
  );
}

/** What its provider says of it, by a call that costs nothing. */
function Checked({ entry, model }: { entry: Key; model: Model }) {
  const { check } = entry;
  if (!check) return null;
  const dollars = (usd: number) => money(usd * 1e9);
  return (
    <section>
      <h2>At its provider</h2>
      <dl class="figures">
        <div class="figure"><dt>found</dt><dd>{check.state}</dd></div>
        {check.left !== null && <div class="figure"><dt>credit left</dt><dd>{dollars(check.left)}{check.of !== null && <small> of {dollars(check.of)}{check.resets && `, ${check.resets}`}</small>}</dd></div>}
        {check.expires !== null && <div class="figure"><dt>expires in</dt><dd>{duration(Math.max(0, check.expires - model.now.unix_ms))}</dd></div>}
        <div class="figure"><dt>checked</dt><dd>{clock(check.at)}</dd></div>
      </dl>
      {check.detail && <p>{check.detail}</p>}
      {check.warnings.map((warning) => <p key={warning}>{warning}</p>)}
    </section>
  );
}

export function KeyPage({ model, id }: { model: Model; id: string }) {
  const entry = model.keys.find((key) => String(key.id) === id);
  if (!entry) return <><Title>No such key</Title><Empty>It may have been removed from the configuration. <a href="#/keys">All keys</a></Empty></>;
  const why = reason(entry);
  const until = nextTry(entry);
  const siblings = model.keys.filter((key) => key.account.id === entry.account.id && key.id !== entry.id);
  const failed = Object.entries(entry.failed).sort(([, a], [, b]) => b - a);
  return (
    <>
      <p class="back"><a href="#/keys">Keys</a> / {entry.account.provider.name} / {entry.account.name}</p>
      <Title>{entry.name}</Title>
      <p class="lead">
        <State state={entry.state} />
        {why && <span>{why}</span>}
        {until !== null && <span>tried again in {countdown(model.until(until))}</span>}
      </p>
      <Actions entry={entry} />
      <dl class="figures">
        <div class="figure"><dt>in flight</dt><dd>{whole(entry.inFlight)}</dd></div>
        <div class="figure"><dt>answered</dt><dd>{whole(entry.answered)}</dd></div>
        <div class="figure"><dt>limited</dt><dd>{whole(entry.limited)}</dd></div>
        <div class="figure"><dt>failed</dt><dd>{whole(entry.failures)}</dd></div>
        <div class="figure"><dt>first output</dt><dd>{entry.firstOutputMs === null ? '–' : duration(entry.firstOutputMs)}</dd></div>
      </dl>
      <Checked entry={entry} model={model} />
      <div class="pair">
        <section>
          <h2>Limits</h2>
          {entry.limits.length === 0 && <Empty>None is known. Providers tell theirs with their answers, or by refusing.</Empty>}
          <ul class="limit-list">
            {entry.limits.map((limit) => (
              <li key={limit.account + limit.dimension + limit.models.join() + limit.daily}>
                <Headroom limit={limit} />
                <span>{whole(Math.max(0, limit.left))} of {whole(limit.size)} {limit.dimension}{limit.daily && ' a day'} left{used(limit) >= 1 && ': used up'}
                  <small>{limit.source}{limit.models.length > 0 && `, for ${limit.models.join(', ')}`}{limit.account === entry.path ? ', of this key' : `, of the account`}</small></span>
              </li>
            ))}
          </ul>
          {siblings.length > 0 && <p class="quiet">Shared with {siblings.map((key, at) => <>{at > 0 && ', '}<a href={`#/keys/${key.id}`}>{key.name}</a></>)}: more keys of one account do not add quota.</p>}
        </section>
        <section>
          <h2>What failed</h2>
          {failed.length === 0 ? <Empty>No attempt with this key has failed.</Empty> : (
            <table><tbody>{failed.map(([name, n]) => <tr key={name}><th scope="row">{BLAME[name] ?? name}</th><td class="n">{whole(n)}</td></tr>)}</tbody></table>
          )}
          {entry.models.length > 0 && (
            <>
              <h2>Models that it may not use now</h2>
              <table>
                <thead><tr><th scope="col">model</th><th scope="col">why</th><th scope="col" class="n">again in</th></tr></thead>
                <tbody>{entry.models.map(([name, cause, at]) => <tr key={name}><td>{name}</td><td>{cause === 'breaker' ? 'breaker open' : (BLAME[cause] ?? cause)}</td><td class="n">{countdown(model.until(at))}</td></tr>)}</tbody>
              </table>
            </>
          )}
        </section>
      </div>
      <p><a href={`#/requests?search=${encodeURIComponent(entry.name)}`}>Its last requests</a></p>
    </>
  );
}
