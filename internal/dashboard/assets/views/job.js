// Job: its whole story to scale, its pictures, why it waits, and what can be done.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { call, CallError, Resource } from '../api.js';
import { requeueOne } from '../bulk.js';
import { ask, attempt } from '../dialog.js';
import { badge, bytes, details, icon, plural, spaces } from '../format.js';
import { lossless, written } from '../json.js';
import { isAudio, isPicture, isVideo } from '../media.js';
import { command, copy, fileOf, hashChip, heading, hostLink, jobLink, kept, link, nodeOf, picture, previewOf, progress, stale, unready } from '../parts.js';
import { mayAct, mayOperate, store } from '../store.js';
import { at, clock, duration, full, left, now, span, whole } from '../time.js';
import { graphCard } from './graph.js';
import { segments } from './timeline.js';

const ends = new Set(['completed', 'dead', 'cancelled']);

let draw = () => {};
let tenant = '';
let id = '';
let requeued = ''; // the new job's id, after a requeue from here
let verdict = ''; // of the hosts that are shown; empty: all

const own = () => ({ tenant, job: id });

const status = new Resource(async () => lossless(await call('job', own(), { text: true })), () => {
  if (status.data && !ends.has(status.data.state)) reasons.soon();
  draw();
}, 300);
const reasons = new Resource(() => call('why', own()), () => draw(), 3000);

export const live = true; // it shows progress
export const title = () => id;

export function open(route, redraw) {
  draw = redraw;
  const [t = '', j = ''] = route.rest;
  if (t !== tenant || j !== id) {
    status.reset();
    reasons.reset();
    requeued = '';
    verdict = '';
  }
  [tenant, id] = [t, j];
  status.load();
}

export const resync = () => status.load();

export function changed(events) {
  if (events.some((e) => e.of === 'jobs' && e.event.job === id && e.event.tenant === tenant)) status.soon();
  else if (status.data && !ends.has(status.data.state) && events.some((e) => e.of === 'hosts' || e.of === 'blocks')) reasons.soon();
}

async function cancel() {
  if (!mayAct() || !status.data || ends.has(status.data.state)) return;
  const sure = await ask({ title: `Cancel ${id}?`, act: 'Cancel the job', danger: true, text: html`<p>${status.data.state === 'started' ? 'It runs, and is interrupted. ' : ''}A cancelled job is not run again.</p>` });
  if (sure) await attempt(() => call('cancel', own()), (a) => `The job is ${a.state}.`);
  status.soon();
}

async function requeue() {
  if (!mayAct() || status.data?.state !== 'dead') return;
  const known = store.role === 'tenant' ? [] : (await call('hosts', { limit: 500 }).catch(() => ({ hosts: [] }))).hosts;
  let hosts = '';
  const sure = await ask({
    title: `Requeue ${id}?`, act: 'Requeue',
    text: html`<p>The job is published again with a new id; this one stays dead.</p><label>Only on these hosts <input list="hosts" autocomplete="off" placeholder="wherever the job may run" @input=${(e) => { hosts = e.target.value; }}></label>
      <datalist id="hosts">${known.map((h) => html`<option value=${h.host}>${h.state}</option>`)}</datalist><p>Names, or labels such as gpu=4090, with commas between them. They count in place of what the job says of hosts.</p>`,
  });
  if (!sure) return;
  const only = hosts.split(/[\s,]+/).filter(Boolean);
  const answer = await attempt(() => requeueOne({ ...own(), last: status.data.events.at(-1) }, { again: true, ...(only.length ? { only_hosts: only } : {}) }), (a) => (a.count ? 'Published again.' : 'It was not requeued: its dead letter is gone, or it needs its extra_data again.'));
  requeued = answer?.jobs?.[id] ?? requeued;
  draw();
}

async function clear(_, __, host = blockedHost()) {
  const hash = status.data?.event.hash;
  if (!mayOperate() || !host || !hash) return;
  const sure = await ask({ title: `Clear the block of ${host}?`, act: 'Clear it', text: html`<p>${host} gets jobs of this workflow again, one at a time until one succeeds.</p>` });
  if (sure) await attempt(() => call('unblock', { host, hash }), (a) => `${plural(a.count, 'block')} cleared.`);
  reasons.soon();
}

const blockedHost = () => reasons.data?.hosts?.find((h) => h.code === 'blocked')?.host;

export const keys = { c: cancel, r: requeue, u: clear };

function timeline(s) {
  const parts = segments(s.events, now());
  const total = parts.end - parts.begin;
  return html`<div class="line" role="img" aria-label=${parts.list.map((p) => `${p.text} for ${span(p.to - p.from)}`).join(', ')}>${parts.list.map((p) => html`<span class=${p.tone} title="${p.text}: ${span(p.to - p.from)}" .style=${`left:${((p.from - parts.begin) / total) * 100}%;width:${((p.to - p.from) / total) * 100}%`}>${(p.to - p.from) / total > 0.08 ? p.text : ''}</span>`)}</div>
    <div class="axis"><span>${clock(parts.begin)}</span><span>${ends.has(s.state) ? `${span(total)} in all` : `${whole(total)} so far`}</span><span>${ends.has(s.state) ? clock(parts.end) : 'now'}</span></div>`;
}

function step(row, first) {
  const kind = row.subject.split('.').at(-1);
  const e = row.event;
  return html`<li><time class="quiet" title=${full(at(row.time))}>+${span(at(row.time) - first)}</time>${badge(kind)}<span>${e.host ? hostLink(e.host) : nothing}</span><span>${details(kind, e)}${e.until && at(e.until) > now() ? html` <span class="quiet">until ${clock(at(e.until))}</span>` : nothing}</span>${e.message && kind !== 'completed' ? html`<span class="message">${e.message}</span>` : nothing}</li>`;
}

function output(o) {
  const name = o.filename || o.object;
  if (!o.object) return o.text ? html`<figure><pre>${o.text}</pre><figcaption>node ${o.node}</figcaption></figure>` : html`<figure><div class="frame">only on the host</div><figcaption><span>${name}</span></figcaption></figure>`;
  const src = fileOf(o.object);
  const body = isPicture(o) ? html`<a class="frame" href=${src} target="_blank" rel="noopener">${picture(src, name)}</a>`
    : isVideo(o) ? html`<div class="frame"><video src=${src} controls preload="metadata"></video></div>`
      : isAudio(o) ? html`<div class="frame"><audio src=${src} controls preload="none"></audio></div>`
        : html`<div class="frame">${icon('more')}</div>`;
  return html`<figure>${body}<figcaption><span>${name}</span><span>${bytes(Number(o.size))} · <a href=${fileOf(o.object, true)}>download</a></span></figcaption></figure>`;
}

function nodes(e) {
  const times = Object.entries(e.node_times ?? {}).map(([node, took]) => [node, duration(took)]).sort((a, b) => b[1] - a[1]);
  if (!times.length && !e.cached_nodes?.length) return nothing;
  const longest = Math.max(1, ...times.map(([, took]) => took));
  return html`<section class="card"><h2>Nodes</h2><div class="in"><div class="nodes">${times.slice(0, 30).map(([node, took]) => html`<span>node ${node}</span><i .style=${`width:${(took / longest) * 100}%`}></i><span class="quiet">${span(took)}</span>`)}
    ${(e.cached_nodes ?? []).slice(0, 12).map((node) => html`<span>node ${node}</span><i class="cached"></i><span class="quiet">from the cache</span>`)}</div></div></section>`;
}

function whyTable(s) {
  if (ends.has(s.state)) return nothing;
  const w = reasons.data;
  if (!w) return reasons.error ? html`<section class="card"><h2>Why</h2><div class="in">${unready(reasons, 'why')}</div></section>` : nothing;
  const codes = w.hosts.reduce((m, h) => m.set(h.code, [...(m.get(h.code) ?? []), h]), new Map());
  const shown = codes.get(verdict) ?? w.hosts;
  const groups = [...codes].sort((a, b) => b[1].length - a[1].length);
  return html`<section class="card"><header><h2>${s.state === 'started' ? 'Where else it could run' : 'Why it waits'}</h2>${w.position ? html`<span class="pill wait">place ${w.position} of ${w.of}${w.eta ? html`, in about ${left(at(w.eta))}` : nothing}</span>` : nothing}</header>
    <div class="in"><p>${w.text}</p><p class="chips">${groups.map(([code, of]) => html`<button aria-pressed=${code === verdict} title="Show only these hosts" @click=${() => { verdict = code === verdict ? '' : code; draw(); }}>${icon(code === 'eligible' ? 'check' : code === 'blocked' ? 'bar' : 'minus')}<b>${of.length}</b> ${spaces(code)}</button>`)}</p></div>
    <div class="scroll"><table class="list"><thead><tr><th>Host</th><th>May it run the job</th><th>Why</th><th></th></tr></thead><tbody>${shown.slice(0, 60).map((h) => html`<tr><td class="tight">${hostLink(h.host)}</td><td class="tight"><span class="badge ${h.eligible ? 'good' : h.code === 'blocked' ? 'block' : 'mute'}">${icon(h.eligible ? 'check' : h.code === 'blocked' ? 'bar' : 'minus')}${spaces(h.code)}</span></td><td class="quiet">${h.text}${h.until && at(h.until) > now() ? html` <b>${left(at(h.until))} left</b>` : nothing}</td><td class="tight num">${h.code === 'blocked' && mayOperate() ? html`<button class="small" @click=${() => clear(null, null, h.host)}>Clear</button>` : nothing}</td></tr>`)}</tbody></table></div>
    ${shown.length > 60 ? html`<div class="in quiet">${plural(shown.length - 60, 'further host')}: <code>dispatcher why ${tenant}/${id}</code></div>` : nothing}</section>`;
}

/** The id of the job's trace, where an operator has said where traces are found as a link. */
function traced({ trace, state }) {
  if (!trace) return nothing;
  const where = store.trace && html`<a class="pill" href=${store.trace.replaceAll('{trace}', trace)} target="_blank" rel="noopener noreferrer">open the trace</a>`;
  return html`<section class="card"><header><h2>Trace</h2>${where || nothing}</header><div class="in row">${command(trace)}<span class="quiet">${ends.has(state) ? 'exported' : 'exported when the job has ended'}, where dispatchers send traces</span></div></section>`;
}

function acts(s) {
  const over = ends.has(s.state);
  return html`${mayAct() && !over ? html`<button @click=${cancel}>Cancel</button>` : nothing}
    ${mayAct() && s.state === 'dead' ? html`<button class="primary" @click=${requeue}>Requeue</button>` : nothing}
    ${mayOperate() && !over && blockedHost() ? html`<button @click=${clear}>Clear block of ${blockedHost()}</button>` : nothing}
    <button class="plain" @click=${(e) => copy(`dispatcher status ${tenant}/${id}`, e.currentTarget)} title="Copy the command that shows this job">${icon('copy')} as command</button>`;
}

function running(s) {
  if (s.state !== 'started') return nothing;
  const src = previewOf(tenant, id);
  return html`<section class="card"><h2>Running on ${hostLink(s.event.host)}</h2><div class="in runs"><div>${src ? html`<div class="frame">${picture(src, 'live preview')}</div>` : nothing}</div><div>${progress(tenant, id)}<p class="quiet">${nodeOf(tenant, id) || 'begins'} · ${whole(now() - at(s.events.at(-1).time))}</p></div></div></section>`;
}

export function render() {
  if (!status.data) {
    if (status.error instanceof CallError && status.error.status === 404) {
      return html`${heading(id)}<div class="card"><div class="empty"><h2>Tenant ${tenant} has no job ${id}</h2><p>The events of a job are kept${kept() || ' for some days'} after the last of them. A job that died longer ago still has its dead letter:</p><p>${command(`dispatcher dead show ${tenant}/${id}`)}</p></div></div>`;
    }
    return html`${heading(id)}<div class="card">${unready(status, 'the job')}</div>`;
  }
  const s = status.data;
  const first = s.events[0]?.event ?? s.event;
  const last = s.events.at(-1)?.event ?? s.event;
  const outputs = last.outputs ?? [];
  const begin = at(s.events[0]?.time);
  return html`${heading(s.name ? html`${s.name} <span class="mono quiet">${id}</span>` : html`<span class="mono">${id}</span>`, acts(s), html`<p class="row">${badge(s.state)}<a href=${link('jobs', { tenant })}>${tenant}</a> · priority ${first.priority} · ${hashChip(first.hash, s.title)}${first.requeue_of ? html` · again ${jobLink(tenant, first.requeue_of)}` : nothing}${requeued ? html` · requeued as ${jobLink(tenant, requeued)}` : nothing}</p>`)}
    ${stale(status)}
    <section class="card"><h2>Timeline</h2><div class="in">${timeline(s)}</div>${s.earlier ? html`<p class="in quiet">${plural(s.earlier, 'earlier event')} left out</p>` : nothing}<ol class="steps">${s.events.map((row) => step(row, begin))}</ol></section>
    ${running(s)}${whyTable(s)}
    ${outputs.length ? html`<section class="card"><h2>${plural(outputs.length, 'output')}</h2><div class="in gallery">${outputs.map(output)}</div></section>` : nothing}
    ${nodes(last)}
    ${traced(s)}
    ${first.metadata ? html`<section class="card"><h2>Metadata</h2><div class="in"><pre>${written(first.metadata)}</pre></div></section>` : nothing}
    ${graphCard(s.body?.workflow)}
    ${s.body ? html`<details class="card"><summary>The job as it was published${s.bytes ? html` <span class="quiet">${bytes(Number(s.bytes))}</span>` : nothing}</summary><div class="in"><pre>${written(s.body)}</pre></div></details>` : s.no_body ? html`<p class="note">${s.no_body}</p>` : nothing}
    <details class="card"><summary>Events as they are stored</summary><div class="in"><pre>${written(s.events)}</pre></div></details>`;
}

