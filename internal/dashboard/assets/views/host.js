// Host: one of them, what it ran, what it can run, its blocks, and what happened to it.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { badge, count, plural, short, spaces } from '../format.js';
import { age, hashChip, heading, jobLink, kept, link, nodeOf, progress, stale, strikes, unready } from '../parts.js';
import { keyOf, mayOperate, store } from '../store.js';
import { at, duration, left, now, span, whole } from '../time.js';
import { acts, busy, mean, ofRun, ran, slots, unblock, vram, words } from './hosts.js';
import { line } from './now.js';

let draw = () => {};
let name = '';
let text = ''; // that is looked for in what the host can run
let typing = 0;

const facts = new Resource(async () => ({ h: (await call('hosts', { host: name, trend: true, offline: true, attempts: true })).hosts[0] }), () => draw(), 2000);
const blocks = new Resource(() => all('blocks', 'blocks', { host: name }), () => draw(), 2000);
const struck = new Resource(async () => (await call('blocks', { host: name, struck: true })).struck ?? [], () => draw(), 2000);
const events = new Resource(async () => (await call('host.events', { host: name })).events, () => draw(), 3000);
const can = new Resource(() => call('capability', { host: name, find: text }), () => draw(), 200);
const parts = [facts, blocks, struck, events, can];

export const live = true; // it shows progress
export const title = (route) => route.rest[0];

export function open(route, redraw) {
  draw = redraw;
  if (route.rest[0] !== name) {
    text = '';
    for (const r of parts) r.reset();
  }
  [name] = route.rest;
  resync();
}

export function resync() {
  for (const r of parts) r.load();
}

export function changed(list) {
  for (const e of list) {
    const own = e.event.host === name;
    if (e.of === 'operator' && (e.kind === 'drain' || e.kind === 'unblock')) facts.soon();
    if (!own) continue;
    if (e.of === 'blocks') blocks.soon();
    if (e.of === 'blocks' || e.kind === 'failed' || e.kind === 'completed') struck.soon();
    if (e.of === 'blocks' || e.of === 'hosts') events.soon();
    if (facts.data?.h && ofRun(e)) ran(facts.data.h, e);
    facts.soon();
  }
}

const again = () => {
  for (const r of [facts, blocks, struck]) r.soon();
};

async function clear(b) {
  const sure = await ask({ title: `Clear the block of ${short(b.hash)}?`, act: 'Clear it', text: html`<p>${name} gets jobs of this workflow again, one at a time until one succeeds.</p>` });
  if (sure) await attempt(() => call('unblock', { host: name, hash: b.hash }), (a) => `${plural(a.count, 'block')} cleared.`);
  again();
}

export const keys = { u: () => mayOperate() && facts.data?.h?.blocks && unblock(name, again) };

const about = (h) => [
  ['Device', h.device], ['VRAM', h.memory && vram(h)], ['ComfyUI', h.version], ['Agent', h.agent_version], ['Address', h.url], ['Labels', h.labels?.join(', ')],
  ['Serves', h.tenants?.length ? h.tenants.join(', ') : 'all tenants'], ['Clock', h.clock_off && `off by ${h.clock_off}`],
  ['Rests', h.resting && `${h.resting.why}, ${left(at(h.resting.until))} left`], ['Blame', h.blame && jobLink(h.blame.tenant, h.blame.job)], ['Last seen', age(at(h.time))],
].filter(([, v]) => v);

function attempts(list) {
  if (!list?.length) return html`<p class="in quiet">none that has ended, as far as events are kept${kept()}</p>`;
  return html`<div class="scroll"><table class="list"><thead><tr><th>Ended</th><th>Job</th><th>Workflow</th><th class="num">Ran for</th><th class="num">When</th></tr></thead>
    <tbody>${repeat(list, (a) => `${keyOf(a.tenant, a.job)}/${a.attempt}/${a.begun}`, (a) => html`<tr data-row tabindex="0"><td class="tight">${badge(a.state)}${a.kind ? html`<br><span class="quiet">${spaces(a.kind)}</span>` : nothing}</td><td class="lead">${jobLink(a.tenant, a.job)}<br><span class="quiet">${a.tenant}${a.attempt > 1 ? `, attempt ${a.attempt}` : ''}</span></td>
    <td class="tight"><a href=${link(`workflow/${a.hash}`)} title="Workflow ${a.hash}">${store.titles.get(a.hash) || html`<span class="mono">${short(a.hash)}</span>`}</a></td>
    <td class="num tight" data-label="ran for">${span(duration(a.ran_for))}</td><td class="num tight quiet">${age(at(a.begun) + duration(a.ran_for))}</td></tr>`)}</tbody></table></div>`;
}

function look(e) {
  text = e.target.value.trim();
  clearTimeout(typing);
  typing = setTimeout(() => can.load(), 250);
}

/** What it can run: how much, and what has a text in its name. */
function capability(h) {
  const c = can.data;
  if (!c?.known) return h.capability ? html`<section class="card"><h2>Can run</h2><p class="in quiet">${count(h.capability)} classes, models and options; their names come when its agent has stored its catalogue.</p></section>` : nothing;
  return html`<section class="card"><header><h2>Can run</h2><span class="quiet">${plural(c.classes, 'class', 'classes')}, ${plural(c.models, 'model')}</span></header><div class="in"><input class="find" type="search" placeholder="Find a class or model" aria-label="Find a class or model of ${name}" @input=${look}>
    ${text ? html`<ul class="found">${c.found.map((f) => html`<li><span class="pill mute">${f.kind}</span> <span class="mono">${f.name}</span></li>`)}</ul>${c.found.length ? nothing : html`<p class="quiet">Nothing has “${text}” in its name.</p>`}${c.more ? html`<p class="quiet">and ${count(c.more)} more</p>` : nothing}` : nothing}</div></section>`;
}

function blocked() {
  const list = (blocks.data ?? []).filter((b) => at(b.until) > now());
  return html`<section class="card"><header><h2>Blocks</h2>${list.length ? html`<a class="quiet" href=${link('blocks', { host: name })}>all about them</a>` : nothing}</header><div class="in">${list.length ? list.slice(0, 30).map((b) => html`<p class="row">${hashChip(b.hash)} <span class="pill block">${left(at(b.until))} left</span> <span class="quiet">${spaces(b.kind)}: ${b.message}</span>${mayOperate() ? html` <button class="small" @click=${() => clear(b)}>Clear</button>` : nothing}</p>`) : html`<p class="quiet">none</p>`}${list.length > 30 ? html`<p class="quiet">${plural(list.length - 30, 'further block')}</p>` : nothing}</div></section>`;
}

/** Workflows that have failed here and are not blocked. */
function struckCard() {
  if (!struck.data?.length) return nothing;
  return html`<section class="card"><header><h2>Strikes</h2><span class="quiet">not blocked</span></header><div class="in">${struck.data.slice(0, 30).map((s) => html`<p class="row">${hashChip(s.hash)} ${strikes(s)}</p>`)}${struck.data.length > 30 ? html`<p class="quiet">${plural(struck.data.length - 30, 'further workflow')}</p>` : nothing}</div></section>`;
}

export function render() {
  if (!facts.data) return html`${heading(name)}<div class="card">${unready(facts, 'the host')}</div>`;
  const { h } = facts.data;
  if (!h) return html`${heading(name)}<div class="card"><div class="empty"><h2>${name} is not online</h2><p>Its presence has ended: the agent beside it was stopped, or cannot reach NATS.</p><p><a class="pill" href="#/hosts">All hosts</a></p></div></div>`;
  const runs = h.running ?? [];
  const ui = /^https?:\/\//.test(h.url ?? '') ? html`<a class="pill" href=${h.url} target="_blank" rel="noopener noreferrer">Open ComfyUI</a>` : nothing;
  return html`${heading(h.host, html`${ui}${h.state === 'offline' ? nothing : acts(h, again)}`, html`<p class="row">${badge(h.state)} ${slots(h)} <span>${words(h)}</span></p>`)}
    ${stale(facts)}
    <div class="cols"><div>
    ${runs.length ? html`<section class="card"><h2>Running</h2><div class="in">${runs.map((r) => html`<p class="row">${jobLink(r.tenant, r.job)} <span class="quiet">${r.tenant} · ${nodeOf(r.tenant, r.job)} ${whole(now() - at(r.since))}</span> ${progress(r.tenant, r.job)}</p>`)}</div></section>` : nothing}
    <section class="card"><header><h2>Last attempts</h2><a class="quiet" href=${link('jobs', { host: name })}>its jobs</a></header>${attempts(h.attempts)}</section>
    </div><div>
    ${h.busy?.some(Boolean) ? html`<section class="card"><header><h2>The last hour</h2><span class="quiet">busy ${mean(h)} % of it</span></header><div class="in">${busy(h)}</div></section>` : nothing}
    <section class="card"><h2>About</h2><div class="in"><dl class="facts">${about(h).map(([k, v]) => html`<dt>${k}</dt><dd>${v}</dd>`)}</dl></div></section>
    ${blocked()}${struckCard()}${capability(h)}
    ${h.recent?.length ? html`<section class="card"><h2>Warm workflows</h2><div class="in row">${h.recent.map((x) => hashChip(x))}</div></section>` : nothing}
    ${events.data?.length ? html`<section class="card"><header><h2>Events</h2><span class="quiet">of the last day</span></header><ul class="tail">${repeat(events.data.slice(0, 30), (e) => e.sequence, line)}</ul></section>` : nothing}
    </div></div>`;
}
