// Dead: jobs that will not be tried again, grouped by what killed them.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { count, icon, plural, spaces } from '../format.js';
import { age, hashChip, heading, jobLink, link, stale, unready } from '../parts.js';
import { mayAct, store } from '../store.js';
import { at } from '../time.js';

const most = 3000;

let draw = () => {};
let query = new URLSearchParams();

const list = new Resource(async () => {
  const request = {};
  for (const f of ['tenant', 'reason', 'kind', 'hash']) if (query.get(f)) request[f] = query.get(f);
  const since = query.get('since') ?? '24h';
  if (since !== 'all') request.since = since;
  return { dead: await all('dead', 'dead', { ...request, limit: 500 }, most), since };
}, () => draw(), 2000);

export const title = () => 'Dead';

export function open(route, redraw) {
  draw = redraw;
  if (query.toString() !== route.query.toString()) list.reset();
  query = route.query;
  list.load();
}

export const resync = () => list.load();

export function changed(events) {
  if (events.some((e) => e.of === 'jobs' && e.kind === 'dead') || events.some((e) => e.of === 'operator')) list.soon();
}

/** What two deaths of one cause have in common: the message without numbers, addresses and paths. */
export const alike = (e) => [e.reason, e.kind, e.class_type, e.exception_type, String(e.message ?? '').split('\n')[0].replace(/0x[0-9a-f]+/gi, '#').replace(/(\/[\w.-]+){2,}/g, '…').replace(/[0-9a-f]{8,}/gi, '#').replace(/\d+/g, '#').slice(0, 160)].join('|');

function groups(dead) {
  const found = new Map();
  for (const e of dead) {
    const key = alike(e);
    if (!found.has(key)) found.set(key, { key, jobs: [], tenants: new Set(), hosts: new Set() });
    const g = found.get(key);
    g.jobs.push(e);
    g.tenants.add(e.tenant);
    for (const a of e.attempts ?? []) g.hosts.add(a.host);
  }
  for (const g of found.values()) g.jobs.sort((a, b) => at(b.time) - at(a.time));
  return [...found.values()].sort((a, b) => b.jobs.length - a.jobs.length || at(b.jobs[0].time) - at(a.jobs[0].time));
}

/** Requeues exactly the jobs that the viewer has seen, one after the other. */
async function requeue(jobs, what) {
  const oldest = Math.min(...jobs.map((j) => at(j.time)));
  const tenants = new Set(jobs.map((j) => j.tenant));
  const sure = await ask({ title: `Requeue ${what}?`, act: `Requeue ${plural(jobs.length, 'job')}`, number: jobs.length, text: html`<p>${plural(jobs.length, 'job')} of ${plural(tenants.size, 'tenant')}; the oldest died ${age(oldest)}. Only these are published again, not what dies meanwhile. Jobs that were requeued before are left out.</p>` });
  if (!sure) return;
  let again = 0;
  let keys = 0;
  await attempt(async () => {
    for (const j of jobs) {
      const answer = await call('requeue', store.role === 'tenant' ? { job: j.job } : { tenant: j.tenant, job: j.job });
      again += answer.count;
      keys += answer.need_extra_data?.length ?? 0;
    }
  }, () => `${plural(again, 'job')} requeued${keys ? `; ${keys} need their extra_data again: use dispatcher dead requeue` : ''}.`);
  list.soon();
}

export const keys = {
  r: (_, data) => {
    const g = list.data && groups(list.data.dead).find((x) => x.key === data?.key);
    if (g && mayAct()) requeue(g.jobs, 'this group');
  },
};

function group(g) {
  const e = g.jobs[0];
  return html`<details class="group"><summary data-row data-key=${g.key} tabindex="0"><span class="count">${count(g.jobs.length)}</span>
    <span><span class="row"><b>${spaces(e.reason)}</b>${e.kind ? html`<span class="pill warn">${spaces(e.kind)}</span>` : nothing}${e.class_type ? html`<span class="quiet">in ${e.class_type}</span>` : nothing}</span><span class="message">${String(e.message || e.exception_type || '').slice(0, 300)}</span></span>
    <span class="quiet">${[...g.tenants].slice(0, 3).join(', ')}${g.hosts.size ? html` · ${plural(g.hosts.size, 'host')}` : nothing}</span><span class="quiet">${age(at(e.time))}</span></summary>
    <div class="in">${mayAct() ? html`<p class="row"><button @click=${() => requeue(g.jobs, 'this group')}>Requeue ${plural(g.jobs.length, 'job')}</button></p>` : nothing}
    <table class="list"><thead><tr><th>Job</th><th>Tenant</th><th>Workflow</th><th>Attempts</th><th class="num">Died</th><th></th></tr></thead><tbody>${repeat(g.jobs.slice(0, 50), (j) => `${j.tenant}/${j.job}`, (j) => html`<tr data-row data-key=${g.key} tabindex="0"><td class="lead">${jobLink(j.tenant, j.job)}</td><td class="tight"><a href=${link('jobs', { tenant: j.tenant, state: 'dead' })}>${j.tenant}</a></td><td class="tight">${hashChip(j.hash)}</td><td class="quiet">${(j.attempts ?? []).map((a) => `${a.host}: ${spaces(a.kind)}`).join(' · ')}</td><td class="num tight quiet">${age(at(j.time))}</td><td class="num tight">${mayAct() ? html`<button class="small" @click=${() => requeue([j], j.job)}>Requeue</button>` : nothing}</td></tr>`)}</tbody></table>${g.jobs.length > 50 ? html`<p class="quiet">and ${plural(g.jobs.length - 50, 'older job')}</p>` : nothing}</div></details>`;
}

export function render() {
  const since = query.get('since') ?? '24h';
  const to = (value) => link('dead', { ...Object.fromEntries(query), since: value });
  const times = html`<nav class="chips" aria-label="Since">${[['1h', 'last hour'], ['24h', 'last day'], ['168h', 'last week'], ['all', 'all that is kept']].map(([v, w]) => html`<a href=${to(v)} aria-current=${since === v ? 'true' : nothing}>${w}</a>`)}</nav>`;
  const head = heading('Dead', times, html`<p>Jobs that will not be tried again, grouped by what they died of.</p>`);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'the dead letters')}</div>`;
  const { dead } = list.data;
  if (!dead.length) return html`${head}<div class="card"><div class="empty">${icon('check')}<h2>Nothing has died</h2><p>${since === 'all' ? 'Dead letters are kept for 30 days if nothing else is set.' : html`In this time. <a class="pill" href=${to('all')}>Look at all that is kept</a>`}</p></div></div>`;
  const reasons = dead.reduce((m, e) => m.set(e.reason, (m.get(e.reason) ?? 0) + 1), new Map());
  const reason = query.get('reason') ?? '';
  return html`${head}${stale(list)}
    <nav class="filters chips" aria-label="Reasons"><a href=${link('dead', { ...Object.fromEntries(query), reason: '' })} aria-current=${reason ? nothing : 'true'}>all <b>${count(dead.length)}${dead.length >= most ? '+' : ''}</b></a>${[...reasons].map(([r, n]) => html`<a href=${link('dead', { ...Object.fromEntries(query), reason: r })} aria-current=${reason === r ? 'true' : nothing}>${spaces(r)} <b>${count(n)}</b></a>`)}</nav>
    <section class="card">${repeat(groups(dead), (g) => g.key, group)}</section>`;
}
