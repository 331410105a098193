// System: the dispatchers, how full NATS is, what is set, and who changed what.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { call, Resource } from '../api.js';
import { bytes, count, percent } from '../format.js';
import { heading, unready } from '../parts.js';
import { store } from '../store.js';
import { at, clock, now, whole } from '../time.js';
import { line } from './now.js';

let draw = () => {};

const facts = new Resource(async () => {
  if (store.role === 'tenant') return {};
  const [dispatchers, settings, overview] = await Promise.all([call('dispatchers'), call('settings'), call('overview')]);
  return { dispatchers, settings, storage: overview.storage ?? [] };
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

const dispatchers = ({ dispatchers: list, answered }) => html`<section class="card"><h2>Dispatchers</h2><div class="scroll"><table class="list"><thead><tr><th>Name</th><th>Version</th><th class="num">Runs for</th><th class="num">Waiting jobs</th><th class="num">Clock</th></tr></thead><tbody>${list.map((d) => html`<tr><td class="lead"><b>${d.dispatcher}</b>${d.dispatcher === answered ? html` <span class="pill">answered this page</span>` : nothing}</td><td class="quiet">${d.version}</td><td class="num tight">${whole(now() - at(d.started))}</td><td class="num tight">${count(d.waiting)}</td><td class="num tight ${d.clock_off ? '' : 'quiet'}">${d.clock_off ? `off by ${d.clock_off}` : 'right'}</td></tr>`)}</tbody></table></div></section>`;

const storage = (list) => html`<section class="card"><h2>What NATS stores</h2><div class="scroll"><table class="list"><thead><tr><th>Stream</th><th>Full</th><th class="num">Bytes</th><th class="num">Limit</th><th class="num">Messages</th></tr></thead><tbody>${list.map((s) => {
  const full = s.limit ? s.bytes / s.limit : 0;
  return html`<tr><td class="lead mono">${s.stream}</td><td>${s.limit ? html`<span class="bar ${full > 0.8 ? 'full' : ''}" title=${percent(full)}><i .style=${`width:${Math.max(1, full * 100)}%`}></i></span> <span class="quiet">${percent(full)}</span>` : html`<span class="quiet">no limit</span>`}</td><td class="num tight">${bytes(s.bytes)}</td><td class="num tight quiet">${s.limit ? bytes(s.limit) : '–'}</td><td class="num tight quiet">${count(s.messages)}</td></tr>`;
})}</tbody></table></div></section>`;

const settings = ({ dispatcher, settings: list }) => html`<details class="card"><summary>Settings of dispatcher ${dispatcher}</summary><div class="scroll"><table class="list"><thead><tr><th>Setting</th><th>Value</th><th>From</th></tr></thead><tbody>${list.map((s) => html`<tr><td class="lead mono">${s.name}</td><td>${s.value}</td><td class="tight quiet">${s.from}</td></tr>`)}</tbody></table></div></details>`;

const webhooks = html`<section class="card"><header><h2>Webhooks</h2><a class="pill" href="#/webhooks">look</a></header><p class="in quiet">Where events are sent, and how each try went.</p></section>`;

export function render() {
  const acts = store.tail.filter((e) => e.of === 'operator');
  const f = facts.data;
  return html`${heading('System')}
    <section class="card"><h2>This page</h2><div class="in"><dl class="facts"><dt>Version</dt><dd>${store.version || '–'}</dd><dt>You</dt><dd>${store.role === 'tenant' ? `see tenant ${store.tenant}` : store.role === 'act' ? 'may look and act' : 'may look'}</dd><dt>Time of NATS</dt><dd>${clock(now())}</dd></dl></div></section>
    ${f ? html`${f.dispatchers ? dispatchers(f.dispatchers) : nothing}${f.storage?.length ? storage(f.storage) : nothing}${f.settings ? settings(f.settings) : nothing}` : html`<div class="card">${unready(facts, 'the settings')}</div>`}
    ${webhooks}
    ${acts.length ? html`<section class="card"><h2>Changes by people</h2><ul class="tail">${acts.slice(0, 50).map(line)}</ul></section>` : nothing}`;
}

