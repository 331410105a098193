// System: the dispatchers, how full NATS is, what is set, and who changed what.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { call, Resource } from '../api.js';
import { bytes, count, percent, plural } from '../format.js';
import { heading, unready } from '../parts.js';
import { store } from '../store.js';
import { at, clock, duration, now, span, whole } from '../time.js';
import { line } from './now.js';

let draw = () => {};

const facts = new Resource(async () => {
  if (store.role === 'tenant') return {};
  const [dispatchers, settings, overview, nats] = await Promise.all([call('dispatchers'), call('settings'), call('overview'), call('nats')]);
  return { dispatchers, settings, storage: overview.storage ?? [], nats };
}, () => draw(), 5000);

export const title = () => 'System';

export function open(_, redraw) {
  draw = redraw;
  facts.load();
}

export const resync = () => facts.load();
export function changed(events) {
  if (events.some((e) => e.of === 'operator')) facts.soon();
  return false; // what is read again is drawn then
}

const dispatchers = ({ dispatchers: list, answered }) => html`<section class="card"><h2>Dispatchers</h2><div class="scroll"><table class="list"><thead><tr><th>Name</th><th>Version</th><th class="num">Runs for</th><th class="num">Waiting jobs</th><th class="num">Clock</th></tr></thead><tbody>${list.map((d) => html`<tr><td class="lead"><b>${d.dispatcher}</b>${d.dispatcher === answered ? html` <span class="pill">answered this page</span>` : nothing}</td><td class="quiet" data-label="version">${d.version}</td><td class="num tight" data-label="runs for">${whole(now() - at(d.started))}</td><td class="num tight" data-label="waiting jobs">${count(d.waiting)}</td><td class="num tight ${d.clock_off ? '' : 'quiet'}" data-label="clock">${d.clock_off ? `off by ${d.clock_off}` : 'right'}</td></tr>`)}</tbody></table></div></section>`;

const day = 86400000;

/** When a stream is full if it grows on as it did since its oldest message, or that it will not be. */
function filling(s) {
  const since = at(s.since);
  const took = now() - since;
  if (!s.limit || !since || took < 60000 || s.stream === 'COMFY_JOBS' || s.stream.startsWith('KV_')) return ''; // what comes and goes says nothing of growth
  const rate = s.bytes / took;
  const age = duration(s.age);
  if (age && rate * age < s.limit) return `${took < age ? 'messages' : 'the oldest'} go after ${Math.round(age / 3600000)} h, before it is full`;
  return `full in about ${plural(Math.max(0, Math.round((s.limit - s.bytes) / rate / day)), 'day')}`;
}

/** What a consumer of the dispatchers is for. */
function purpose(name) {
  const [, priority] = name.match(/^dispatch_(\d)$/) ?? [];
  return priority ? `jobs of priority ${priority}` : { settle: 'failures, from which the next attempt follows', tally: 'events, for the metrics', webhooks: 'events, for webhooks', traces: 'ended jobs, for traces' }[name]; // others are NATS' own
}

function nats(n) {
  const own = n.consumers.filter((c) => purpose(c.consumer) && (c.pending || c.unacked || !c.consumer.startsWith('dispatch_')));
  return html`<section class="card"><header><h2>NATS</h2><span class="quiet">as this page is connected</span></header><div class="in"><dl class="facts"><dt>Server</dt><dd>${n.server || '–'} <span class="quiet">${n.version}</span></dd><dt>Address</dt><dd class="mono">${n.url}</dd>${n.cluster ? html`<dt>Cluster</dt><dd>${n.cluster}</dd>` : nothing}
    <dt>Round trip</dt><dd>${fine(duration(n.round_trip))}</dd><dt>Reconnects</dt><dd>${count(n.reconnects)}</dd></dl></div>
    <div class="scroll"><table class="list"><thead><tr><th>What dispatchers read</th><th>Consumer</th><th class="num">To be delivered</th><th class="num">Not finished</th></tr></thead><tbody>${own.map((c) => html`<tr><td class="lead">${purpose(c.consumer)}</td><td class="tight mono quiet">${c.consumer}</td><td class="num tight" data-label="to be delivered">${count(c.pending)}</td><td class="num tight" data-label="not finished">${count(c.unacked)}</td></tr>`)}</tbody></table></div><p class="in quiet">Jobs that wait or run are not finished: their number is no fault.</p></section>`;
}

const fine = (ms) => (ms < 1 ? `${Math.round(ms * 1000)} µs` : span(ms));

const storage = (list) => html`<section class="card"><h2>What NATS stores</h2><div class="scroll"><table class="list"><thead><tr><th>Stream</th><th>Full</th><th class="num">Bytes</th><th class="num">Limit</th><th class="num">Messages</th><th>At this rate</th></tr></thead><tbody>${list.map((s) => {
  const full = s.limit ? s.bytes / s.limit : 0;
  return html`<tr><td class="lead mono">${s.stream}</td><td>${s.limit ? html`<span class="bar ${full > 0.8 ? 'full' : ''}" title=${percent(full)}><i .style=${`width:${Math.max(1, full * 100)}%`}></i></span> <span class="quiet">${percent(full)}</span>` : html`<span class="quiet">no limit</span>`}</td><td class="num tight">${bytes(s.bytes)}</td><td class="num tight quiet">${s.limit ? bytes(s.limit) : '–'}</td><td class="num tight quiet" data-label="messages">${count(s.messages)}</td><td class="quiet ${filling(s) ? '' : 'none'}">${filling(s)}</td></tr>`;
})}</tbody></table></div></section>`;

const settings = ({ dispatcher, settings: list }) => html`<details class="card"><summary>Settings of dispatcher ${dispatcher}</summary><div class="scroll"><table class="list"><thead><tr><th>Setting</th><th>Value</th><th>From</th></tr></thead><tbody>${list.map((s) => html`<tr><td class="lead mono">${s.name}</td><td>${s.value}</td><td class="tight quiet">${s.from}</td></tr>`)}</tbody></table></div></details>`;

const webhooks = html`<section class="card"><header><h2>Webhooks</h2><a class="pill" href="#/webhooks">look</a></header><p class="in quiet">Where events are sent, and how each try went.</p></section>`;

export function render() {
  const acts = store.tail.filter((e) => e.of === 'operator');
  const f = facts.data;
  return html`${heading('System')}
    <section class="card"><h2>This page</h2><div class="in"><dl class="facts"><dt>Version</dt><dd>${store.version || '–'}</dd><dt>You</dt><dd>${store.role === 'tenant' ? `see tenant ${store.tenant}` : store.role === 'act' ? 'may look and act' : 'may look'}</dd><dt>Time of NATS</dt><dd>${clock(now())}</dd></dl></div></section>
    ${f ? html`${f.dispatchers ? dispatchers(f.dispatchers) : nothing}${f.nats ? nats(f.nats) : nothing}${f.storage?.length ? storage(f.storage) : nothing}${f.settings ? settings(f.settings) : nothing}` : html`<div class="card">${unready(facts, 'the settings')}</div>`}
    ${webhooks}
    ${acts.length ? html`<section class="card"><h2>Changes by people</h2><ul class="tail">${acts.slice(0, 50).map(line)}</ul></section>` : nothing}`;
}

