// Chromium for the tests of the dashboard, and a small steady load for it to look at.

import { chromium } from 'playwright-core';
import axe from 'axe-core';
import { ADMIN_TOKEN, TOKEN } from './harness.mjs';

export const PATIENCE_MS = 20_000;

/** Debian's browser; it must not call home. */
export async function browser() {
  return chromium.launch({
    executablePath: process.env.KEYMUX_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
  });
}

/** A page that notes everything a browser complains of: errors, refused scripts and styles, failed requests. */
export async function opened(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') page.complaints.push(message.text());
  });
  return page;
}

/** Signed in as the printed address does it. */
export async function signedIn(browser, admin, options) {
  const page = await opened(browser, options);
  await page.goto(`${admin}/?token=${ADMIN_TOKEN}`);
  await page.getByText('live', { exact: false }).first().waitFor();
  return page;
}

/** What axe-core has against the page, in lines that say where. */
export async function violations(page) {
  // Not a script of the page: the policy, which forbids those, stays in force.
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.flatMap((v) => v.nodes.map((node) => `${v.id}: ${node.target} ${node.failureSummary}`));
}

/** Requests at a steady rate, whatever comes of them, until it is stopped. */
export function load(url, perSecond, body, key = () => TOKEN) {
  const open = new Set();
  const send = () => {
    const one = fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key()}` },
      body: JSON.stringify(typeof body === 'function' ? body() : body),
    }).then((answer) => answer.arrayBuffer(), () => undefined).finally(() => open.delete(one));
    open.add(one);
  };
  // A test that fails before it stops the load must still end.
  const timer = setInterval(send, 1_000 / perSecond).unref();
  return async () => {
    clearInterval(timer);
    await Promise.all(open);
  };
}
