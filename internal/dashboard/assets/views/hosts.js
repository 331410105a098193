// Hosts: their state, what they run, what is warm, and their blocks.
import { html, nothing, svg } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { badge, bytes, icon, plural } from '../format.js';
import { age, empty, hashChip, heading, hostLink, jobLink, link, progress, stale, unready } from '../parts.js';
import { keyOf, mayOperate } from '../store.js';
import { at } from '../time.js';

let draw = () => {};
let state = '';

let shownRows = 100;
const list = new Resource(() => all('hosts', 'hosts', { trend: true }, 100000, (rows) => list.part(rows)), () => draw(), 2000);
const gone = new Resource(async () => (await all('hosts', 'hosts', { offline: true })).filter((h) => h.state === 'offline'), () => draw(), 10000); // they are known from events, which may take longer to read
const fresh = 60000; // after which hosts are read again for how busy they are

export const live = true; // it shows progress
export const title = () => 'Hosts';

export function open(route, redraw) {
  draw = redraw;
  state = route.query.get('state') ?? '';
  resync();
}

export function resync() {
  list.load();
  gone.load();
}

/** Takes a job's event into what a host runs. */
export function ran(host, e) {
  host.running = (host.running ?? []).filter((r) => keyOf(r.tenant, r.job) !== keyOf(e.event.tenant, e.event.job));
  if (e.kind === 'started') host.running.push({ tenant: e.event.tenant, job: e.event.job, hash: e.event.hash, attempt: e.event.attempt, since: e.time });
  else host.recent = [e.event.hash, ...(host.recent ?? []).filter((h) => h !== e.event.hash)].slice(0, 8);
}

/** What an event of a job says of hosts: that one of its attempts began or ended. */
export const ofRun = (e) => e.of === 'jobs' && e.event.host && !['queued', 'waiting', 'retrying'].includes(e.kind);

/** Jobs begin and end in the list at once; what else a host says is read again. */
export function changed(events) {
  const hosts = new Map((list.data ?? []).map((h) => [h.host, h]));
  if (Date.now() - list.at > fresh) list.soon();
  for (const e of events) {
    if (e.of === 'webhooks') continue;
    if (e.of !== 'jobs') {
      if (e.of !== 'operator' || e.kind === 'drain' || e.kind === 'unblock') list.soon();
      if (e.of === 'hosts') gone.soon();
      continue;
    }
    const host = hosts.get(e.event.host);
    if (host && ofRun(e)) ran(host, e);
  }
}

export async function drain(host, resume, after = () => list.load()) {
  const sure = await ask({ title: resume ? `Let ${host} accept jobs again?` : `Drain ${host}?`, act: resume ? 'Resume' : 'Drain', text: html`<p>${resume ? 'It gets jobs at once.' : 'It finishes what it runs and gets no other jobs until it is resumed.'}</p>` });
  if (sure) await attempt(() => call('drain', { host, resume }), (a) => (a.count ? `${host} is ${a.reply.state.state}.` : a.reply.reason || 'The agent has not done it.'));
  after();
}

export async function unblock(host, after = () => list.soon()) {
  const sure = await ask({ title: `Clear all blocks of ${host}?`, act: 'Clear them', text: html`<p>After each block the host takes one job of that workflow at a time, until one succeeds.</p>` });
  if (sure) await attempt(() => call('unblock', { host }), (a) => `${plural(a.count, 'block')} cleared.`);
  after();
}

export const keys = { u: (_, data) => mayOperate() && data?.key && unblock(data.key) };

export const slots = (h) => html`<span class="slots" role="img" aria-label="${(h.running ?? []).length} of ${h.slots} slots run">${Array.from({ length: Math.min(16, Math.max(h.slots, (h.running ?? []).length)) }, (_, i) => html`<i class="${i < (h.running ?? []).length ? 'busy' : ''} ${i >= h.slots ? 'extra' : ''}"></i>`)}</span>`;

export const words = (h) => h.reason || (h.resting && `rests: ${h.resting.why}`) || (h.trial && 'on trial: one job at a time') || (h.foreign && `${plural(h.foreign, 'prompt')} of other programs`) || '';

export function acts(h, after) {
  if (!mayOperate()) return nothing;
  return html`<button class="small" @click=${() => drain(h.host, h.state === 'draining', after)}>${h.state === 'draining' ? 'Resume' : 'Drain'}</button>${h.blocks ? html` <button class="small" @click=${() => unblock(h.host, after)} title="Clear all its blocks">Unblock</button>` : nothing}`;
}

/** The present hosts, and those that have gone in the last day. */
function everyHost() {
  const present = new Set(list.data.map((h) => h.host));
  return [...list.data, ...(gone.data ?? []).filter((h) => !present.has(h.host))].sort((a, b) => (a.host < b.host ? -1 : 1));
}

export const mean = (h) => Math.round(h.busy.reduce((a, b) => a + b, 0) / h.busy.length);

/** How busy the host was in the last hour, as a line. */
export function busy(h) {
  if (!h.busy?.length) return nothing;
  if (!h.busy.some(Boolean)) return html`<span class="quiet">0 %</span>`;
  const said = `busy ${mean(h)} % of the last hour`;
  return html`<svg class="busy" viewBox="0 0 ${h.busy.length} 102" preserveAspectRatio="none" role="img" aria-label=${said}><title>${said}</title>${svg`<path d="M0 101${h.busy.map((n, i) => `V${101 - n}H${i + 1}`).join('')}V101Z"/>`}</svg>`;
}

/** How much memory its card has, and how much of it was used when the agent looked last. */
export function vram(h) {
  if (!h.memory) return nothing;
  if (!h.memory_used) return bytes(h.memory);
  const used = h.memory_used;
  return html`<span class="vram" title="${bytes(used)} of ${bytes(h.memory)} used"><span>${bytes(used)} <span class="quiet">of ${bytes(h.memory)}</span></span><span class="bar"><i .style=${`width:${(100 * used) / h.memory}%`}></i></span></span>`;
}

function row(h) {
  const runs = h.running ?? [];
  return html`<tr data-row data-key=${h.host} tabindex="0" class=${h.state === 'offline' ? 'off' : ''}>
    <td class="lead"><b>${hostLink(h.host)}</b>${h.labels?.length ? html` <span class="quiet">${h.labels.slice(0, 4).join(' ')}</span>` : nothing}</td>
    <td class="tight">${badge(h.state)}${h.state === 'offline' ? html` <span class="quiet">${age(at(h.time))}</span>` : nothing}</td>
    <td class="tight">${slots(h)}</td>
    <td>${runs.length ? runs.slice(0, 3).map((r) => html`<div class="row">${jobLink(r.tenant, r.job)}${progress(r.tenant, r.job)}</div>`) : nothing}${runs.length > 3 ? html`<span class="quiet">and ${runs.length - 3} more</span> ` : nothing}${runs.length ? html`<span class="quiet">${words(h)}</span>` : html`<span class="quiet">${words(h) || 'idle'}</span>`}</td>
    <td class="tight ${h.busy ? '' : 'none'}">${busy(h)}</td>
    <td class="tight">${h.recent?.length ? html`${hashChip(h.recent[0])}${h.recent.length > 1 ? html` <span class="quiet">+${h.recent.length - 1}</span>` : nothing}` : nothing}</td>
    <td class="tight ${h.memory ? '' : 'none'}" data-label="VRAM">${vram(h)}</td>
    <td class="num tight ${h.blocks || h.strikes ? '' : 'none'}" data-label="blocks">${h.blocks ? html`<a class="pill block" href=${link('blocks', { host: h.host })}>${icon('bar')}${h.blocks}</a>` : nothing}${h.strikes ? html` <span class="quiet" title="workflows with strikes">${icon('triangle')}${h.strikes}</span>` : nothing}</td>
    <td class="tight num">${h.state === 'offline' ? nothing : acts(h)}</td></tr>`;
}

export function render() {
  if (!list.data) return html`${heading('Hosts')}<div class="card">${unready(list, 'the hosts')}</div>`;
  const counts = {};
  const hosts = everyHost();
  for (const h of hosts) counts[h.state] = (counts[h.state] ?? 0) + 1;
  const shown = state ? hosts.filter((h) => h.state === state) : hosts;
  return html`${heading('Hosts')}${stale(list)}
    ${hosts.length ? html`<nav class="filters chips" aria-label="States"><a href=${link('hosts')} aria-current=${state ? nothing : 'true'}>all <b>${hosts.length}</b></a>${Object.entries(counts).map(([s, n]) => html`<a href=${link('hosts', { state: s })} aria-current=${state === s ? 'true' : nothing}>${s} <b>${n}</b></a>`)}</nav>` : nothing}
    <section class="card">${shown.length ? html`<div class="scroll"><table class="list dense"><thead><tr><th>Host</th><th>State</th><th>Slots</th><th>Runs</th><th>Last hour</th><th>Warm</th><th>VRAM</th><th class="num">Blocks</th><th></th></tr></thead><tbody>${repeat(shown.slice(0, shownRows), (h) => h.host, row)}</tbody></table></div>${shown.length > shownRows ? html`<p class="in"><button @click=${() => { shownRows += 200; draw(); }}>${plural(shown.length - shownRows, 'further host')}</button></p>` : nothing}`
    : empty('No host is online', 'Start an agent beside each ComfyUI:', 'COMFY_HOSTS=http://127.0.0.1:8188 agent')}</section>`;
}

