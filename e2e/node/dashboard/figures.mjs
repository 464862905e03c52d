// The dashboard's figures: its weight, the time to its first picture, the bytes that an open page draws, and whether any of
// its tasks is long with 500 keys at 1,000 requests a second.
//   node dashboard/figures.mjs [SECONDS [RATE]]

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { browser as launched, opened } from '../browser.mjs';
import { ADMIN_TOKEN, TOKEN, stack } from '../harness.mjs';

const KEYS = 500;
const RATE = Number(process.argv[3] ?? 1_000);
const SECONDS = Number(process.argv[2] ?? 60);
const PAGES = ['overview', 'keys', 'keys?sort=full', 'keys/0', 'requests', 'spending', 'events', 'waiting'];
/** No task of the page may take longer. */
const LONG_MS = 50;

const ids = Array.from({ length: KEYS }, (_, i) => `k${String(i).padStart(3, '0')}`);
const worldText = `
[[provider]]
name = "many"
dialect = "openai"
latency = { ttft_ms = 2, ttft_sigma = 0, per_token_ms = 0, output = { mean = 4, sigma = 0, max = 8 } }
limits = [{ dimension = "requests", limit = 600, period_ms = 60000 }, { dimension = "total_tokens", limit = 400000, period_ms = 60000 }]
default_max_tokens = 16
${ids.map((id) => `[[provider.account]]\nname = "a-${id}"\nkey = [{ name = "${id}", secret = "sk-test-${id}" }]`).join('\n')}
`;
const config = `
[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
token = "literal:${TOKEN}"
admin_token = "literal:${ADMIN_TOKEN}"
data_dir = "@DATA@"
[[provider]]
name = "many"
dialect = "openai"
base_url = "@WORLD@/many/v1"
keys = [${ids.map((id) => `{ name = "${id}", secret = "literal:sk-test-${id}" }`).join(', ')}]
[[route]]
model = "m"
tiers = [["many:m"]]
# Every key is used every second, so every row of every picture is another.
strategy = "round_robin"
`;

const front = await stack({ config, worldText });
const chromium = await launched();
const rows = [];
const row = (what, value) => rows.push([what, value]);

/** Loads the page anew, and says what came over the wire and when it was seen. */
async function first(page) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Network.enable');
  const wire = { bytes: 0, names: new Map() };
  cdp.on('Network.responseReceived', ({ requestId, response }) => wire.names.set(requestId, new URL(response.url).pathname));
  cdp.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    if (!wire.names.get(requestId)?.startsWith('/admin')) wire.bytes += encodedDataLength;
  });
  await page.goto(`${front.admin}/?token=${ADMIN_TOKEN}`);
  await page.locator('.health h1').waitFor();
  const times = await page.evaluate(() => ({
    paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
    state: performance.getEntriesByName('first-state')[0]?.startTime,
  }));
  await cdp.detach();
  return { bytes: wire.bytes, ...times };
}

const page = await opened(chromium);
// Counts the pictures that come: a page that has lost its gateway is idle, and would look fast.
await page.addInitScript(() => {
  globalThis.told = { ticks: 0, bytes: 0 };
  const listen = EventSource.prototype.addEventListener;
  EventSource.prototype.addEventListener = function on(type, ...rest) {
    if (type === 'tick') listen.call(this, type, (event) => { globalThis.told.ticks += 1; globalThis.told.bytes += event.data.length; });
    return listen.call(this, type, ...rest);
  };
});
const seen = await first(page);
row('page weight, all files, gzipped, with headers', `${(seen.bytes / 1_000).toFixed(1)} KB`);
row('first paint (cold cache)', `${Math.round(seen.paint)} ms`);
row('first picture with data (cold cache)', `${Math.round(seen.state)} ms`);

const load = spawn(process.env.TESTKIT_BIN, ['load', '--url', `${front.url}/v1`, '--rate', String(RATE), '--duration', String(SECONDS * (PAGES.length + 1) + 30), '--model', 'm', '--token', TOKEN], { stdio: ['ignore', 'pipe', 'inherit'] });
const totals = async () => (await (await fetch(`${front.admin}/admin/state`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })).json()).totals.done;
const cdp = await page.context().newCDPSession(page);
await cdp.send('Performance.enable');
await page.evaluate(() => {
  globalThis.tasks = [];
  new PerformanceObserver((list) => globalThis.tasks.push(...list.getEntries().map((e) => e.duration))).observe({ type: 'longtask' });
});
const spent = async () => Object.fromEntries((await cdp.send('Performance.getMetrics')).metrics.map((m) => [m.name, m.value]));
let longest = 0;
for (const where of PAGES) {
  await page.evaluate((hash) => { location.hash = hash; }, `#/${where}`);
  await page.locator('main h1').first().waitFor();
  await page.evaluate(() => { globalThis.tasks.length = 0; globalThis.told = { ticks: 0, bytes: 0 }; });
  const before = { ...(await spent()), done: await totals(), at: Date.now() };
  // The measurement is over time: a minute of it.
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 1_000));
  const after = await spent();
  const took = (Date.now() - before.at) / 1_000;
  const { tasks, told } = await page.evaluate(() => ({ tasks: globalThis.tasks, told: globalThis.told }));
  longest = Math.max(longest, ...tasks);
  const share = (name) => `${(((after[name] - before[name]) / took) * 100).toFixed(1)} %`;
  const rate = ((await totals()) - before.done) / took;
  row(`${where}: tasks over ${LONG_MS} ms in ${SECONDS} s, the longest`, `${tasks.length}, ${tasks.length ? `${Math.max(...tasks)} ms` : '-'}`);
  row(`${where}: main thread busy (scripts, layout and style)`, `${share('TaskDuration')} (${share('ScriptDuration')}, ${((Number.parseFloat(share('LayoutDuration')) + Number.parseFloat(share('RecalcStyleDuration')))).toFixed(1)} %)`);
  row(`${where}: what it was told`, `${told.ticks} pictures of ${(told.bytes / Math.max(1, told.ticks) / 1_000).toFixed(1)} KB at ${rate.toFixed(0)} requests/s, ${KEYS} keys`);
}
load.kill('SIGINT');
await once(load, 'exit');
await chromium.close();
await front.stop();
const width = Math.max(...rows.map(([what]) => what.length));
for (const [what, value] of rows) console.log(`${what.padEnd(width)}  ${value}`);
console.log(longest > LONG_MS ? `MISSED: a task of ${longest} ms, with ${LONG_MS} ms promised` : `kept: no task over ${LONG_MS} ms`);
