// Workflows: what was run, how often it succeeds, and where it can run.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { call, Resource } from '../api.js';
import { attempt } from '../dialog.js';
import { count, icon, percent, short } from '../format.js';
import { age, empty, fileOf, heading, hostLink, link, picture, stale, unready } from '../parts.js';
import { store } from '../store.js';
import { at, duration, span } from '../time.js';
import { rules } from './workflow.js';

let draw = () => {};
let text = '';
let more = [];
let ruled = {}; // rules of affinity, by hash

const request = () => ({ limit: 100, ...(text ? { hash: text } : {}) });
const list = new Resource(async () => {
  more = [];
  const [page, found] = await Promise.all([call('workflows', request()), store.role === 'tenant' ? {} : rules().catch(() => ({}))]);
  ruled = found;
  return page;
}, () => draw(), 3000);

export const title = () => 'Workflows';

export function open(route, redraw) {
  draw = redraw;
  text = route.query.get('hash') ?? '';
  list.load();
}

export const resync = () => list.load();

export function changed(events) {
  if (events.some((e) => e.of === 'blocks' || (e.of === 'operator' && e.kind === 'affinity') || (e.of === 'jobs' && ['queued', 'completed', 'dead'].includes(e.kind)))) list.soon();
  return false; // what is read again is drawn then
}

async function further() {
  const page = await attempt(() => call('workflows', { ...request(), before: (more.at(-1) ?? list.data).next }), '');
  if (page) more.push(page);
  draw();
}

const drawn = /\.(png|jpe?g|webp|gif|avif)$/i;

/** Where its jobs are sent by a rule, in a few words. */
function rule(r) {
  if (!r) return nothing;
  const names = (word, list) => (list?.length ? html`<span class="quiet">${word} ${list.slice(0, 2).map((h, i) => html`${i ? ', ' : ''}${h.includes('=') ? h : hostLink(h)}`)}${list.length > 2 ? ' …' : ''}</span> ` : nothing);
  return html`<br>${names('prefers', r.prefer)}${names('never', r.exclude)}`;
}

function tr(w) {
  const c = w.counts ?? {};
  const good = c.completed ?? 0;
  const bad = c.dead ?? 0;
  const open = ['queued', 'waiting', 'started', 'failed', 'retrying'].reduce((n, s) => n + (c[s] ?? 0), 0);
  return html`<tr data-row data-key=${w.hash} tabindex="0"><td class="lead"><a class="row" href=${link(`workflow/${w.hash}`)}><span class="frame mini">${w.thumb || (w.output && drawn.test(w.output)) ? picture(fileOf(w.thumb || w.output), '') : icon('workflows')}</span><span>${w.title ? html`<b>${w.title}</b><br>` : nothing}<span class="mono quiet">${short(w.hash)}</span></span></a>${rule(ruled[w.hash])}</td>
    <td class="num tight ${open ? '' : 'none'}" data-label="unfinished">${open ? html`<a href=${link('jobs', { hash: short(w.hash) })}>${count(open)}</a>` : ''}</td><td class="num tight" data-label="completed">${count(good)}</td>
    <td class="num tight ${bad ? '' : 'none'}" data-label="dead">${bad ? html`<a class="pill bad" href=${link('jobs', { hash: short(w.hash), state: 'dead' })}>${icon('cross')}${count(bad)}</a>` : nothing}</td>
    <td class="num tight ${w.per_hour ? '' : 'none'}" data-label="in the last hour">${w.per_hour ? count(w.per_hour) : html`<span class="quiet">–</span>`}</td>
    <td class="num tight" data-label="success">${good + bad ? percent(good / (good + bad)) : '–'}</td>
    <td class="num tight quiet" data-label="median run">${w.ran_for ? span(duration(w.ran_for)) : '–'}</td>
    ${store.role === 'tenant' ? nothing : html`<td class="num tight" data-label="hosts">${count(w.capable)} <span class="quiet">of ${count(w.online)}</span></td>
    <td class="num tight ${w.blocked ? '' : 'none'}" data-label="blocked on">${w.blocked ? html`<a class="pill block" href=${link('blocks', { hash: w.hash })}>${icon('bar')}${w.blocked}</a>` : nothing}</td>`}
    <td class="num tight quiet">${age(at(w.last.time))}</td></tr>`;
}

export function render() {
  const head = heading('Workflows', nothing, html`<p>Jobs of one graph with the same models, whatever their prompts, seeds and sizes.</p>`);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'the workflows')}</div>`;
  const rows = [list.data, ...more].flatMap((p) => p.workflows);
  return html`${head}${stale(list)}<section class="card">${rows.length ? html`<div class="scroll"><table class="list dense"><thead><tr><th>Workflow</th><th class="num">Unfinished</th><th class="num">Completed</th><th class="num">Dead</th><th class="num" title="Jobs that completed or died in the last hour">Last hour</th><th class="num">Success</th><th class="num" title="Median of the last runs">Median run</th>${store.role === 'tenant' ? nothing : html`<th class="num">Can run on</th><th class="num">Blocked on</th>`}<th class="num">Last</th></tr></thead><tbody>${repeat(rows, (w) => w.hash, tr)}</tbody></table></div>`
    : empty('No workflow yet', 'Each appears with its first job:', 'dispatcher submit workflow_api.json --wait')}</section>
    ${(more.at(-1) ?? list.data).next ? html`<p class="row"><button class="later" @click=${further}>Older workflows</button></p>` : nothing}`;
}
