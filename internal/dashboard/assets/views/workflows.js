// Workflows: what was run, how often it succeeds, and where it is blocked.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { count, icon, percent, short } from '../format.js';
import { age, empty, heading, link, stale, unready } from '../parts.js';
import { store } from '../store.js';
import { at, span } from '../time.js';

let draw = () => {};
let text = '';

const list = new Resource(async () => {
  const tenant = store.role === 'tenant';
  const [rows, blocks] = await Promise.all([workflows(), tenant ? [] : all('blocks', 'blocks', {}, 5000)]);
  const blocked = blocks.reduce((m, b) => m.set(b.hash, (m.get(b.hash) ?? 0) + 1), new Map());
  return { ...rows, list: rows.list.map((w) => ({ ...w, blocked: blocked.get(w.hash) ?? 0 })) };
}, () => draw(), 3000);

/** From the newest jobs. */
async function workflows() {
  let before;
  const found = new Map();
  let seen = 0;
  do {
    const page = await call('jobs', { limit: 500, ...(before ? { before } : {}) });
    for (const j of page.jobs) {
      if (!j.hash) continue;
      if (!found.has(j.hash)) found.set(j.hash, { hash: j.hash, states: {}, tenants: new Set(), last: j.last.time, took: [] });
      const w = found.get(j.hash);
      w.states[j.state] = (w.states[j.state] ?? 0) + 1;
      w.tenants.add(j.tenant);
      if (j.state === 'completed') w.took.push(at(j.last.time) - at(j.first.time));
    }
    seen += page.jobs.length;
    before = page.next;
  } while (before && seen < 2000);
  return { list: [...found.values()], seen, complete: !before };
}

export const title = () => 'Workflows';

export function open(route, redraw) {
  draw = redraw;
  text = route.query.get('hash') ?? '';
  list.load();
}

export const resync = () => list.load();

export function changed(events) {
  if (events.some((e) => e.of === 'blocks' || (e.of === 'jobs' && ['queued', 'completed', 'dead'].includes(e.kind)))) list.soon();
}

const middle = (times) => (times.length ? [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)] : 0);

function tr(w) {
  const good = w.states.completed ?? 0;
  const bad = w.states.dead ?? 0;
  const open = ['queued', 'waiting', 'started', 'failed', 'retrying'].reduce((n, s) => n + (w.states[s] ?? 0), 0);
  return html`<tr data-row data-key=${w.hash} tabindex="0"><td class="lead"><a href=${link('jobs', { hash: short(w.hash) })}>${w.title ? html`<b>${w.title}</b> ` : nothing}<span class="mono">${short(w.hash)}</span></a></td>
    <td class="num tight" data-label="unfinished">${open || ''}</td><td class="num tight" data-label="completed">${count(good)}</td>
    <td class="num tight ${bad ? '' : 'none'}" data-label="dead">${bad ? html`<a class="pill bad" href=${link('dead', { hash: short(w.hash), since: 'all' })}>${icon('cross')}${count(bad)}</a>` : nothing}</td>
    <td class="num tight" data-label="success">${good + bad ? percent(good / (good + bad)) : '–'}</td>
    <td class="num tight quiet" data-label="from publish to end">${w.took.length ? span(middle(w.took)) : '–'}</td>
    <td class="num tight ${w.blocked ? '' : 'none'}" data-label="blocked on">${w.blocked ? html`<a class="pill block" href=${link('blocks', { hash: w.hash })}>${icon('bar')}${w.blocked}</a>` : nothing}</td>
    <td class="clip quiet">${[...w.tenants].join(', ')}</td><td class="num tight quiet">${age(at(w.last))}</td></tr>`;
}

export function render() {
  const head = heading('Workflows', nothing, html`<p>Jobs of one graph with the same models, whatever their prompts, seeds and sizes.</p>`);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'the workflows')}</div>`;
  const shown = list.data.list.filter((w) => w.hash.startsWith(text));
  return html`${head}${stale(list)}<section class="card">${shown.length ? html`<div class="scroll"><table class="list"><thead><tr><th>Workflow</th><th class="num">Unfinished</th><th class="num">Completed</th><th class="num">Dead</th><th class="num">Success</th><th class="num">Publish to end</th><th class="num">Blocked on</th><th>Tenants</th><th class="num">Last</th></tr></thead><tbody>${repeat(shown.slice(0, 300), (w) => w.hash, tr)}</tbody></table></div>`
    : empty('No workflow yet', 'Each appears with its first job:', 'dispatcher submit workflow_api.json --wait')}</section>
    ${list.data.complete ? nothing : html`<p class="quiet">Counted over the newest ${count(list.data.seen)} jobs.</p>`}`;
}

