// Draws a dashboard from live data with Grafana's own components in headless Chromium. See README.md.
//
//   node preview.mjs --prometheus http://127.0.0.1:9090 --dashboard ../dashboards/fleet.json --out fleet.png
//        [--from now-15m] [--to now] [--var service=shop] [--scrape-interval 15s]
//        [--width 1600] [--rows N: only what ends above this line of the grid] [--theme dark|light] [--scale 1]
//        [--note TEXT: stands at the foot]
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { collect, visiblePanels } from './node/collect.mjs';
import { Prometheus } from './node/prometheus.mjs';
import { choose, moment, seconds } from './node/variables.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const CELL = 38; // pixels of a line of Grafana's grid: 30, and a gap of 8
const AROUND = 116; // pixels above the first line and below the last
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const PAGE = `<!doctype html><meta charset="utf-8"><title>Preview</title><link rel="stylesheet" href="/page.css">
<script>window.__grafana_public_path__ = '/public/'</script><div id="page"></div><script src="/page.js"></script>`;

const { values: given } = parseArgs({
  options: {
    prometheus: { type: 'string', default: 'http://127.0.0.1:9090' },
    dashboard: { type: 'string' },
    out: { type: 'string' },
    var: { type: 'string', multiple: true, default: [] },
    from: { type: 'string' },
    to: { type: 'string' },
    'scrape-interval': { type: 'string', default: '15s' },
    width: { type: 'string', default: '1600' },
    rows: { type: 'string', default: 'Infinity' },
    theme: { type: 'string', default: 'dark' },
    scale: { type: 'string', default: '1' },
    note: { type: 'string', default: '' },
    chromium: { type: 'string', default: process.env.CHROMIUM ?? 'chromium' },
  },
});
if (!given.dashboard || !given.out) throw new Error('--dashboard FILE and --out FILE.png are needed');

/** page/ and what it imports as one script and one style sheet. */
function bundle() {
  return build({
    entryPoints: [join(HERE, 'page/page.jsx')],
    outdir: join(HERE, 'build'),
    bundle: true,
    minify: true,
    jsx: 'automatic',
    define: { global: 'window', 'process.env.NODE_ENV': '"production"' },
    loader: { '.ttf': 'dataurl', '.woff': 'empty', '.woff2': 'dataurl', '.svg': 'dataurl', '.png': 'dataurl' },
    logLevel: 'error',
  });
}

async function gather() {
  const dashboard = JSON.parse(readFileSync(given.dashboard, 'utf8'));
  const prometheus = new Prometheus(given.prometheus);
  const now = Math.floor(Date.now() / 1000);
  const from = moment(given.from ?? dashboard.time?.from ?? 'now-1h', now);
  const to = moment(given.to ?? dashboard.time?.to ?? 'now', now);
  const chosen = {};
  for (const one of given.var) {
    const [name, value] = one.split(/=(.*)/s);
    chosen[name] = value.split(',');
  }
  const { values, bar } = await choose(dashboard, chosen, prometheus, from, to);
  const width = Number(given.width);
  const around = { values, prometheus, from, to, width, scrape: seconds(given['scrape-interval']) };
  const panels = [];
  for (const panel of visiblePanels(dashboard, Number(given.rows))) panels.push(await collect(panel, around));
  const { title, timezone } = dashboard;
  return { title, timezone, bar, from, to, width, theme: given.theme, note: given.note, panels };
}

/** Serves the page to Chromium and hears what the page has to say. */
function serve(dashboard) {
  const notes = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://page').pathname);
    if (path === '/notes') {
      request.on('data', (text) => notes.push(text)).on('end', () => response.end());
      return;
    }
    const icon = path.replace('/public/build/img/', 'node_modules/@grafana/ui/dist/public/img/');
    const file = icon === path ? join(HERE, 'build', path) : resolve(HERE, icon);
    try {
      const body = path === '/' ? PAGE : path === '/dashboard.json' ? JSON.stringify(dashboard) : readFileSync(file);
      response.writeHead(200, {
        'Content-Type': TYPES[extname(path)] ?? (path === '/' ? 'text/html' : 'application/json'),
      });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done({ server, notes })));
}

function screenshot(url, height) {
  const profile = mkdtempSync(join(tmpdir(), 'preview-'));
  const root = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  const quiet = `--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update
    --disable-sync --hide-scrollbars --virtual-time-budget=15000`.split(/\s+/);
  const size = [`--window-size=${given.width},${height}`, `--force-device-scale-factor=${given.scale}`];
  const where = [`--user-data-dir=${profile}`, `--screenshot=${resolve(given.out)}`, url];
  const browser = spawn(given.chromium, ['--headless=new', ...root, ...quiet, ...size, ...where], { stdio: 'ignore' });
  const late = setTimeout(() => browser.kill(), 90_000);
  return new Promise((done, fail) => browser.on('error', fail).on('exit', done)).finally(() => {
    clearTimeout(late);
    rmSync(profile, { recursive: true, force: true, maxRetries: 3 });
  });
}

const [dashboard] = await Promise.all([gather(), bundle()]);
const lines = Math.max(...dashboard.panels.map(({ panel }) => panel.gridPos.y + panel.gridPos.h));
const { server, notes } = await serve(dashboard);
mkdirSync(resolve(given.out, '..'), { recursive: true });
rmSync(given.out, { force: true });
await screenshot(`http://127.0.0.1:${server.address().port}/`, lines * CELL + AROUND);
server.close();
const said = notes.length ? JSON.parse(Buffer.concat(notes)) : ['the page did not come to its end'];
for (const note of said) console.error(note);
console.log(`${given.out}: ${dashboard.panels.length} panels, ${Math.round(statSync(given.out).size / 1000)} kB`);
process.exitCode = said.length ? 1 : 0;
