// OpenRouter's official SDK for TypeScript through the gateway.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OpenRouter } from '@openrouter/sdk';
import { ASK, TOKEN, configOf, stack, steered } from './harness.mjs';

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
