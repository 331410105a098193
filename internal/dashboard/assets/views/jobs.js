// Jobs: the newest first, filtered by the address, kept up to date row by row.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { call, Resource, rowOf } from '../api.js';
import { Doing, matching, mostJobs, requeueOne } from '../bulk.js';
import { ask, attempt, announce } from '../dialog.js';
import { badge, count, details, holds, plural, spaces, states } from '../format.js';
import { age, copy, empty, hashChip, heading, hostLink, jobLink, kept, link, nth, progress, shot, stale, unready } from '../parts.js';
import { keyOf, mayAct, store } from '../store.js';
import { noted, wantThumbs } from '../thumbs.js';
import { at, now, span, whole } from '../time.js';

const pageSize = 100;
const flood = 20; // new rows at a time beyond which the list stands still, since nobody could read it
const filters = ['state', 'tenant', 'host', 'hash', 'kind', 'reason', 'job', 'text'];
const unfinished = new Set(['queued', 'waiting', 'started', 'failed', 'retrying']);

let route;
let draw = () => {};
let older = []; // rows of the pages behind the first
let next = 0;
let fresh = []; // rows that came while the reader was in the middle of the list
let meanwhile = []; // events that came while the list was read, which its answer may lack
const picked = new Set();
let lastPicked = '';
let every = null; // all jobs that match, when they were selected, by key
let doing = null; // the change of many jobs that is under way

const list = new Resource(async () => {
  const page = await call('jobs', { ...request(), limit: pageSize });
  older = [];
  next = page.next ?? 0;
  fresh = [];
  return page;
}, () => {
  const came = meanwhile;
  meanwhile = [];
  if (list.data) {
    take(came);
    wantThumbs(list.data.jobs, draw);
  }
  draw();
});

export const live = true; // it shows progress
export const title = () => 'Jobs';

function request() {
  const r = {};
  for (const f of filters) if (route.query.get(f)) r[f] = route.query.get(f);
  return r;
}

export function open(to, redraw) {
  draw = redraw;
  const same = route && list.data && filters.every((f) => route.query.get(f) === to.query.get(f));
  route = to;
  if (!same) {
    if (list.data) list.data = { ...list.data, jobs: rows().filter(matches) }; // until the answer is there
    older = [];
    fresh = [];
    next = 0;
    unpick();
  }
  list.load();
}

export const resync = () => list.load();

function matches(row) {
  const r = request();
  const begins = (value, start) => String(value ?? '').startsWith(start);
  return Object.entries(r).every(([field, want]) => {
    if (field === 'text') return String(row.name ?? '').toLowerCase().includes(want.toLowerCase()); // what has the text in its metadata comes when the list is read again
    return field === 'hash' || field === 'job' ? begins(row[field], want) : String(row[field] ?? '') === want;
  });
}

/** The reader is in the middle of the list, where nothing may move. */
function engaged() {
  return scrollY > 120 || picked.size > 0 || Boolean(document.querySelector('main table tr:hover, main table tr:focus-within'));
}

export function changed(events) {
  noted(events);
  if (list.reading) meanwhile = [...meanwhile, ...events].slice(-pageSize);
  if (list.data) take(events, true);
}

/** Lets events change the list; new jobs are counted unless the counts may have them already. */
function take(events, counted = false) {
  const page = list.data;
  const known = new Map([...page.jobs, ...older, ...fresh].map((row) => [keyOf(row.tenant, row.job), row]));
  for (const e of events) {
    if (e.of !== 'jobs') continue;
    const row = rowOf(e);
    const have = known.get(keyOf(row.tenant, row.job));
    if (have) {
      if (row.last.sequence <= have.last.sequence) continue;
      count1(page, have.state, -1);
      count1(page, row.state, 1);
      Object.assign(have, row, { first: have.first, host: row.host ?? have.host, attempt: row.attempt ?? have.attempt, kind: row.state === 'completed' ? '' : row.kind || have.kind });
      continue;
    }
    if (counted && e.kind === 'queued') count1(page, 'queued', 1);
    if (!matches(row) || known.has(keyOf(row.tenant, row.job))) continue;
    known.set(keyOf(row.tenant, row.job), row);
    fresh.unshift(row);
  }
  fresh = fresh.slice(0, pageSize); // the list takes no more of them
  if (!engaged() && fresh.length <= flood) settle();
}

function count1(page, state, by) {
  if (page.counts && !request().tenant) page.counts[state] = Math.max(0, (page.counts[state] ?? 0) + by);
}

/** Lets the new rows into the list. */
function settle() {
  if (!fresh.length) return;
  const all = [...fresh, ...list.data.jobs];
  list.data.jobs = all.slice(0, pageSize);
  next = Math.max(next, ...all.slice(pageSize).map((r) => r.last.sequence + 1)); // what has no place any more is older
  fresh = [];
}

async function more() {
  const page = await attempt(() => call('jobs', { ...request(), limit: pageSize, before: next }), '');
  if (!page) return;
  const known = new Set([...list.data.jobs, ...older].map((r) => keyOf(r.tenant, r.job)));
  older = [...older, ...page.jobs.filter((r) => !known.has(keyOf(r.tenant, r.job)))];
  next = page.next ?? 0;
  wantThumbs(page.jobs, draw);
  draw();
}

const rows = () => [...list.data.jobs, ...older];

/** How long the job has waited or run, and a word for which of them. */
function lasted(row) {
  const since = at(row.last.time);
  switch (row.state) {
    case 'started': return ['running', whole(now() - since)];
    case 'queued': case 'waiting': case 'retrying': case 'failed': return ['waiting', whole(now() - at(row.first.time))];
    default: return ['took', span(since - at(row.first.time))];
  }
}

const why = (row) => (row.state === 'waiting' ? holds[row.reason] ?? spaces(row.reason) : details(row.state, row));
function pick(e, data) {
  if (!data?.key) return;
  const keys = rows().map((r) => keyOf(r.tenant, r.job));
  const range = e.shiftKey && keys.includes(lastPicked) ? keys.slice(...[keys.indexOf(lastPicked), keys.indexOf(data.key)].sort((a, b) => a - b).map((n, i) => n + i)) : [data.key];
  const on = !picked.has(data.key);
  for (const key of range) if (on) picked.add(key); else picked.delete(key);
  lastPicked = data.key;
  draw();
}

function unpick() {
  picked.clear();
  every = null;
}

/** Selects all jobs that match the filters and were there when the list was read, not only those that are shown. */
async function pickAll() {
  const upTo = Math.max(0, ...list.data.jobs.map((r) => r.last.sequence), ...store.tail.map((e) => e.sequence));
  announce('Reading all jobs that match…');
  const found = await attempt(() => matching(request(), upTo), (all) => `${plural(all.size, 'job')} selected.`);
  if (!found) return;
  every = found;
  for (const key of found.keys()) picked.add(key);
  draw();
}

const chosen = (data) => (every ? [...every.values(), ...rows().filter((r) => !every.has(keyOf(r.tenant, r.job)))] : rows()).filter((r) => (picked.size ? picked.has(keyOf(r.tenant, r.job)) : keyOf(r.tenant, r.job) === data?.key));

const first = (jobs) => `${jobs.slice(0, 6).map((j) => j.job).join(', ')}${jobs.length > 6 ? ' …' : ''}`;

/** Changes jobs after a question with their number, and says how it went. */
async function change(jobs, { verb, done, danger, text, one }) {
  if (doing) return;
  const sure = await ask({ title: `${verb} ${plural(jobs.length, 'job')}?`, act: `${verb} ${plural(jobs.length, 'job')}`, danger, number: jobs.length, text });
  if (!sure) return;
  doing = new Doing(done, jobs, one, draw);
  await doing.run();
  doing = null;
  unpick();
  list.soon();
  draw();
}

function cancel(data) {
  const jobs = chosen(data).filter((r) => unfinished.has(r.state));
  if (!mayAct() || !jobs.length) return announce('None of these jobs can be cancelled: they have ended.');
  const text = html`<p>${first(jobs)}. One that runs is interrupted. A cancelled job is not run again.</p>`;
  return change(jobs, { verb: 'Cancel', done: 'cancelled', danger: true, text, one: (j) => call('cancel', { tenant: j.tenant, job: j.job }).then((a) => (a.state === 'cancelled' ? 1 : 0)) });
}

function requeue(data) {
  const jobs = chosen(data).filter((r) => r.state === 'dead');
  if (!mayAct() || !jobs.length) return announce('None of these jobs is dead: only dead jobs can be requeued.');
  const text = html`<p>${first(jobs)}. Each is published again with a new id; the old one stays dead. One that was requeued before is left out.</p>`;
  return change(jobs, { verb: 'Requeue', done: 'requeued', text, one: (j) => requeueOne(j).then((a) => a.count) });
}

function back() {
  if (!picked.size) return history.back();
  unpick();
  return draw();
}

export const keys = { x: pick, c: (_, data) => cancel(data), r: (_, data) => requeue(data), Escape: back };

function chips() {
  const counts = list.data?.counts ?? {};
  const current = route.query.get('state') ?? '';
  const to = (state) => link('jobs', { ...request(), state });
  return html`<nav class="chips" aria-label="States">
    <a href=${to('')} aria-current=${current ? nothing : 'true'}>all</a>
    ${['queued', 'waiting', 'started', 'retrying', 'completed', 'dead', 'cancelled'].map((s) => html`<a href=${to(s)} aria-current=${current === s ? 'true' : nothing}>${states[s].word} <b>${count(counts[s])}</b></a>`)}
  </nav>`;
}

function others() {
  const given = filters.filter((f) => f !== 'state' && route.query.get(f));
  if (!given.length) return nothing;
  return html`<div class="chips">${given.map((f) => html`<a href=${link('jobs', { ...request(), [f]: '' })} title="Remove this filter" aria-label="Remove the filter ${f} ${route.query.get(f)}">${{ job: 'id begins with', text: 'name or metadata has' }[f] ?? f} <b>${spaces(route.query.get(f))}</b> ×</a>`)}</div>`;
}

function pickBar() {
  if (doing) return doing.render();
  if (!picked.size) return nothing;
  const more = !every && (next || list.data.jobs.length >= pageSize);
  return html`<div class="pickbar" role="toolbar" aria-label="Selected jobs"><b>${plural(picked.size, 'job')}</b>${more ? html`<button @click=${pickAll}>All that match</button>` : nothing}${every?.size >= mostJobs ? html`<span class="quiet">no more at once</span>` : nothing}
    ${mayAct() ? html`<button @click=${() => cancel()}>Cancel</button><button @click=${() => requeue()}>Requeue</button>` : nothing}<button @click=${(e) => copy(chosen().map((r) => r.job).join('\n'), e.currentTarget)}>Copy ids</button>
    <button class="plain" @click=${() => { unpick(); draw(); }}>Clear the selection</button></div>`;
}

function pickPage(e) {
  unpick();
  if (e.target.checked) for (const r of rows()) picked.add(keyOf(r.tenant, r.job));
  draw();
}

function tr(row) {
  const key = keyOf(row.tenant, row.job);
  const [word, time] = lasted(row);
  return html`<tr data-row data-key=${key} tabindex="0" class=${picked.has(key) ? 'picked' : ''}>
    <td class="pick tight"><label><input type="checkbox" aria-label="Select ${row.job}" .checked=${picked.has(key)} @click=${(e) => pick(e, { key })}></label></td>
    <td class="tight">${badge(row.state)}</td>
    <td class="shot tight">${shot(row)}</td>
    <td class="lead">${jobLink(row.tenant, row.job)}${row.name ? html` <span class="quiet">${row.name}</span>` : nothing}</td>
    <td class="tight"><a class="quiet" href=${link('jobs', { ...request(), tenant: row.tenant })}>${row.tenant}</a> <span class="quiet" title="priority ${row.priority}">/ ${row.priority}</span></td>
    <td class="tight">${hashChip(row.hash, row.title)}</td>
    <td class="tight ${row.host ? '' : 'none'}">${hostLink(row.host)}${row.attempt ? nth(row) : nothing}</td>
    <td class="clip ${why(row) || row.state === 'started' ? '' : 'none'}">${row.state === 'started' ? progress(row.tenant, row.job) : html`<span class="quiet" title=${why(row)}>${why(row)}</span>`}</td>
    <td class="num tight" data-label=${word}>${time}</td>
    <td class="num tight quiet">${age(at(row.last.time))}</td>
  </tr>`;
}

export function render() {
  const head = heading('Jobs', list.data ? html`<span class="quiet">kept since ${age(at(list.data.since?.time))}</span>` : nothing);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'the jobs')}</div>`;
  const filtered = filters.some((f) => route.query.get(f));
  const all = rows();
  return html`${head}${stale(list)}
    <div class="filters">${chips()}${others()}</div>
    ${fresh.length ? html`<button class="later primary" @click=${() => { scrollTo(0, 0); settle(); draw(); }}>${fresh.length < pageSize ? plural(fresh.length, 'new job') : `${pageSize} or more new jobs`}</button>` : nothing}
    <section class="card">${all.length ? html`<div class="scroll"><table class="list dense"><thead><tr><th class="pick tight"><label><input type="checkbox" aria-label="Select all that are shown" .checked=${picked.size >= all.length} @click=${pickPage}></label></th><th>State</th><th class="shot"></th><th>Job</th><th title="Tenant and priority">Tenant</th><th>Workflow</th><th title="Where it runs or ran, and which of its attempts">Host</th><th>Why</th><th class="num">Time</th><th class="num">Changed</th></tr></thead>
      <tbody>${repeat(all, (r) => keyOf(r.tenant, r.job), tr)}</tbody></table></div>`
    : filtered ? html`<div class="empty"><h2>No job matches</h2><p>Jobs are listed as long as their events are kept${kept()}.</p><p><a class="pill" href=${link('jobs')}>Show all jobs</a></p></div>`
      : empty('No job yet', 'Submit a workflow that ComfyUI has exported in API format:', 'dispatcher submit workflow_api.json --wait')}</section>
    ${next ? html`<p class="row"><button class="later" @click=${more}>Older jobs</button></p>` : nothing}
    ${pickBar()}`;
}
