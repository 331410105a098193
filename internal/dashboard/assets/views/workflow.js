// Workflow: one of them, its graph, its newest pictures, and the hosts that are preferred or left out.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, CallError, Resource } from '../api.js';
import { requeueThese } from '../bulk.js';
import { ask, attempt } from '../dialog.js';
import { badge, count, icon, percent, plural, short } from '../format.js';
import { lossless } from '../json.js';
import { age, heading, hostLink, jobLink, link, picture, stale, thumbOf, toJob, unready } from '../parts.js';
import { keyOf, mayAct, mayOperate, store } from '../store.js';
import { at, duration, span } from '../time.js';
import { graphCard } from './graph.js';
import { Pictures } from './pictures.js';

let draw = () => {};
let hash = '';

const facts = new Resource(async () => {
  const [workflows, last, affinity] = await Promise.all([
    call('workflows', { hash, limit: 1 }), call('jobs', { hash, limit: 12 }), store.role === 'tenant' ? {} : rules(),
  ]);
  return { w: workflows.workflows[0], last: last.jobs, rule: affinity[hash] };
}, () => draw(), 3000);
const graph = new Resource(async () => {
  const of = hash;
  for (const state of ['started', 'waiting', 'queued', 'dead']) { // the bodies of others are not kept
    const [newest] = (await call('jobs', { hash: of, state, limit: 1 })).jobs;
    const found = newest && lossless(await call('job', { tenant: newest.tenant, job: newest.job }, { text: true })).body?.workflow;
    if (found) return found;
  }
  return '';
}, () => draw(), 2000);
const shown = new Pictures(() => draw(), 8);

/** The rules of all workflows: they are few, and somebody who may only look may not ask for one. */
export async function rules() {
  const found = {};
  let after;
  do {
    const page = await call('affinity', after ? { after } : {});
    Object.assign(found, page.affinity);
    after = page.next;
  } while (after);
  return found;
}

export const title = () => store.titles.get(hash) || short(hash);

export function open(route, redraw) {
  draw = redraw;
  const [next = ''] = route.rest;
  if (next !== hash) {
    facts.reset();
    graph.reset();
    shown.found = [];
  }
  hash = next;
  resync();
  if (!graph.data) graph.load();
}

export function resync() {
  facts.load();
  shown.load({ hash });
}

export function changed(events) {
  const own = events.filter((e) => e.event.hash === hash);
  if (!graph.data && own.some((e) => e.kind === 'started')) graph.soon();
  if (own.length || events.some((e) => e.of === 'operator' && e.kind === 'affinity')) facts.soon();
  shown.changed(own);
  return own.length > 0;
}

const listed = (text) => text.split(/[\s,]+/).filter(Boolean);

async function change() {
  if (!mayOperate()) return;
  const rule = facts.data?.rule ?? {};
  let prefer = (rule.prefer ?? []).join(', ');
  let exclude = (rule.exclude ?? []).join(', ');
  const sure = await ask({
    title: 'Hosts of this workflow', act: 'Keep them',
    text: html`<p>Names of hosts, or labels such as gpu=4090. Leave both empty to remove the rule.</p><label>Prefer <input autocomplete="off" .value=${prefer} @input=${(e) => { prefer = e.target.value; }}></label>
      <label>Never use <input autocomplete="off" .value=${exclude} @input=${(e) => { exclude = e.target.value; }}></label>`,
  });
  if (!sure) return;
  const wanted = { prefer: listed(prefer), exclude: listed(exclude) };
  const none = !wanted.prefer.length && !wanted.exclude.length;
  await attempt(() => call('affinity', none ? { hash, remove: true } : { hash, ...wanted }), none ? 'The rule is removed.' : 'The rule is kept.');
  facts.load();
}

/** Requeues its dead jobs as far as they have died by now. */
async function requeueDead() {
  const dead = facts.data?.w?.counts?.dead;
  if (!mayAct() || !dead) return;
  const upTo = (await attempt(() => call('dead', { group: 'signature' }), ''))?.up_to;
  if (!upTo) return;
  const sure = await ask({ title: `Requeue ${plural(dead, 'job')}?`, act: `Requeue ${plural(dead, 'job')}`, number: dead, text: html`<p>Each is published again with a new id; the old one stays dead. What dies from now on, and what was requeued before, is left out.</p>` });
  if (!sure) return;
  await requeueThese({ hash, up_to: upTo });
  facts.soon();
}

export const keys = { a: change, r: requeueDead };

function hosts({ rule }) {
  const names = (list) => html`<dd class="row">${list.map((h) => (h.includes('=') ? html`<span class="pill">${h}</span>` : hostLink(h)))}</dd>`;
  return html`<section class="card"><header><h2>Hosts</h2>${mayOperate() ? html`<button class="small" @click=${change}>${rule ? 'Change' : 'Prefer or leave out hosts'}</button>` : nothing}</header><div class="in">${rule ? html`<dl class="facts">${rule.prefer?.length ? html`<dt>Preferred</dt>${names(rule.prefer)}` : nothing}${rule.exclude?.length ? html`<dt>Never</dt>${names(rule.exclude)}` : nothing}</dl>` : html`<p class="quiet">Every host that can run it may run it.</p>`}</div></section>`;
}

function numbers(w) {
  const good = w.counts?.completed ?? 0;
  const bad = w.counts?.dead ?? 0;
  return html`<section class="card"><header><h2>About</h2>${bad && mayAct() ? html`<button class="small" @click=${requeueDead}>Requeue its dead</button>` : nothing}</header><div class="in"><dl class="facts"><dt>In the last hour</dt><dd>${count(w.per_hour)}</dd><dt>Completed</dt><dd>${count(good)}</dd><dt>Dead</dt><dd>${bad ? html`<a class="pill bad" href=${link('jobs', { hash: short(hash), state: 'dead' })}>${icon('cross')}${count(bad)}</a>` : '0'}</dd>${good + bad ? html`<dt>Success</dt><dd>${percent(good / (good + bad))}</dd>` : nothing}${w.ran_for ? html`<dt>Median run</dt><dd>${span(duration(w.ran_for))}</dd>` : nothing}
    ${store.role === 'tenant' ? nothing : html`<dt>Can run on</dt><dd>${count(w.capable)} of ${count(w.online)} hosts</dd><dt>Blocked on</dt><dd>${w.blocked ? html`<a class="pill block" href=${link('blocks', { hash })}>${icon('bar')}${w.blocked}</a>` : 'no host'}</dd>`}<dt>Hash</dt><dd class="mono">${hash}</dd></dl></div></section>`;
}

export function render() {
  const head = heading(title(), html`<a class="pill" href=${link('jobs', { hash: short(hash) })}>its jobs</a>`, html`<p class="mono">${short(hash)}</p>`);
  if (!facts.data) return html`${head}<div class="card">${unready(facts, 'the workflow')}</div>`;
  const f = facts.data;
  if (!f.w) return html`${head}<div class="card"><div class="empty"><h2>No job of workflow ${short(hash)}</h2><p>Workflows are listed as long as the events of their jobs are kept.</p></div></div>`;
  return html`${head}${stale(facts)}<div class="cols"><div>
    ${graph.data ? graphCard(graph.data) : graph.data === '' ? html`<p class="note">The graph is shown here while a job of this workflow is unfinished, or when one is dead. What other jobs were is not kept.</p>` : html`<div class="card">${unready(graph, 'the graph')}</div>`}
    </div><div>${numbers(f.w)}${store.role === 'tenant' ? nothing : hosts(f)}
    ${shown.found.length ? html`<section class="card"><h2>Newest pictures</h2><div class="in wall">${repeat(shown.list(), (p) => p.key, (p) => html`<a class="tile" href=${toJob(p.tenant, p.job)}><span class="frame">${picture(thumbOf(p.output), `made by ${p.job}`)}</span></a>`)}</div></section>` : nothing}
    <section class="card"><h2>Last jobs</h2><table class="list"><tbody>${repeat(f.last, (j) => keyOf(j.tenant, j.job), (j) => html`<tr data-row data-key=${keyOf(j.tenant, j.job)} tabindex="0"><td class="tight">${badge(j.state)}</td><td class="lead">${jobLink(j.tenant, j.job)}</td><td class="num tight quiet">${age(at(j.last.time))}</td></tr>`)}</tbody></table></section>
    </div></div>`;
}
