// Where the page is: the part of the address after `#`, with a query of its own.

import { signal } from '@preact/signals';

export interface Route { page: string; id: string | null; query: URLSearchParams }

export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const [page = '', ...rest] = path.split('/');
  return { page: page || 'overview', id: rest.length ? decodeURIComponent(rest.join('/')) : null, query: new URLSearchParams(query) };
}

export const route = signal(parse(location.hash));

addEventListener('hashchange', () => {
  const before = route.value;
  route.value = parse(location.hash);
  if (before.page === route.value.page && before.id === route.value.id) return;
  // As if another page had been loaded: from its top, with its heading read out.
  scrollTo(0, 0);
  requestAnimationFrame(() => document.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true }));
});

/** Notes a filter in the address, without a step in the history. */
export function remember(query: Record<string, string>): void {
  const kept = Object.entries(query).filter(([, value]) => value !== '');
  const { page, id } = route.peek();
  const path = id === null ? page : `${page}/${encodeURIComponent(id)}`;
  const text = new URLSearchParams(kept).toString();
  history.replaceState(null, '', `#/${path}${text ? `?${text}` : ''}`);
  route.value = parse(location.hash);
}
