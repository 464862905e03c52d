// Starts the real binaries for the Node tests, on the same specs as the Python ones, and ends them again.
// A binary that is not built is an error that says so; nothing is skipped.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { once } from 'node:events';

export const TOKEN = 'km-test-token';
export const ADMIN_TOKEN = 'km-test-admin';
const SPECS = new URL('../specs/', import.meta.url);
const PATIENCE_MS = 20_000;

function binary(variable) {
  const path = process.env[variable];
  if (!path) throw new Error(`${variable} is not set: run these tests by scripts/e2e, which builds the binaries`);
  return path;
}

/** A child whose first line of output says its addresses, as JSON. */
async function start(command, argv) {
  const { PATH, HOME, TMPDIR } = process.env;
  const child = spawn(command, argv, { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH, HOME, ...(TMPDIR && { TMPDIR }) } });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (log += text));
  const died = once(child, 'exit').then(([code]) => {
    throw new Error(`${command} ${argv.join(' ')} ended with ${code}:\n${log}`);
  });
  died.catch(() => {});
  const [line] = await Promise.race([
    once(createInterface(child.stdout), 'line', { signal: AbortSignal.timeout(PATIENCE_MS) }),
    died,
  ]);
  return {
    child,
    addresses: JSON.parse(line),
    log: () => log,
    async stop() {
      if (child.exitCode !== null) throw new Error(`${command} had died:\n${log}`);
      const gone = once(child, 'exit', { signal: AbortSignal.timeout(PATIENCE_MS) });
      child.kill('SIGTERM');
      await gone;
      if (log.includes('panicked')) throw new Error(log);
    },
  };
}

/** The simulated providers of e2e/specs/world.toml (or of another world's text) and a gateway in front of them. */
export async function stack({ config, worldText } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'keymux-e2e-'));
  const spec = worldText ? join(folder, 'world.toml') : new URL('world.toml', SPECS).pathname;
  if (worldText) writeFileSync(spec, worldText);
  const world = await start(binary('TESTKIT_BIN'), ['serve', '--spec', spec, '--listen', '127.0.0.1:0', '--print-addr']);
  world.url = `http://${world.addresses.listen}`;
  const text = (config ?? readFileSync(new URL('gateway.toml', SPECS), 'utf8'))
    .replaceAll('@WORLD@', world.url)
    .replaceAll('@DATA@', join(folder, 'data'))
    .concat('\n[ledger]\nlog_bytes = "1MiB"\n[checks]\nevery = "0s"\n');
  const file = join(folder, 'keymux.toml');
  writeFileSync(file, text);
  const serve = () => start(binary('KEYMUX_BIN'), ['serve', '--config', file, '--print-addr']);
  let gateway = await serve();
  gateway.url = `http://${gateway.addresses.listen}`;
  const ready = await fetch(`${gateway.url}/readyz`, { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!ready.ok) throw new Error(`/readyz: ${ready.status}\n${gateway.log()}`);

  return {
    url: gateway.url,
    admin: `http://${gateway.addresses.admin}`,
    world: world.url,
    log: () => gateway.log(),
    /** Lets a provider, an account or a key fail from now on. */
    async fault(provider, place, kind) {
      const body = JSON.stringify({ provider, ...place, fault: { kind } });
      const answer = await fetch(`${world.url}/_sim/faults`, { method: 'POST', body });
      if (!answer.ok) throw new Error(await answer.text());
    },
    /** Another configuration's text for the file; the running gateway finds it by itself or by a reload. */
    rewrite(change) {
      writeFileSync(file, change(readFileSync(file, 'utf8')));
    },
    /** Ends the gateway; what is called then starts it again, on the same addresses. */
    async restart() {
      const { listen, admin } = gateway.addresses;
      await gateway.stop();
      const fixed = readFileSync(file, 'utf8').replace('listen = "127.0.0.1:0"', `listen = "${listen}"`).replace('admin = "127.0.0.1:0"', `admin = "${admin}"`);
      writeFileSync(file, fixed);
      return async () => { gateway = await serve(); };
    },
    /** The provider's own record of each call, in order of arrival. */
    async records(provider) {
      return (await fetch(`${world.url}/_sim/records?provider=${provider}`)).json();
    },
    /** Waits until a provider has had that many calls and none is open; returns them all. */
    async ended(provider, calls) {
      const query = `provider=${provider}&calls=${calls}&open=0&timeout_ms=${PATIENCE_MS}`;
      const answer = await fetch(`${world.url}/_sim/wait?${query}`);
      if (!answer.ok) throw new Error(`never came to pass: ${await answer.text()}`);
      return answer.json();
    },
    async stop() {
      await gateway.stop();
      await world.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A configuration with one provider of world.toml and its three keys. */
export function configOf(name, dialect, path, more = '') {
  const keys = [1, 2, 3].map((i) => `{ name = "${name}-${i}", secret = "literal:sk-test-${name}-${i}" }`).join(', ');
  return `[server]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
token = "literal:${TOKEN}"
data_dir = "@DATA@"
[[provider]]
name = "${name}"
dialect = "${dialect}"
base_url = "@WORLD@/${name}/${path}"
keys = [${keys}]
${more}
`;
}

/** A prompt that tells the simulated provider what to do. */
export const steered = (steer) => [{ role: 'user', content: `sim: ${JSON.stringify(steer)}` }];
export const ASK = [{ role: 'user', content: 'How far is the moon?' }];
