// Blocks: which host gets no jobs of which workflow, as a matrix and as a list, each counting down.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { icon, plural, short, spaces } from '../format.js';
import { age, hashChip, heading, hostLink, jobLink, link, stale, strikes, unready } from '../parts.js';
import { mayOperate, store } from '../store.js';
import { at, left, now } from '../time.js';
import { Matrix, partial } from './matrix.js';

const mostStruck = 2000;
const listed = 100;

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
  b.key = `${b.host}.${b.hash}`;
  const key = `${b.key}.${b.until}`;
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

/** Those in force at this moment: a block ends by itself. */
function inForce() {
  const time = now();
  return list.data.filter((b) => b.end > time);
}

async function clear(b) {
  if (!mayOperate()) return;
  const sure = await ask({ title: `Clear the block of ${b.host}?`, act: 'Clear it', text: html`<p>${b.host} gets jobs of workflow ${short(b.hash)} again, one at a time until one succeeds.</p><p>${spaces(b.kind)}: ${b.message}</p>` });
  if (sure) await attempt(() => call('unblock', { host: b.host, hash: b.hash }), (a) => `${plural(a.count, 'block')} cleared.`);
  list.soon();
}

const matrix = new Matrix(clear, () => draw());

const byKey = (key) => inForce().find((b) => `${b.host}.${b.hash}` === key);

export const keys = {
  u: (_, data) => {
    const b = byKey(data?.key);
    if (b) clear(b);
  },
};

function tr(b) {
  return html`<tr data-row data-key="${b.host}.${b.hash}" tabindex="0"><td class="tight lead"><b>${hostLink(b.host)}</b></td><td class="tight">${hashChip(b.hash)}</td>
    <td class="tight"><span class="pill block">${icon('bar')}${left(b.end)} left</span></td>
    <td class="clip"><span title=${b.message}>${partial(b) ? html`<span class="pill mute" title="blocked for these tenants only">${b.tenants.join(', ')}</span> ` : nothing}${spaces(b.kind)}${b.message ? html`: <span class="quiet">${b.message}</span>` : nothing}</span></td>
    <td class="num tight quiet" data-label="block">${b.level + 1}</td>
    <td class="tight">${b.job && b.tenant ? jobLink(b.tenant, b.job) : nothing}</td>
    <td class="tight num">${mayOperate() ? html`<button class="small" @click=${() => clear(b)}>Clear</button> <a class="pill" href=${link(`workflow/${b.hash}`)} title="Prefer or leave out hosts of this workflow">Rule</a>` : nothing}</td></tr>`;
}

export function render() {
  if (!list.data) return html`${heading('Blocks')}<div class="card">${unready(list, 'the blocks')}</div>`;
  const blocks = inForce();
  const filtered = query.get('host') || query.get('hash');
  const lifted = store.tail.find((e) => e.of === 'blocks' && e.kind === 'unblocked');
  const head = heading('Blocks', filtered ? html`<a class="pill" href=${link('blocks')}>${query.get('host') || short(query.get('hash'))} ×</a>` : nothing, html`<p>A host gets no jobs of one workflow until its block is over. Blocks end by themselves.</p>`);
  if (!blocks.length && !struck.data?.length) {
    return html`${head}<div class="card"><div class="empty"><h2>Nothing is blocked</h2><p>${lifted ? html`The last block ended ${age(at(lifted.time))}: ${hostLink(lifted.event.host)}, ${spaces(lifted.event.cause)}.` : 'A block appears here when a workflow fails on a host and not because of the workflow itself.'}</p></div></div>`;
  }
  return html`${head}${stale(list)}${matrix.render(blocks, struck.data ?? [], list.data)}${struck.data?.length ? html`<p class="quiet legend">${icon('triangle')} has failed and is not blocked · ${icon('half')} on probation: one job at a time until one succeeds</p>` : nothing}
    ${blocks.length ? html`<section class="card"><div class="scroll"><table class="list dense"><thead><tr><th>Host</th><th>Workflow</th><th>Until</th><th>Because of</th><th class="num" title="How often the pair was blocked">Block</th><th>Job</th><th></th></tr></thead><tbody>${repeat(blocks.slice(0, listed), (b) => `${b.host}.${b.hash}`, tr)}</tbody></table></div>${blocks.length > listed ? html`<p class="in quiet">${plural(blocks.length - listed, 'further block')}: open a host</p>` : nothing}</section>` : nothing}
    ${struck.data?.length ? html`<section class="card"><h2>Strikes</h2><div class="scroll"><table class="list dense"><tbody>${repeat(struck.data.slice(0, listed), (s) => `${s.host}.${s.hash}`, (s) => html`<tr data-row tabindex="0"><td class="tight lead"><b>${hostLink(s.host)}</b></td><td class="tight">${hashChip(s.hash)}</td><td>${strikes(s)}</td></tr>`)}</tbody></table></div></section>` : nothing}`;
}
