// OpenRouter's official SDK for TypeScript through the gateway.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { OpenRouter } from '@openrouter/sdk';
import { ADMIN_TOKEN, ASK, TOKEN, configOf, stack, steered } from './harness.mjs';

const model = 'vendor/large';
const sdk = (url, apiKey = TOKEN) =>
  new OpenRouter({ apiKey, serverURL: `${url}/api/v1`, retryConfig: { strategy: 'none' } });
const chat = (client, request) => client.chat.send({ chatRequest: { model, messages: ASK, ...request } });
let front, client;
before(async () => {
  front = await stack();
  client = sdk(front.url);
});
after(() => front?.stop());

test('a plain chat, with its cost', async () => {
  const answer = await chat(client, { messages: steered({ text: 'Quite far.' }) });
  assert.equal(answer.choices[0].message.content, 'Quite far.');
  assert.ok(answer.usage.cost > 0);
});

test('a streamed chat', async () => {
  const chunks = [];
  for await (const chunk of await chat(client, { messages: steered({ text: 'Quite far away.' }), stream: true })) {
    chunks.push(chunk);
  }
  assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''), 'Quite far away.');
  assert.ok(chunks.at(-1).usage.cost > 0);
});

test('provider preferences and a list of models go through', async () => {
  const answer = await chat(client, {
    models: ['vendor/large', 'vendor/large:free'],
    provider: { order: ['x/fast'], allowFallbacks: true, sort: 'price' },
  });
  assert.ok(answer.choices[0].message.content);
});

test('models are listed as OpenRouter lists them', async () => {
  const only = await stack({ config: configOf('openrouter', 'openrouter', 'api/v1') });
  try {
    const ids = [];
    for await (const page of await sdk(only.url).models.list()) ids.push(...page.result.data.map((m) => m.id));
    assert.ok(ids.includes('vendor/large:free'));
  } finally {
    await only.stop();
  }
});

test('errors have the statuses that the SDK tells apart', async () => {
  const status = (wanted) => (e) => e.statusCode === wanted || assert.fail(`${e.name} ${e.statusCode}: ${e.message}`);
  await assert.rejects(chat(client, { messages: steered({ status: 400 }) }), status(400));
  await assert.rejects(chat(client, { model: 'never-heard-of' }), status(404));
  await assert.rejects(chat(sdk(front.url, 'wrong')), status(401));
});

test('three limited keys carry what one would refuse, and no client error', async () => {
  const limits = 'limits = [{ requests = 5, per = "1s", shape = "window" }]';
  const narrow = await stack({ config: configOf('narrow-openrouter', 'openrouter', 'api/v1', limits) });
  try {
    const many = sdk(narrow.url);
    const ask = () => chat(many, { model: 'narrow-openrouter:m' });
    const answers = await Promise.all(Array.from({ length: 30 }, ask));
    assert.ok(answers.every((a) => a.choices[0].message.content));
    const served = (await narrow.records('narrow-openrouter')).filter((r) => r.status === 200);
    assert.equal(served.length, 30);
    assert.equal(new Set(served.map((r) => r.key)).size, 3);
  } finally {
    await narrow.stop();
  }
});

test("client keys are managed by OpenRouter's own calls", async (t) => {
  const priced = readFileSync(new URL('../specs/gateway.toml', import.meta.url), 'utf8')
    .concat('\n[[price]]\nmodel = "*:*"\ninput = 3\noutput = 15\n');
  const own = await stack({ config: priced });
  // Whatever fails here: a gateway that is left behind keeps the whole run waiting.
  t.after(() => own.stop());
  const manage = sdk(own.url, ADMIN_TOKEN);
  const asked = { name: 'night shift', limit: 5, limitReset: 'daily' };
  const made = await manage.apiKeys.create({ requestBody: asked });
  const { hash } = made.data;
  assert.deepEqual([made.data.name, made.data.limit, made.data.limitRemaining, made.data.limitReset], ['night shift', 5, 5, 'daily']);
  const theirs = sdk(own.url, made.key);
  const answer = await chat(theirs, { messages: steered({ text: 'Quite far.' }), maxTokens: 50 });
  // What the answer cost is what each view says, as soon as the answer is there.
  const { cost } = answer.usage;
  assert.ok(cost > 0);
  const near = (seen) => assert.ok(Math.abs(seen - cost) < 1e-9, `${seen} is not ${cost}`);
  near((await manage.apiKeys.get({ hash })).data.usage);
  near((await theirs.apiKeys.getCurrentKeyMetadata()).data.usageDaily);
  near((await theirs.credits.getCredits()).data.totalUsage);
  const [listed] = (await manage.apiKeys.list({})).data.filter((key) => key.hash === hash);
  near(listed.usageMonthly);
  near(5 - listed.limitRemaining);
  const changed = await manage.apiKeys.update({ hash, requestBody: { limit: 7, limitReset: null } });
  assert.deepEqual([changed.data.limit, changed.data.limitReset], [7, null]);
  near(7 - changed.data.limitRemaining);
  const generation = await written(() => theirs.generations.getGeneration({ id: answer.id }));
  near(generation.data.totalCost);
  await manage.apiKeys.update({ hash, requestBody: { disabled: true } });
  await assert.rejects(chat(theirs, {}), (e) => e.statusCode === 401);
  assert.equal((await manage.apiKeys.delete({ hash })).deleted, true);
  await assert.rejects(manage.apiKeys.get({ hash }), (e) => e.statusCode === 404);
  // A client key manages nothing.
  await assert.rejects(theirs.apiKeys.list({}), (e) => e.statusCode === 401);
});

/** A row is in the ledger a moment after its answer. */
async function written(look) {
  for (let left = 200; ; left -= 1) {
    try {
      return await look();
    } catch (error) {
      if (error.statusCode !== 404 || left === 0) throw error;
    }
  }
}
