// Builds the page into dist/, each file with a compressed twin: the binary carries both and never compresses anything.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

const DIST = join(import.meta.dirname, 'dist');

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
    .map((entry) => join(entry.parentPath, entry.name));
}

const pack: Plugin = {
  name: 'pack',
  apply: 'build',
  // The folder itself stays: a file in it keeps it in the repository.
  buildStart() {
    files(DIST).forEach((path) => rmSync(path));
  },
  closeBundle() {
    for (const path of files(DIST)) writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
  },
};

export default defineConfig({
  plugins: [pack],
  // `npm run dev` shows the page of a gateway that runs, with its sources live.
  server: { proxy: { '/admin': process.env['KEYMUX_ADMIN'] ?? 'http://127.0.0.1:4001' } },
  build: {
    outDir: DIST,
    emptyOutDir: false,
    target: 'es2022',
    // The page's policy allows neither inline scripts nor data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
