// Waiting: the jobs that wait, in the order in which they are expected to start.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { call, Resource } from '../api.js';
import { attempt } from '../dialog.js';
import { count, holds, plural } from '../format.js';
import { empty, hashChip, heading, jobLink, link, stale, unready } from '../parts.js';
import { keyOf } from '../store.js';
import { at, clock, left, now, whole } from '../time.js';

let draw = () => {};
let tenant = '';
let more = [];

const request = () => ({ limit: 100, ...(tenant ? { tenant } : {}) });
const list = new Resource(async () => {
  more = [];
  return call('waiting', request());
}, () => draw(), 2000);

export const title = () => 'Waiting';

export function open(route, redraw) {
  draw = redraw;
  const next = route.query.get('tenant') ?? '';
  if (next !== tenant) list.reset();
  tenant = next;
  list.load();
}

export const resync = () => list.load();
export function changed(events) {
  if (events.some((e) => e.of !== 'operator')) list.soon();
  return false; // what is read again is drawn then
}

async function further() {
  const last = more.at(-1) ?? list.data;
  const page = await attempt(() => call('waiting', { ...request(), after: last.next }), '');
  if (page) more.push(page);
  draw();
}

function tr(w) {
  return html`<tr data-row data-key=${keyOf(w.tenant, w.job)} tabindex="0"><td class="num tight"><b>${count(w.place)}</b></td>
    <td class="lead">${jobLink(w.tenant, w.job)}${w.name ? html` <span class="quiet">${w.name}</span>` : nothing}</td><td class="tight"><a class="quiet" href=${link('waiting', { tenant: w.tenant })}>${w.tenant}</a></td>
    <td class="num tight" data-label="priority">${w.priority}</td><td class="tight">${hashChip(w.hash, w.title)}</td>
    <td class="clip"><span class="quiet" title=${w.text ?? ''}>${w.reason ? holds[w.reason] ?? w.text : 'its turn'}${w.until && at(w.until) > now() ? html`, ${left(at(w.until))} left` : nothing}</span></td>
    <td class="num tight" data-label="has waited">${whole(now() - at(w.received))}</td>
    <td class="num tight" data-label="starts">${w.eta ? html`<time title=${clock(at(w.eta))}>${at(w.eta) > now() ? `in ${left(at(w.eta))}` : 'now'}</time>` : html`<span class="quiet">–</span>`}</td></tr>`;
}

export function render() {
  const head = heading('Waiting', html`<nav class="chips"><a href=${link('jobs', { state: 'waiting', tenant })}>those that no host may run now</a></nav>`, html`<p>In the order in which they are expected to start.</p>`);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'what waits')}</div>`;
  const rows = [list.data, ...more].flatMap((p) => p.waiting);
  const last = more.at(-1) ?? list.data;
  return html`${head}${stale(list)}${tenant ? html`<p class="filters chips"><a href=${link('waiting')}>tenant <b>${tenant}</b> ×</a></p>` : nothing}
    <section class="card">${rows.length ? html`<div class="scroll"><table class="list"><thead><tr><th class="num">Place</th><th>Job</th><th>Tenant</th><th class="num">Priority</th><th>Workflow</th><th>Waits for</th><th class="num">For</th><th class="num">Starts</th></tr></thead><tbody>${repeat(rows, (w) => keyOf(w.tenant, w.job), tr)}</tbody></table></div>`
    : empty('Nothing waits', 'Every job that was published runs, or has ended.', 'dispatcher submit workflow_api.json')}</section>
    ${last.next ? html`<p class="row"><button class="later" @click=${further}>${plural(last.of - rows.length, 'further job')}</button></p>` : nothing}`;
}
