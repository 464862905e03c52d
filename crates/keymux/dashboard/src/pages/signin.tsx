// Shown to whoever is not signed in.

import { useState } from 'preact/hooks';
import { signIn } from '../live.ts';

export function SignIn() {
  const [wrong, fail] = useState<string | null>(null);
  const [busy, work] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const token = String(new FormData(event.currentTarget as HTMLFormElement).get('token') ?? '').trim();
    if (!token) return fail('Type or paste the admin token.');
    work(true);
    fail(await signIn(token));
    work(false);
  };
  return (
    <main class="signin">
      <h1>keymux</h1>
      <p>Sign in with the admin token.</p>
      <form onSubmit={(event) => void submit(event)}>
        <label for="token">Admin token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" autofocus aria-invalid={wrong !== null} aria-describedby="wrong where" />
        <p id="wrong" class="wrong" role="alert">{wrong}</p>
        <button type="submit" class="primary" disabled={busy}>{busy ? 'One moment…' : 'Sign in'}</button>
      </form>
      <p id="where" class="quiet">It is in the file <code>admin-token</code> of the gateway's data directory, unless <code>server.admin_token</code> sets another. A client's key does not open this page.</p>
    </main>
  );
}
