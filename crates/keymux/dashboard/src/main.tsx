// The page as a whole: which part is shown, how the connection stands, and the way from one part to another.

import { render } from 'preact';
import { Component, type ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import { ask, connect, link, signOut, state } from './live.ts';
import type { Model } from './model.ts';
import { Action, Empty, Mark, Title } from './parts.tsx';
import { Events } from './pages/events.tsx';
import { KeyPage } from './pages/key.tsx';
import { Keys } from './pages/keys.tsx';
import { Overview } from './pages/overview.tsx';
import { RequestPage } from './pages/request.tsx';
import { Requests } from './pages/requests.tsx';
import { SignIn } from './pages/signin.tsx';
import { Spending } from './pages/spending.tsx';
import { Waiting } from './pages/waiting.tsx';
import { health } from './health.ts';
import { route } from './route.ts';
import './style.css';

const PAGES: [name: string, label: string][] = [
  ['overview', 'Overview'], ['keys', 'Keys'], ['waiting', 'Waiting'], ['requests', 'Requests'], ['spending', 'Spending'], ['events', 'Events'],
];

/** A mistake in one page must not take the others with it. */
class Guard extends Component<{ children: ComponentChildren; at: string }, { error: Error | null; at: string }> {
  override state = { error: null as Error | null, at: this.props.at };
  static override getDerivedStateFromError(error: Error) { return { error }; }
  override componentDidUpdate() {
    if (this.state.at !== this.props.at) this.setState({ error: null, at: this.props.at });
  }
  render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    return <><Title>This page failed</Title><Empty>{error.message}. <button type="button" onClick={() => location.reload()}>Load it again</button></Empty></>;
  }
}

function Link() {
  const live = link.value === 'live';
  return <span class={`link ${live ? 'live' : 'lost'}`} role="status"><span aria-hidden="true">{live ? '●' : '◌'}</span> {live ? 'live' : 'reconnecting…'}</span>;
}

function Page({ model }: { model: Model }) {
  const { page, id } = route.value;
  if (page === 'keys') return id === null ? <Keys model={model} /> : <KeyPage model={model} id={id} />;
  if (page === 'requests') return id === null ? <Requests /> : <RequestPage id={id} />;
  if (page === 'spending') return <Spending />;
  if (page === 'waiting') return <Waiting model={model} />;
  if (page === 'events') return <Events model={model} />;
  if (page === 'overview') return <Overview model={model} />;
  return <><Title>No such page</Title><Empty><a href="#/overview">To the overview</a></Empty></>;
}

function Foot({ model }: { model: Model }) {
  return (
    <footer>
      <span>keymux {model.version}</span>
      {model.reloadable && <Action label="Reload configuration" confirm="Reload" question="Read the configuration file again? It is taken whole or not at all; the events say what came of it." run={async () => (await ask<{ done: string }>('/admin/reload', 'POST')).done} />}
      <button type="button" onClick={() => void signOut()}>Sign out</button>
    </footer>
  );
}

function App() {
  const told = state.value;
  const model = told?.model ?? null;
  const mood = model ? health(model).level : 'info';
  useEffect(() => {
    document.title = `${link.value === 'lost' ? '◌ ' : mood === 'good' || mood === 'info' ? '' : mood === 'bad' ? '■ ' : '▲ '}keymux`;
  }, [mood, link.value]);
  const here = route.value.page;
  // On a phone not all pages have room beside each other.
  useEffect(() => document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' }), [here, model === null]);
  if (link.value === 'signed-out') return <SignIn />;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById('main')?.focus(); }}>To the content</a>
      <header>
        <a class="brand" href="#/overview">keymux</a>
        <nav aria-label="Pages">
          {PAGES.map(([name, label]) => <a key={name} href={`#/${name}`} aria-current={here === name ? 'page' : undefined}>{label}{name === 'waiting' && model && <Count n={model.now.waiting.reduce((sum, n) => sum + n, 0)} />}</a>)}
        </nav>
        <Link />
      </header>
      <main id="main" tabIndex={-1} class={link.value === 'lost' && model ? 'stale' : ''} aria-busy={model === null}>
        {link.value === 'lost' && <p class="banner"><Mark level="warn" />{model ? 'The gateway does not answer. This is the last that it said; the page goes on by itself when it is back.' : 'The gateway does not answer yet. The page opens by itself when it does.'}</p>}
        {model ? <Guard at={location.hash}><Page model={model} /></Guard> : <Empty>{link.value === 'lost' ? '' : 'One moment…'}</Empty>}
      </main>
      {model && <Foot model={model} />}
    </>
  );
}

const Count = ({ n }: { n: number }) => (n > 0 ? <span class="badge">{n > 999 ? '999+' : n}<span class="hidden"> requests wait</span></span> : null);

const place = document.getElementById('app')!;
place.textContent = '';
render(<App />, place);
void connect();
