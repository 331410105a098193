// Blocks: which host gets no jobs of which workflow, as a matrix and as a list, each counting down.
import { html, nothing, svg } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { count, icon, plural, short, spaces } from '../format.js';
import { age, hashChip, heading, hostLink, jobLink, link, stale, unready } from '../parts.js';
import { mayOperate, store } from '../store.js';
import { at, clock, left, now } from '../time.js';

const mostRows = 30;
const mostColumns = 24;
const mostStruck = 2000;
const listed = 100;
const around = 2 * Math.PI * 16; // of a cell's ring

let draw = () => {};
let query = new URLSearchParams();
const whole = new Map(); // how long each block lasts, as far as it was seen from its beginning

const list = new Resource(async () => {
  const request = { ...(query.get('host') ? { host: query.get('host') } : {}), ...(query.get('hash') ? { hash: query.get('hash') } : {}) };
  if (whole.size > 50000) whole.clear();
  const blocks = await all('blocks', 'blocks', request, 100000, (rows) => list.part(rows.map(timed)));
  return blocks.map(timed);
}, () => draw(), 1000);
const struck = new Resource(() => all('blocks', 'struck', { ...(query.get('host') ? { host: query.get('host') } : {}), ...(query.get('hash') ? { hash: query.get('hash') } : {}), struck: true }, mostStruck), () => draw(), 5000);

/** Keeps when a block ends as a number, and how long it lasts as far as that was seen. */
function timed(b) {
  if (b.lasts) return b;
  b.end = at(b.until);
  const key = `${b.host}.${b.hash}.${b.until}`;
  if (!whole.has(key)) whole.set(key, Math.max(1000, b.end - now()));
  b.lasts = whole.get(key);
  return b;
}

export const title = () => 'Blocks';

export function open(route, redraw) {
  draw = redraw;
  if (query.toString() !== route.query.toString()) {
    list.reset();
    struck.reset();
  }
  query = route.query;
  resync();
}

export function resync() {
  list.load();
  struck.load();
}

export function changed(events) {
  if (events.some((e) => e.of === 'blocks' || e.kind === 'failed')) struck.soon();
  const own = events.filter((e) => e.of === 'blocks');
  if (!list.data || !own.length) return false;
  for (const e of own) {
    const rest = list.data.filter((b) => b.host !== e.event.host || b.hash !== e.event.hash);
    if (e.kind === 'blocked') {
      rest.push(timed(e.event));
      rest.sort((a, b) => (a.host < b.host ? -1 : a.host > b.host ? 1 : a.hash < b.hash ? -1 : 1));
    }
    list.data = rest;
    list.soon();
  }
  return true;
}

/** Those that stand at this moment: a block ends by itself. */
function standing() {
  const time = now();
  return list.data.filter((b) => b.end > time);
}

async function clear(b) {
  if (!mayOperate()) return;
  const sure = await ask({ title: `Clear the block of ${b.host}?`, act: 'Clear it', text: html`<p>${b.host} gets jobs of workflow ${short(b.hash)} again, one at a time until one succeeds.</p><p>${spaces(b.kind)}: ${b.message}</p>` });
  if (sure) await attempt(() => call('unblock', { host: b.host, hash: b.hash }), (a) => `${plural(a.count, 'block')} cleared.`);
  list.soon();
}

const byKey = (key) => standing().find((b) => `${b.host}.${b.hash}` === key);

export const keys = {
  u: (_, data) => {
    const b = byKey(data?.key);
    if (b) clear(b);
  },
};

const partial = (b) => !b.tenants?.includes('*');
const share = (b) => Math.max(0, Math.min(1, (b.end - now()) / b.lasts));
const said = (b) => `${b.host}, workflow ${short(b.hash)}: blocked until ${clock(b.end)}, because of ${spaces(b.kind)}${b.failures > 1 ? `, after ${b.failures} failures` : ''}${b.level ? `; block number ${b.level + 1}` : ''}`;

function cell(b, row, column) {
  const first = row === 0 && column === 0;
  if (b?.struck) {
    const text = `${b.host}, workflow ${short(b.hash)}: ${b.probation ? 'on probation, one job at a time until one succeeds' : 'has failed, and is not blocked'}`;
    return html`<td><button class="cell struck ${b.probation ? 'trial' : ''}" role="gridcell" tabindex=${first ? 0 : -1} data-at="${row}.${column}" title=${text} aria-label=${text}>${icon(b.probation ? 'half' : 'triangle')}</button></td>`;
  }
  if (!b) return html`<td><button class="cell" role="gridcell" tabindex=${first ? 0 : -1} data-at="${row}.${column}" aria-label="not blocked" disabled></button></td>`;
  return html`<td><button class="cell on ${partial(b) ? 'part' : ''}" role="gridcell" tabindex=${first ? 0 : -1} data-at="${row}.${column}" title=${said(b)} aria-label=${said(b)} @click=${() => clear(b)}>
    <svg viewBox="0 0 40 40" aria-hidden="true">${svg`<circle cx="20" cy="20" r="16"/><circle cx="20" cy="20" r="16" stroke-dasharray=${around} stroke-dashoffset=${around * (1 - share(b))}/>`}</svg>
    <span>${left(b.end).split(' ')[0]}</span>${b.level ? html`<sup>${b.level + 1}</sup>` : nothing}</button></td>`;
}

/** Arrow keys move within the matrix, which is one stop of Tab. */
function move(e) {
  const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
  const here = e.target.closest('[data-at]');
  if (!by || !here) return;
  e.preventDefault();
  let [r, c] = here.dataset.at.split('.').map(Number);
  const table = e.currentTarget;
  for (let n = 0; n < 100; n++) {
    [r, c] = [r + by[0], c + by[1]];
    const next = table.querySelector(`[data-at="${r}.${c}"]`);
    if (!next) return;
    if (next.disabled) continue;
    here.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    return;
  }
}

let sorted = { of: null, struck: null, length: 0 }; // the axes of the matrix, as long as the blocks are the same

function axes(blocks) {
  if (sorted.of === list.data && sorted.struck === struck.data && sorted.length === blocks.length) return sorted;
  const blocked = new Set(blocks.map((b) => `${b.host}.${b.hash}`));
  const strikes = (struck.data ?? []).filter((s) => !blocked.has(`${s.host}.${s.hash}`));
  const tally = (of) => [...[...blocks, ...strikes].reduce((m, b) => m.set(b[of], (m.get(b[of]) ?? 0) + 1), new Map())];
  const hosts = tally('host').map(([h]) => h).sort();
  const hashes = tally('hash').sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([h]) => h);
  const pairs = new Map([...strikes.map((s) => ({ ...s, struck: true })), ...blocks].map((b) => [`${b.host}.${b.hash}`, b]));
  sorted = { of: list.data, struck: struck.data, length: blocks.length, hosts, hashes, pairs, painted: false };
  return sorted;
}

function matrix(blocks) {
  const { hosts, hashes, pairs } = axes(blocks);
  const rows = hosts.slice(0, mostRows);
  const columns = hashes.slice(0, mostColumns);
  return html`${hosts.length > mostRows || hashes.length > mostColumns ? overview(blocks, hosts, hashes) : nothing}
    <section class="card matrixcard"><div class="in scroll"><table class="matrix ${rows.length * columns.length > 150 ? 'many' : ''}" role="grid" aria-label="Blocks by host and workflow" @keydown=${move}><thead><tr><th></th>${columns.map((h) => html`<th scope="col"><span title=${h}>${short(h)} ${store.titles.get(h) ? html`<b>${store.titles.get(h)}</b>` : nothing}</span></th>`)}</tr></thead>
    <tbody>${repeat(rows, (h) => h, (h, r) => html`<tr><th scope="row">${hostLink(h)}</th>${columns.map((x, c) => cell(pairs.get(`${h}.${x}`), r, c))}</tr>`)}</tbody></table></div></section>`;
}

/** All pairs as dots, when they are more than the matrix holds. The list below has the same. */
function overview(blocks, hosts, hashes) {
  const width = document.querySelector('canvas.overview')?.clientWidth;
  if (sorted.painted !== width || !width) requestAnimationFrame(() => paint(blocks, hosts, hashes));
  return html`<section class="card"><header><h2>All ${count(blocks.length)} blocks</h2><span class="quiet">${plural(hosts.length, 'host')} down, ${plural(hashes.length, 'workflow')} across</span></header><div class="in"><canvas class="overview" aria-hidden="true"></canvas><p class="quiet">Below are the first ${mostRows} hosts and the ${mostColumns} workflows with most blocks.</p></div></section>`;
}

function paint(blocks, hosts, hashes) {
  const canvas = document.querySelector('canvas.overview');
  if (!canvas) return;
  const { clientWidth: w, clientHeight: h } = canvas;
  sorted.painted = w;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(w * scale)) [canvas.width, canvas.height] = [Math.round(w * scale), Math.round(h * scale)];
  const g = canvas.getContext('2d');
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, w, h);
  g.fillStyle = getComputedStyle(canvas).getPropertyValue('--block');
  const row = new Map(hosts.map((x, i) => [x, i]));
  const column = new Map(hashes.map((x, i) => [x, i]));
  const dot = Math.max(1.5, Math.min(w / hashes.length, h / hosts.length, 6));
  for (const b of blocks) g.fillRect((column.get(b.hash) / hashes.length) * w, (row.get(b.host) / hosts.length) * h, dot, dot);
}

function tr(b) {
  return html`<tr data-row data-key="${b.host}.${b.hash}" tabindex="0"><td class="tight lead"><b>${hostLink(b.host)}</b></td><td class="tight">${hashChip(b.hash)}</td>
    <td class="tight"><span class="pill block">${icon('bar')}${left(b.end)} left</span></td>
    <td class="clip"><span title=${b.message}>${spaces(b.kind)}${b.message ? html`: <span class="quiet">${b.message}</span>` : nothing}</span></td>
    <td class="tight quiet">${partial(b) ? b.tenants.join(', ') : 'every tenant'}</td><td class="num tight quiet" data-label="block">${b.level + 1}</td>
    <td class="tight">${b.job && b.tenant ? jobLink(b.tenant, b.job) : nothing}</td>
    <td class="tight num">${mayOperate() ? html`<button class="small" @click=${() => clear(b)}>Clear</button>` : nothing}</td></tr>`;
}

export function render() {
  if (!list.data) return html`${heading('Blocks')}<div class="card">${unready(list, 'the blocks')}</div>`;
  const blocks = standing();
  const filtered = query.get('host') || query.get('hash');
  const lifted = store.tail.find((e) => e.of === 'blocks' && e.kind === 'unblocked');
  const head = heading('Blocks', filtered ? html`<a class="pill" href=${link('blocks')}>${query.get('host') || short(query.get('hash'))} ×</a>` : nothing, html`<p>A host gets no jobs of one workflow until its block is over. Blocks end by themselves.</p>`);
  if (!blocks.length && !struck.data?.length) {
    return html`${head}<div class="card"><div class="empty"><h2>Nothing is blocked</h2><p>${lifted ? html`The last block ended ${age(at(lifted.time))}: ${hostLink(lifted.event.host)}, ${spaces(lifted.event.cause)}.` : 'A block appears here when a workflow fails on a host and not because of the workflow itself.'}</p></div></div>`;
  }
  return html`${head}${stale(list)}${matrix(blocks)}${struck.data?.length ? html`<p class="quiet legend">${icon('triangle')} has failed and is not blocked · ${icon('half')} on probation: one job at a time until one succeeds</p>` : nothing}
    ${blocks.length ? html`<section class="card"><div class="scroll"><table class="list"><thead><tr><th>Host</th><th>Workflow</th><th>Until</th><th>Because of</th><th>For</th><th class="num">Block</th><th>Job</th><th></th></tr></thead><tbody>${repeat(blocks.slice(0, listed), (b) => `${b.host}.${b.hash}`, tr)}</tbody></table></div>${blocks.length > listed ? html`<p class="in quiet">${plural(blocks.length - listed, 'further block')}: open a host</p>` : nothing}</section>` : nothing}`;
}
