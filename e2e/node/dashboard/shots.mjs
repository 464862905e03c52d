// Pictures of the dashboard: a team's fleet under a day's load, with what goes wrong in one.
//   node dashboard/shots.mjs FOLDER

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { browser as launched, load, opened, signedIn } from '../browser.mjs';
import { ADMIN_TOKEN, stack } from '../harness.mjs';

const PROVIDERS = [
  { name: 'openrouter', dialect: 'openrouter', path: 'api/v1', rpm: 900, accounts: { production: ['main', 'spare'], research: ['lab'] } },
  { name: 'openai', dialect: 'openai', path: 'v1', rpm: 500, tpm: 200_000, accounts: { 'org-a': ['org-a-1', 'org-a-2'], 'org-b': ['org-b'], 'org-c': ['org-c'] } },
  { name: 'anthropic', dialect: 'openai', path: 'v1', rpm: 300, tpm: 80_000, accounts: { 'tier-2': ['claude-1'], 'tier-3': ['claude-2'] } },
];
const latency = 'latency = { ttft_ms = 180, ttft_sigma = 0.35, per_token_ms = 4, tokens_per_event = 2, output = { mean = 60, sigma = 0.5, max = 300 } }';
const limits = (p) => [`{ dimension = "requests", limit = ${p.rpm}, period_ms = 60000, burst = ${Math.ceil(p.rpm / 20)} }`,
  ...(p.tpm ? [`{ dimension = "total_tokens", limit = ${p.tpm}, period_ms = 60000 }`] : [])].join(', ');

const worldText = PROVIDERS.map((p) => `
[[provider]]
name = "${p.name}"
dialect = "${p.dialect}"
${latency}
limits = [${limits(p)}]
default_max_tokens = 128
[[provider.model]]
id = "large"
input_nano_usd = 2500
output_nano_usd = 10000
${Object.entries(p.accounts).map(([account, keys]) => `[[provider.account]]
name = "${account}"
key = [${keys.map((key) => `{ name = "${key}", secret = "sk-test-${p.name}-${key}" }`).join(', ')}]`).join('\n')}
`).join('');

const config = `
[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
token = "literal:km-test-token"
admin_token = "literal:${ADMIN_TOKEN}"
data_dir = "@DATA@"
${PROVIDERS.map((p) => `
[[provider]]
name = "${p.name}"
dialect = "${p.dialect}"
base_url = "@WORLD@/${p.name}/${p.path}"
keys = [${Object.entries(p.accounts).flatMap(([account, keys]) => keys.map((key) => `{ name = "${key}", account = "${account}", secret = "literal:sk-test-${p.name}-${key}" }`)).join(', ')}]
account = [${Object.keys(p.accounts).map((name) => `{ name = "${name}" }`).join(', ')}]`).join('')}
${['search', 'support', 'research'].map((team, n) => `
[[team]]
name = "${team}"
budget = ${[5, 2, 0.5][n]}
reset = "monthly"
[[client]]
name = "${team}-service"
team = "${team}"
secret = "literal:km-test-${team}-0123456789abcdef"`).join('')}
[[price]]
model = "openrouter:*"
input = 2.5
output = 10
[[price]]
model = "openai:*"
input = 2.5
output = 10
[[price]]
model = "anthropic:*"
input = 3
output = 15
[[route]]
model = "assistant"
tiers = [["openrouter:large", "openai:large", "anthropic:large"]]
max_wait = "20s"
[[route]]
model = "claude"
tiers = [["anthropic:large"]]
max_wait = "20s"
`;

const folder = process.argv[2];
mkdirSync(folder, { recursive: true });
const ASSISTANT = { model: 'assistant', max_tokens: 96, stream: true, messages: [{ role: 'user', content: 'Why do keys of one account share a limit?' }] };
const CLAUDE = { ...ASSISTANT, model: 'claude' };

const front = await stack({ config, worldText });
const chromium = await launched();
const until = (page, text) => page.getByText(text).first().waitFor({ timeout: 120_000 });
const go = (page, where) => page.evaluate((hash) => { location.hash = hash; }, `#/${where}`);
const shot = async (page, name, options = {}) => {
  await page.screenshot({ path: join(folder, `${name}.png`), ...options });
  console.log(join(folder, `${name}.png`));
};

const out = await opened(chromium, {});
await out.goto(front.admin);
await out.getByLabel('Admin token').waitFor();
await shot(out, 'signin');
const empty = await signedIn(chromium, front.admin, {});
await shot(empty, 'empty', { fullPage: true });

const teams = ['search', 'search', 'search', 'support', 'support', 'research'].map((team) => `km-test-${team}-0123456789abcdef`);
const turns = (() => { let n = 0; return () => teams[n++ % teams.length]; })();
const stop = load(front.url, 22, ASSISTANT, turns);
const page = await signedIn(chromium, front.admin, { viewport: { width: 1280, height: 1000 } });
/** Waits until the gateway has so many seconds behind it, by its own count. */
const seconds = (n) => page.waitForFunction((wanted) => Number(document.querySelector('[data-seconds]')?.dataset.seconds) >= wanted, n, { timeout: 300_000 });
await seconds(45);
await shot(page, 'well', { fullPage: true });
await front.fault('openai', { key: 'org-a-2' }, 'bad_key');
await until(page, /org-a-2/);
await front.fault('openrouter', { account: 'research' }, { payment: {} });
await until(page, /research/);
const burst = load(front.url, 14, CLAUDE, turns);
await seconds(75);
const dark = await signedIn(chromium, front.admin, { colorScheme: 'dark', viewport: { width: 1280, height: 1000 } });
const phone = await signedIn(chromium, front.admin, { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
for (const [name, it] of [['light', page], ['dark', dark], ['phone', phone]]) {
  for (const where of ['overview', 'keys', 'waiting', 'requests', 'spending?span=24h', 'events']) {
    await go(it, where);
    await it.locator('main h1').first().waitFor();
    if (where === 'requests') await it.locator('.requests tbody tr').first().waitFor();
    if (where.startsWith('spending')) await it.locator('.spend').waitFor();
    await shot(it, `${where.split('?')[0]}-${name}`, { fullPage: where !== 'requests' });
  }
}
await go(page, 'keys?search=org-a-2');
await page.getByRole('link', { name: 'org-a-2' }).click();
await page.getByText('What failed').waitFor();
await shot(page, 'key');
await page.getByRole('button', { name: 'Try again now' }).click();
await shot(page, 'question');
await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
const troubled = await (await fetch(`${front.admin}/admin/requests?troubled=true&limit=200`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })).json();
const longest = troubled.requests.toSorted((a, b) => b.attempts - a.attempts || b.queue_ms - a.queue_ms)[0];
await go(page, `requests/${longest.id}`);
await page.locator('.path').waitFor();
await shot(page, 'request');
await burst();
await stop();
const again = await front.restart();
await go(page, 'overview');
await until(page, 'reconnecting…');
await shot(page, 'reconnecting');
await again();
await chromium.close();
await front.stop();
