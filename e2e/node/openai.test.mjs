// OpenAI's official SDK for Node through the gateway.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { ASK, TOKEN, configOf, stack, steered } from './harness.mjs';

const model = 'gpt-test';
let front, client;
before(async () => {
  front = await stack();
  client = new OpenAI({ baseURL: `${front.url}/v1`, apiKey: TOKEN, maxRetries: 0 });
});
after(() => front?.stop());

test('a plain completion', async () => {
  const answer = await client.chat.completions.create({ model, messages: steered({ text: 'Quite far.' }) });
  assert.equal(answer.choices[0].message.content, 'Quite far.');
  assert.ok(answer.usage.completion_tokens > 0);
});

test('a stream carries the same content, and usage only when asked for', async () => {
  const text = 'Words like "usage", data: [DONE] and naïve 🦀 must not confuse anyone.';
  const read = async (more) => {
    const chunks = [];
    const stream = await client.chat.completions.create({ model, messages: steered({ text }), stream: true, ...more });
    for await (const chunk of stream) chunks.push(chunk);
    assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''), text);
    return chunks;
  };
  const unasked = await read({});
  assert.ok(unasked.every((c) => c.choices.length === 1 && c.usage == null));
  const asked = await read({ stream_options: { include_usage: true } });
  assert.ok(asked.at(-1).choices.length === 0 && asked.at(-1).usage.completion_tokens > 0);
});

test('a function call goes round', async () => {
  const tools = [
    {
      type: 'function',
      function: { name: 'distance', parameters: { type: 'object', properties: { body: { type: 'string' } } } },
    },
  ];
  const tool_choice = { type: 'function', function: { name: 'distance' } };
  const first = await client.chat.completions.create({ model, messages: ASK, tools, tool_choice });
  const [call] = first.choices[0].message.tool_calls;
  assert.equal(call.function.name, 'distance');
  assert.equal(typeof JSON.parse(call.function.arguments), 'object');
  const result = { role: 'tool', tool_call_id: call.id, content: '384400 km' };
  const messages = [...ASK, first.choices[0].message, result];
  const second = await client.chat.completions.create({ model, messages, tools, tool_choice: 'none' });
  assert.ok(second.choices[0].message.content);
  const streamed = client.chat.completions.stream({ model, messages: ASK, tools, tool_choice });
  const final = await streamed.finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, 'distance');
});

test('embeddings', async () => {
  const answer = await client.embeddings.create({ model, input: ['one', 'two'] });
  assert.equal(answer.data.length, 2);
  assert.ok(answer.data[0].embedding.length > 0 && answer.data[0].embedding.every(Number.isFinite));
});

test('responses: plain, streamed, continued', async () => {
  const first = await client.responses.create({ model, input: steered({ text: 'Quite far.' }) });
  assert.equal(first.output_text, 'Quite far.');
  const events = [];
  for await (const event of await client.responses.create({ model, input: steered({ text: 'Far.' }), stream: true })) {
    events.push(event);
  }
  assert.equal(events.at(-1).type, 'response.completed');
  assert.deepEqual(events.map((e) => e.sequence_number), [...events.keys()]);
  for (let i = 0; i < 6; i++) {
    const one = await client.responses.create({ model, input: 'How far?' });
    const two = await client.responses.create({ model, input: 'And back?', previous_response_id: one.id });
    assert.ok(two.output_text);
  }
  await assert.rejects(
    client.responses.create({ model, input: 'And back?', previous_response_id: 'resp_never_made' }),
    OpenAI.NotFoundError,
  );
});

test('models are listed', async () => {
  const ids = [];
  for await (const one of client.models.list()) ids.push(one.id);
  assert.ok(ids.includes('gpt-test') && ids.includes('vendor/large'));
});

test('errors have the classes that the SDK promises', async () => {
  const stranger = new OpenAI({ baseURL: `${front.url}/v1`, apiKey: 'wrong', maxRetries: 0 });
  const chat = (of, more) => of.chat.completions.create({ model, messages: ASK, ...more });
  await assert.rejects(chat(stranger), OpenAI.AuthenticationError);
  await assert.rejects(chat(client, { model: 'gpt-tset' }), (e) => e instanceof OpenAI.NotFoundError && /gpt-test/.test(e.message));
  await assert.rejects(chat(client, { messages: steered({ status: 400 }) }), OpenAI.BadRequestError);
  await assert.rejects(chat(client, { model: 'claude-test' }), (e) => e.code === 'endpoint_not_served');
});

test('an error event in a stream is raised', async () => {
  const fault = { error_event: { after_events: 3 } };
  const stream = await client.chat.completions.create({ model, messages: steered({ fault, output_tokens: 20 }), stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, OpenAI.APIError);
});

test('a stream that is left, and a request that times out, are cancelled upstream', async () => {
  const slow = { output_tokens: 2000, per_token_ms: 20 };
  let seen = (await front.records('openai')).length;
  const stream = await client.chat.completions.create({ model, messages: steered(slow), max_tokens: 4000, stream: true });
  for await (const _ of stream) break;
  let rows = await front.ended('openai', seen + 1);
  assert.ok(rows[seen].cancelled);

  seen = rows.length;
  const late = client.chat.completions.create({ model, messages: steered({ delay_ms: 60_000 }) }, { timeout: 300 });
  await assert.rejects(late, OpenAI.APIConnectionTimeoutError);
  rows = await front.ended('openai', seen + 1);
  assert.ok(rows[seen].cancelled);
});

test('three limited keys carry what one would refuse, and no client error', async () => {
  const limits = 'limits = [{ requests = 5, per = "1s", shape = "window" }]';
  const narrow = await stack({ config: configOf('narrow-openai', 'openai', 'v1', limits) });
  try {
    const many = new OpenAI({ baseURL: `${narrow.url}/v1`, apiKey: TOKEN, maxRetries: 0 });
    const ask = () => many.chat.completions.create({ model: 'narrow-openai:m', messages: ASK });
    const answers = await Promise.all(Array.from({ length: 30 }, ask));
    assert.ok(answers.every((a) => a.choices[0].message.content));
    const served = (await narrow.records('narrow-openai')).filter((r) => r.status === 200);
    assert.equal(served.length, 30);
    assert.equal(new Set(served.map((r) => r.key)).size, 3);
  } finally {
    await narrow.stop();
  }
});

test('a refusal says when, and the SDK that waits is served', async () => {
  const limits = 'limits = [{ requests = 1, per = "2s", shape = "window" }]';
  const narrow = await stack({ config: configOf('narrow-openai', 'openai', 'v1', limits) });
  try {
    const seen = [];
    const watching = async (...argv) => {
      const answer = await fetch(...argv);
      seen.push(answer.status);
      return answer;
    };
    const patient = new OpenAI({ baseURL: `${narrow.url}/v1`, apiKey: TOKEN, maxRetries: 1, fetch: watching });
    const headers = { 'x-keymux-max-wait': '0ms' };
    for (let i = 0; i < 4; i++) {
      await patient.chat.completions.create({ model: 'narrow-openai:m', messages: ASK }, { headers });
    }
    assert.deepEqual(seen, [200, 200, 200, 429, 200]);
  } finally {
    await narrow.stop();
  }
});
