// Dead: jobs that will not be tried again, grouped by what they died of.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { call, Resource } from '../api.js';
import { requeueThese } from '../bulk.js';
import { ask, attempt } from '../dialog.js';
import { count, plural, spaces } from '../format.js';
import { age, command, hashChip, heading, jobLink, link, stale, unready } from '../parts.js';
import { mayAct } from '../store.js';
import { at } from '../time.js';

let draw = () => {};
let query = new URLSearchParams();
const unfolded = new Map(); // letters of the groups that are unfolded, by signature

const list = new Resource(() => call('dead', { group: 'signature', ...given(['tenant', 'kind']) }), () => draw(), 2000);

/** Those of some filters that the address has. */
const given = (names) => Object.fromEntries(names.filter((f) => query.get(f)).map((f) => [f, query.get(f)]));

// All letters, oldest first, also of jobs whose events are no longer stored.
const letters = { pages: [], error: null, reading: false };

async function further() {
  if (letters.reading) return;
  letters.reading = true;
  const of = query;
  const request = { limit: 100, ...given(['tenant', 'kind', 'reason']) };
  const after = letters.pages.at(-1)?.next;
  try {
    const page = await call('dead', after ? { ...request, after } : request);
    if (of === query) letters.pages.push(page);
    letters.error = null;
  } catch (error) {
    letters.error = error;
  }
  letters.reading = false;
  draw();
}

export const title = () => 'Dead';

export function open(route, redraw) {
  draw = redraw;
  if (query.toString() !== route.query.toString()) list.reset();
  query = route.query;
  unfolded.clear();
  if (query.get('letters')) {
    letters.pages = [];
    letters.reading = false;
    further();
  } else {
    list.load();
  }
}

export const resync = () => (query.get('letters') ? undefined : list.load());

export function changed(events) {
  if (events.some((e) => (e.of === 'jobs' && e.kind === 'dead') || e.of === 'operator')) list.soon();
  return false; // what is read again is drawn then
}

const groupOf = (signature) => list.data?.groups?.find((g) => g.signature === signature);

async function unfold(signature, open) {
  if (!open) return;
  const page = await attempt(() => call('dead', { signature, limit: 50 }), '');
  if (page) unfolded.set(signature, page.dead);
  draw();
}

/** Requeues the letters of a group that were counted, and none that was stored afterwards. */
async function requeue(g) {
  if (!mayAct()) return;
  const upTo = list.data.up_to;
  const sure = await ask({
    title: `Requeue ${plural(g.count, 'job')}?`, act: `Requeue ${plural(g.count, 'job')}`, number: g.count,
    text: html`<p>${spaces(g.reason)}${g.kind ? `: ${spaces(g.kind)}` : ''}. ${plural(g.tenants.length, 'tenant')}: ${g.tenants.slice(0, 5).join(', ')}. The oldest died ${age(at(g.first))}.</p><p>What dies from now on, and what was requeued before, is left out.</p>`,
  });
  if (!sure) return;
  await requeueThese({ signature: g.signature, up_to: upTo });
  list.soon();
}

/** Requeues all that match the filters and are counted at this moment. */
async function requeueAll() {
  if (!mayAct() || query.get('letters')) return;
  const which = given(['tenant', 'kind', 'reason']);
  const seen = await attempt(() => call('dead', { group: 'signature', ...which }), '');
  if (!seen?.count) return;
  const filters = Object.values(which).map(spaces).join(', ');
  const sure = await ask({
    title: `Requeue ${plural(seen.count, 'job')}?`, act: `Requeue ${plural(seen.count, 'job')}`, number: seen.count,
    text: html`<p>All that have died${filters ? html` (${filters})` : nothing}, in ${plural(seen.groups.length + (seen.more ?? 0), 'group')}. The oldest died ${age(Math.min(...seen.groups.map((g) => at(g.first))))}.</p><p>What dies from now on, what was requeued before, and jobs whose events are no longer kept are left out.</p>`,
  });
  if (!sure) return;
  await requeueThese({ all: true, since: seen.since, up_to: seen.up_to, ...which });
  list.soon();
}

async function one(j) {
  const sure = await ask({ title: `Requeue ${j.job}?`, act: 'Requeue', text: html`<p>The job is published again with a new id; this one stays dead.</p>` });
  if (sure) await attempt(() => call('requeue', { tenant: j.tenant, job: j.job, again: true }), (a) => `${plural(a.count, 'job')} requeued.`);
}

export const keys = {
  r: (_, data) => {
    const g = groupOf(data?.key);
    if (g) requeue(g);
    else requeueAll();
  },
};

function rows(g) {
  const found = unfolded.get(g.signature);
  if (!found) return html`<p class="quiet">Reading…</p>`;
  return html`${table(found)}${g.count > found.length ? html`<p class="quiet">These are the oldest; all of them: ${command(`dispatcher jobs --state dead --kind ${g.kind || 'invalid_workflow'} --limit 0`)}</p>` : nothing}`;
}

function table(found) {
  return html`<div class="scroll"><table class="list"><thead><tr><th>Job</th><th>Tenant</th><th>Workflow</th><th>Attempts</th><th class="num">Died</th><th></th></tr></thead><tbody>${repeat(found, (j) => `${j.tenant}/${j.job}`, (j) => html`<tr data-row tabindex="0"><td class="lead">${jobLink(j.tenant, j.job)}</td><td class="tight"><a href=${link('jobs', { tenant: j.tenant, state: 'dead' })}>${j.tenant}</a></td><td class="tight">${hashChip(j.hash)}</td><td class="quiet">${(j.attempts ?? []).map((a) => `${a.host}: ${spaces(a.kind)}`).join(' · ')}</td><td class="num tight quiet">${age(at(j.time))}</td><td class="num tight">${mayAct() ? html`<button class="small" @click=${() => one(j)}>Requeue</button>` : nothing}</td></tr>`)}</tbody></table></div>`;
}

/** Letters without their groups, which are made of stored events only. */
function everyLetter(head, chips) {
  const found = letters.pages.flatMap((p) => p.dead);
  const more = letters.pages.at(-1)?.next;
  if (!letters.pages.length) return html`${head}${chips}<div class="card">${unready(letters, 'the letters')}</div>`;
  return html`${head}${chips}${stale(letters)}<section class="card">${found.length ? table(found) : html`<div class="empty"><h2>No letter${chips === nothing ? '' : ' matches'}</h2></div>`}</section>${more ? html`<p class="row"><button class="later" @click=${further}>Later letters</button></p>` : nothing}`;
}

function group(g) {
  return html`<details class="group" @toggle=${(e) => unfold(g.signature, e.currentTarget.open)}><summary data-row data-key=${g.signature}><span class="count">${count(g.count)}</span>
    <span><span class="row"><b>${spaces(g.reason)}</b>${g.kind ? html`<span class="pill warn">${spaces(g.kind)}</span>` : nothing}${g.exception_type || g.class_type ? html`<span class="quiet">${g.exception_type ?? ''} ${g.class_type ? `in ${g.class_type}` : ''}</span>` : nothing}</span><span class="message">${String(g.message ?? '').slice(0, 300)}</span></span>
    <span class="quiet">${g.tenants.slice(0, 3).join(', ')}${g.hosts?.length ? html` · ${plural(g.hosts.length, 'host')}` : nothing}</span><span class="quiet">${age(at(g.last))}</span></summary>
    <div class="in">${mayAct() ? html`<p class="row"><button class="primary" @click=${() => requeue(g)}>Requeue ${plural(g.count, 'job')}</button></p>` : nothing}${rows(g)}</div></details>`;
}

export function render() {
  const every = query.get('letters');
  const head = heading('Dead', html`<nav class="chips" aria-label="Kinds of lists"><a href=${link('dead', { ...Object.fromEntries(query), letters: '' })} aria-current=${every ? nothing : 'true'}>by failure</a><a href=${link('dead', { ...Object.fromEntries(query), letters: 'all' })} aria-current=${every ? 'true' : nothing}>all letters</a></nav>`,
    html`<p>${every ? 'Dead letters, the oldest first, also of jobs whose events are no longer kept.' : 'Jobs that will not be tried again, grouped by what they died of, as long as their events are kept.'}</p>`);
  const filters = Object.entries(given(['tenant', 'kind', ...(every ? ['reason'] : [])]));
  const chips = filters.length ? html`<p class="filters chips">${filters.map(([f, value]) => html`<a href=${link('dead', { ...Object.fromEntries(query), [f]: '' })}>${f} <b>${spaces(value)}</b> ×</a>`)}</p>` : nothing;
  if (every) return everyLetter(head, chips);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'what has died')}</div>`;
  const groups = list.data.groups ?? [];
  if (!groups.length) return html`${head}${chips}<div class="card"><div class="empty"><h2>Nothing has died</h2><p>Letters of jobs that died longer ago are kept for 30 days if nothing else is set: see all letters.</p><p>${command('dispatcher dead list')}</p></div></div>`;
  const reasons = groups.reduce((m, g) => m.set(g.reason, (m.get(g.reason) ?? 0) + g.count), new Map());
  const reason = query.get('reason') ?? '';
  const to = (r) => link('dead', { ...Object.fromEntries(query), reason: r });
  return html`${head}${chips}${stale(list)}
    <div class="filters"><nav class="chips" aria-label="Reasons"><a href=${to('')} aria-current=${reason ? nothing : 'true'}>all <b>${count([...reasons.values()].reduce((a, b) => a + b, 0))}</b></a>${[...reasons].map(([r, n]) => html`<a href=${to(r)} aria-current=${reason === r ? 'true' : nothing}>${spaces(r)} <b>${count(n)}</b></a>`)}</nav>${mayAct() ? html`<button @click=${requeueAll}>Requeue all</button>` : nothing}</div>
    <section class="card">${repeat(groups.filter((g) => !reason || g.reason === reason), (g) => g.signature, group)}</section>
    ${list.data.more ? html`<p class="quiet">${plural(list.data.more, 'smaller group')} left out: choose a tenant or a kind.</p>` : nothing}`;
}

