// The dashboard in Chromium, under load and with faults: what an operator must see, and how it comes back.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { browser as launched, load, opened, signedIn, violations } from './browser.mjs';
import { ADMIN_TOKEN, TOKEN, stack, steered } from './harness.mjs';

const WORLD = `
[[provider]]
name = "openrouter"
dialect = "openrouter"
latency = { ttft_ms = 5, ttft_sigma = 0, per_token_ms = 0.2, output = { mean = 20, sigma = 0.3, max = 200 } }
[[provider.model]]
id = "vendor/large"
input_nano_usd = 3000
output_nano_usd = 15000
[[provider.account]]
name = "acc-a"
key = [{ name = "or-1", secret = "sk-test-or-1" }, { name = "or-2", secret = "sk-test-or-2" }]
[[provider.account]]
name = "acc-b"
key = [{ name = "or-3", secret = "sk-test-or-3" }]
[[provider]]
name = "narrow"
dialect = "openai"
limits = [{ dimension = "requests", limit = 5, period_ms = 1000, shape = "window" }]
latency = { ttft_ms = 5, ttft_sigma = 0, per_token_ms = 0.2, output = { mean = 10, sigma = 0, max = 200 } }
[[provider.account]]
name = "n-a"
key = [{ name = "narrow-1", secret = "sk-test-narrow-1" }]
`;
const CONFIG = `
[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
token = "literal:${TOKEN}"
admin_token = "literal:${ADMIN_TOKEN}"
data_dir = "@DATA@"
[[provider]]
name = "openrouter"
base_url = "@WORLD@/openrouter/api/v1"
keys = [
  { name = "or-1", account = "acc-a", secret = "literal:sk-test-or-1" },
  { name = "or-2", account = "acc-a", secret = "literal:sk-test-or-2" },
  { name = "or-3", account = "acc-b", secret = "literal:sk-test-or-3" },
]
account = [{ name = "acc-a" }, { name = "acc-b" }]
[[provider]]
name = "narrow"
dialect = "openai"
base_url = "@WORLD@/narrow/v1"
limits = [{ requests = 5, per = "1s", shape = "window" }]
keys = [{ name = "narrow-1", secret = "literal:sk-test-narrow-1" }]
[[webhook]]
name = "ops"
url = "literal:@WORLD@/nobody/T0KEN"
events = ["ledger"]
[[price]]
model = "openrouter:*"
input = 3
output = 15
[[route]]
model = "large"
tiers = [["openrouter:vendor/large"]]
[[route]]
model = "small"
tiers = [["narrow:small"]]
max_wait = "20s"
`;
const LARGE = { model: 'large', messages: [{ role: 'user', content: 'How far is the moon?' }] };
/** Each another conversation: one and the same would stay with one key, and the others' faults would never show. */
const varied = () => {
  let n = 0;
  return () => ({ ...LARGE, messages: [{ role: 'user', content: `How far is moon number ${n++}?` }] });
};
const SMALL = { model: 'small', messages: steered({ output_tokens: 3 }) };

let chromium, front;
before(async () => {
  chromium = await launched();
  front = await stack({ config: CONFIG, worldText: WORLD });
});
after(async () => {
  await chromium?.close();
  await front?.stop();
});

const told = (page, text) => page.getByText(text).first().waitFor();
const go = (page, where) => page.evaluate((hash) => { location.hash = hash; }, where);
const admin = (path, options = {}) => fetch(`${front.admin}${path}`, { ...options, headers: { authorization: `Bearer ${ADMIN_TOKEN}`, ...options.headers } });

test('one signs in once with the admin token, and out again', async () => {
  const page = await opened(chromium);
  await page.goto(front.admin);
  const field = page.getByLabel('Admin token');
  await field.waitFor();
  assert.deepEqual(await violations(page), []);
  await field.fill('a-wrong-one');
  await field.press('Enter');
  await told(page, 'That is not the admin token.');
  await field.fill(ADMIN_TOKEN);
  await field.press('Enter');
  await told(page, /All is well/);
  const [cookie] = await page.context().cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict' && !cookie.value.includes(ADMIN_TOKEN));
  await page.reload();
  await told(page, /All is well/);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await field.waitFor();
  // The ticket itself is void, not only forgotten by the browser.
  const again = await fetch(`${front.admin}/admin/state`, { headers: { cookie: `${cookie.name}=${cookie.value}` } });
  assert.equal(again.status, 401);
  await page.context().close();
});

test('the token in the address opens the page and does not stay there', async () => {
  const page = await signedIn(chromium, front.admin);
  assert.equal(new URL(page.url()).search, '');
  assert.deepEqual(page.complaints, [], 'nothing is refused by the policy of the page');
  await page.context().close();
});

test('another site cannot act with the cookie of a page that is signed in', async () => {
  const page = await signedIn(chromium, front.admin);
  const [{ name, value }] = await page.context().cookies();
  const path = '/admin/keys/openrouter/or-1/disable';
  const post = (headers) => fetch(`${front.admin}${path}`, { method: 'POST', headers: { cookie: `${name}=${value}`, ...headers } });
  for (const headers of [{}, { 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }, { origin: 'http://evil.test' }]) {
    assert.equal((await post(headers)).status, 403, JSON.stringify(headers));
  }
  const state = await (await admin('/admin/state')).json();
  assert.ok(state.providers.flatMap((p) => p.accounts).flatMap((a) => a.keys).every((k) => k.state === 'ready'));
  assert.equal((await fetch(`${front.admin}${path}`, { method: 'POST' })).status, 401);
  const signIn = { method: 'POST', headers: { 'content-type': 'application/json', origin: 'http://evil.test' }, body: JSON.stringify({ token: ADMIN_TOKEN }) };
  assert.equal((await fetch(`${front.admin}/admin/session`, signIn)).status, 403);
  assert.equal((await admin('/admin/keys/openrouter/or-1/enable', { method: 'POST' })).status, 200, 'a program has no cookie that could be misused');
  await page.context().close();
});

test('faults show while the load goes on: a key is revoked, an account is out of credit, a burst waits', async (t) => {
  const page = await signedIn(chromium, front.admin);
  const stop = load(front.url, 20, varied());
  /** From the gateway's event to the page, in milliseconds: a figure, not a condition. */
  const seen = async (what, text) => {
    await told(page, text);
    const { at } = await page.evaluate((part) => {
      const line = [...document.querySelectorAll('.entries li')].find((li) => li.textContent.includes(part));
      return { at: line?.querySelector('time')?.dateTime };
    }, 'benched');
    t.diagnostic(`${what}: on the page at most ${Date.now() - Date.parse(at)} ms after the gateway knew`);
  };
  await told(page, /requests a second on/);

  await front.fault('openrouter', { key: 'or-1' }, 'bad_key');
  await seen('revoked key', /openrouter\/or-1: its provider refuses it/);
  await told(page, /One of 4 keys is out; the others carry the load/);

  await front.fault('openrouter', { account: 'acc-b' }, { payment: {} });
  await seen('out of credit', /openrouter\/or-3: its account is out of credit/);
  await told(page, /2 of 4 keys are out/);

  const burst = load(front.url, 40, SMALL);
  await go(page, '#/waiting');
  await told(page, /requests wait, holding/);
  await told(page, /narrow\/.*requests wanted/s);
  await burst();
  await told(page, 'Nobody waits.');

  await go(page, '#/keys?state=out');
  await told(page, '2 keys of 4');
  await go(page, '#/events');
  await told(page, /account benched: openrouter\/acc-b/);
  await stop();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test('a request that changed its key shows its path, and what was passed over', async () => {
  const page = await signedIn(chromium, front.admin);
  await go(page, '#/requests?outcome=troubled');
  const line = page.locator('.requests tbody tr', { hasText: 'answered' }).filter({ has: page.locator('td:nth-child(5)', { hasText: /^2$/ }) }).first();
  await line.getByRole('link').click();
  await told(page, /Attempt 1: openrouter/);
  await told(page, /Attempt 2: openrouter/);
  await told(page, /the key was refused|out of credit/);
  await told(page, /status 200/);
  await page.context().close();
});

test('a filter that fits nothing, an id that is not remembered and a page that does not exist say so', async () => {
  const page = await signedIn(chromium, front.admin);
  for (const [where, text] of [
    ['#/requests?search=nothing-like-this', 'No request fits.'],
    ['#/requests/km-never', /No request of this id/],
    ['#/keys?search=nothing-like-this', /No key fits/],
    ['#/keys/999', 'No such key'],
    ['#/nowhere', 'No such page'],
  ]) {
    await go(page, where);
    await told(page, text);
  }
  await page.context().close();
});

test('a key is switched off and on, and tried again, after a question', async () => {
  const page = await signedIn(chromium, front.admin);
  await go(page, '#/keys?search=or-2');
  await page.getByRole('link', { name: 'or-2' }).click();
  await page.getByRole('button', { name: 'Switch off' }).first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await page.getByText('ready').first().waitFor();
  await page.getByRole('button', { name: 'Switch off' }).first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'Switch off' }).click();
  await page.getByRole('button', { name: 'Switch on' }).waitFor();
  const state = async () => (await (await admin('/admin/state')).json()).providers.flatMap((p) => p.accounts).flatMap((a) => a.keys).find((k) => k.name === 'or-2').state;
  assert.equal(await state(), 'disabled');
  await page.getByRole('button', { name: 'Switch on' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Switch on' }).click();
  await page.getByRole('button', { name: 'Switch off' }).waitFor();
  assert.equal(await state(), 'ready');

  await go(page, '#/keys?search=or-1');
  await page.getByRole('link', { name: 'or-1' }).click();
  await page.getByRole('button', { name: 'Try again now' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Try again' }).click();
  await page.getByText('ready').first().waitFor();
  await page.context().close();
});

test('the configuration is read again at a word, and a broken one is told and changes nothing', async () => {
  const page = await signedIn(chromium, front.admin);
  await go(page, '#/events');
  const reload = async () => {
    await page.getByRole('button', { name: 'Reload configuration' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Reload' }).click();
  };
  await reload();
  await told(page, 'reload: nothing has changed');
  front.rewrite((text) => text.replace('[server]', '[sevrer]'));
  await reload();
  await told(page, /reload refused, the old configuration stays/);
  front.rewrite((text) => text.replace('[sevrer]', '[server]'));
  await page.context().close();
});

test('who is told stands on the page, and a message to try it says what came of it', async () => {
  const page = await signedIn(chromium, front.admin);
  await go(page, '#/events');
  const row = page.getByRole('region', { name: 'Webhooks' }).getByRole('row', { name: /^ops/ });
  const send = async () => {
    await row.getByRole('button', { name: 'Send a test' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Send' }).click();
  };
  await row.waitFor();
  assert.match(await row.textContent(), /nothing sent yet/);
  await send();
  await told(page, /The webhook `ops` at .* did not take the test: it answered 404/);
  const came = [];
  const receiver = createServer((request, answer) => {
    request.setEncoding('utf8').on('data', (text) => came.push(text)).on('end', () => answer.writeHead(204).end());
  });
  await new Promise((listening) => receiver.listen(0, '127.0.0.1', listening));
  front.rewrite((text) => text.replace(`${front.world}/nobody/`, `http://127.0.0.1:${receiver.address().port}/`));
  await told(page, 'webhook ops changed: url');
  await send();
  await told(page, /^delivered to http:/);
  assert.equal(JSON.parse(came.join('')).events[0].state, 'happened');
  assert.ok(!(await page.content()).includes('T0KEN'));
  receiver.close();
  await page.context().close();
});

for (const [name, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['on a phone', { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }],
]) {
  test(`axe-core finds nothing on any page, ${name}`, async () => {
    const stop = load(front.url, 10, LARGE);
    const page = await signedIn(chromium, front.admin, options);
    const request = (await (await admin('/admin/requests?troubled=true&limit=1')).json()).requests[0].id;
    const key = await page.evaluate(() => fetch('/admin/state').then((r) => r.json())).then(() => 0);
    for (const where of ['overview', 'keys', `keys/${key}`, 'waiting', 'requests', `requests/${request}`, 'spending', 'events']) {
      await go(page, `#/${where}`);
      await page.locator('main h1').waitFor();
      if (where === 'requests') await page.locator('.requests tbody tr').first().waitFor();
      if (where.startsWith('requests/')) await page.locator('.path').waitFor();
      assert.deepEqual(await violations(page), [], where);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${where} is ${over} pixels wider than the screen`);
    }
    await stop();
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
}

test('everything is reached by keyboard, and the heading takes the focus of a page that opens', async () => {
  const page = await signedIn(chromium, front.admin);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'To the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  const link = page.getByRole('navigation').getByRole('link', { name: 'Keys' });
  await link.focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.tagName === 'H1' && document.activeElement.textContent === 'Keys');
  await page.context().close();
});

test('the page outlives a restart of the gateway, and says so meanwhile', async () => {
  const page = await signedIn(chromium, front.admin);
  const again = await front.restart();
  await told(page, 'reconnecting…');
  await told(page, /This is the last that it said/);
  await again();
  await page.locator('.link.live').waitFor();
  // The new process knows nothing of a key's revocation until it meets it.
  await page.locator('main:not(.stale)').waitFor();
  await told(page, /All is well|the others carry the load|keys are out/);
  await page.context().close();
});

test('what was spent is told by whom, as the ledger has it', async () => {
  const page = await signedIn(chromium, front.admin, {});
  const send = (key, n) => Promise.all(Array.from({ length: n }, () => fetch(`${front.url}/v1/chat/completions`, {
    method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` }, body: JSON.stringify({ ...LARGE, max_tokens: 40 }),
  }).then((answer) => answer.json())));
  const admin = async (path, method = 'GET', body) => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${ADMIN_TOKEN}` };
    return (await fetch(`${front.admin}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) })).json();
  };
  await admin('/admin/teams/research', 'PUT', { budget: 5, reset: 'monthly' });
  const { key, id } = await admin('/admin/clients', 'POST', { name: 'night shift', team: 'research' });
  // In whole billionths: a sum of fractions ends a hair beside the ledger's, and may then be rounded to other digits.
  const nanos = (await send(key, 6)).reduce((sum, answer) => sum + Math.round(answer.usage.cost * 1e9), 0);
  assert.ok(nanos > 0);
  // A row is in the ledger a moment after its answer.
  const spent = async () => (await admin(`/admin/usage?by=client&client=${id}&since=24h`)).rows[0]?.requests;
  while (await spent() !== 6);
  await page.goto(`${front.admin}/#/spending?by=client&span=24h`);
  const row = page.locator('tbody tr', { has: page.getByRole('rowheader', { name: 'night shift' }) });
  await row.waitFor();
  const cells = await row.locator('td').allTextContents();
  assert.equal(cells[0], `$${(nanos / 1e9).toFixed(4)}`);
  assert.deepEqual([cells[3], cells[4]], ['6', '100 %']);
  await page.getByRole('combobox', { name: /^by/ }).selectOption('team');
  const team = page.locator('tbody tr', { has: page.getByRole('rowheader', { name: 'research' }) });
  await team.waitFor();
  assert.equal((await team.locator('td').allTextContents())[2], `$${((5e9 - nanos) / 1e9).toFixed(2)} of $5.00 monthly`);
  assert.match(await page.getByRole('img', { name: /^Spent each hour/ }).getAttribute('aria-label'), /most on \d\d:00: \$0\.\d+/);
  await page.reload();
  await team.waitFor();
  await page.close();
  await admin(`/admin/clients/${id}`, 'DELETE');
});
