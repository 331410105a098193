// Now: what runs, what waits, what needs a person, and the newest pictures.
import { html, nothing, svg } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { badge, count, details, icon, plural, short } from '../format.js';
import { empty, figure, heading, hostLink, jobLink, link, nodeOf, picture, previewOf, progress, stale, thumbOf, toJob, unready } from '../parts.js';
import { keyOf, store } from '../store.js';
import { at, clock, duration, midnight, now, whole } from '../time.js';
import { needsCard } from './needs.js';
import { Pictures } from './pictures.js';
import { Running } from './running.js';

let draw = () => {};
const shown = new Pictures(() => draw(), 9);
const running = new Running();
const facts = new Resource(async () => {
  const [overview] = await Promise.all([store.role === 'tenant' ? ofTenant() : call('overview', { trend: true, day: midnight() }), running.load()]);
  if (!sum(overview.counts) && !address && store.role !== 'tenant') address = (await call('nats')).url;
  return overview;
}, () => draw(), 2000);
let address = ''; // of NATS, which the first agent needs

/** What a tenant may know of the same. */
async function ofTenant() {
  const [jobs, lanes] = await Promise.all([call('jobs', { limit: 1 }), all('queue', 'lanes')]);
  const oldest = Math.min(...lanes.filter((l) => l.depth && l.oldest).map((l) => at(l.oldest)), Infinity);
  return { counts: jobs.counts ?? {}, waiting: { turn: lanes.reduce((n, l) => n + l.depth, 0) }, oldest_due: oldest < Infinity ? new Date(oldest).toISOString() : undefined, rates: [] };
}

export const live = true; // it shows progress
export const title = () => 'Now';

export function open(_, redraw) {
  draw = redraw;
  resync();
}

export function resync() {
  running.reset();
  facts.load();
  shown.load({});
}

export function changed(events) {
  running.changed(events);
  shown.changed(events);
  facts.soon();
}

const sum = (counts) => Object.values(counts ?? {}).reduce((n, x) => n + x, 0);

function figures(f) {
  const waiting = sum(f.waiting);
  const minute = f.rates.find((r) => duration(r.window) === 60000);
  const hosts = f.hosts && sum(f.hosts);
  const away = f.hosts && Object.entries(f.hosts).filter(([s, n]) => s !== 'online' && n).map(([s, n]) => `${n} ${s}`);
  return html`<div class="figures">
    ${figure('Running', html`${count(running.jobs.size)}${f.slots ? html` <small>of ${plural(f.slots.busy + f.slots.free, 'slot')}</small>` : nothing}`, f.slots?.out ? `${count(f.slots.out)} out of use` : '', link('jobs', { state: 'started' }), running.jobs.size ? 'run' : '')}
    ${figure('Waiting', count(waiting), waiting ? [f.oldest_due ? `due for ${whole(now() - at(f.oldest_due))}` : 'none is due', f.waiting.not_due && f.oldest_due && `${count(f.waiting.not_due)} not due`].filter(Boolean).join(', ') : 'nothing waits', link('waiting'), waiting ? 'wait' : '')}
    ${figure('Completed', count(f.counts.completed), minute ? `${count(minute.completed)} a minute` : '', link('jobs', { state: 'completed' }))}
    ${figure('Dead', count(f.counts.dead), f.day ? `${count(f.day.dead)} today` : '', link('dead'), f.counts.dead ? 'bad' : '')}
    ${f.hosts ? figure('Hosts', html`${count(f.hosts.online)} <small>online</small>`, away.length ? away.join(', ') : hosts ? 'all of them' : 'none yet', link('hosts')) : nothing}
    ${f.pairs ? figure('Blocked pairs', count(f.pairs.blocked), f.pairs.blocked ? `of ${count(f.pairs.active)} active` : 'nothing is blocked', link('blocks'), f.pairs.blocked ? 'block' : '') : nothing}
  </div>`;
}

/** The last hour as a line: what completed, and what died. */
function trend(f) {
  const steps = f.trend ?? [];
  const most = Math.max(...steps.map((s) => s.completed), 0);
  if (steps.length < 3 || !most) return nothing;
  const x = (i) => ((i / (steps.length - 1)) * 600).toFixed(1);
  const y = (n) => (62 - (n / most) * 56).toFixed(1);
  const line = steps.map((s, i) => `${i ? 'L' : 'M'}${x(i)} ${y(s.completed)}`).join('');
  const dead = steps.map((s, i) => (s.dead ? `M${x(i)} 62L${x(i)} ${y(Math.min(most, s.dead))}` : '')).join('');
  const every = duration(steps[0].window) / 1000;
  return html`<section class="card"><header><h2>The last hour</h2><span class="quiet">up to ${count(Math.round((most * 60) / every))} a minute</span></header><div class="in"><svg class="spark" viewBox="0 0 600 64" preserveAspectRatio="none" role="img" aria-label="${count(steps.reduce((n, s) => n + s.completed, 0))} jobs completed in the last hour">${svg`<path d="${line}L600 64L0 64Z"/>`}${svg`<path class="dead" d=${dead} />`}</svg></div></section>`;
}

function runningCard() {
  const rows = running.list();
  if (!rows.length) return nothing;
  return html`<section class="card"><header><h2>Running</h2><a class="quiet" href=${link('jobs', { state: 'started' })}>all</a></header><div class="in runs">${repeat(rows.slice(0, 12), (r) => keyOf(r.tenant, r.job), (r) => {
    const src = previewOf(r.tenant, r.job);
    return html`<a href=${toJob(r.tenant, r.job)}><span class="frame">${src ? picture(src, '') : icon('play')}</span><span class="lines"><b class="mono">${r.job}</b><span class="quiet">${r.host} · ${nodeOf(r.tenant, r.job) || 'begins'} · ${whole(now() - at(r.last.time))}</span>${progress(r.tenant, r.job)}</span></a>`;
  })}</div></section>`;
}

/** One event of the stream in a line. */
export function line(e) {
  const v = e.event;
  const time = html`<time>${clock(at(e.time))}</time>`;
  if (e.of === 'jobs') return html`<li>${time}${badge(e.kind)}<span>${jobLink(v.tenant, v.job)} <span class="quiet">${v.tenant}</span>${v.host ? html` on ${hostLink(v.host)}` : nothing} <span class="quiet">${details(e.kind, v)}</span></span></li>`;
  if (e.of === 'blocks') return html`<li>${time}${badge(e.kind)}<span>${hostLink(v.host)} <span class="mono quiet">${short(v.hash)}</span> <span class="quiet">${e.kind === 'blocked' ? `because of ${v.job}` : String(v.cause).replaceAll('_', ' ')}</span></span></li>`;
  if (e.of === 'hosts') return html`<li>${time}${badge(e.kind)}<span>${hostLink(v.host)} <span class="quiet">${v.reason ?? ''}</span></span></li>`;
  if (e.of === 'webhooks') return html`<li>${time}<span class="badge ${e.kind === 'delivered' ? 'good' : 'warn'}">${icon(e.kind === 'delivered' ? 'check' : 'triangle')}${e.kind.replaceAll('_', ' ')}</span><span><a href="#/webhooks">${v.webhook}</a> <span class="quiet">${v.type} ${v.error ?? ''}</span></span></li>`;
  return html`<li>${time}<span class="badge mute">${icon('system')}${e.kind}</span><span>${v.by ? `by ${v.by}` : ''}<span class="quiet"> ${v.count ? plural(v.count, 'object') : ''}</span></span></li>`;
}

export function render() {
  if (!facts.data) return html`${heading('Now')}<div class="card">${unready(facts, 'the fleet')}</div>`;
  const f = facts.data;
  const nothingYet = !sum(f.counts) && !store.tail.some((e) => e.of === 'jobs');
  const last = shown.list();
  return html`<h1 class="sr">Now</h1>${stale(facts)}${f.reading ? html`<p class="note" role="status">${f.reading}</p>` : nothing}
    ${figures(f)}${f.needs?.length ? needsCard(f.needs) : nothing}
    ${nothingYet ? html`<div class="card">${empty('The fleet is ready', 'Start an agent beside each ComfyUI, then submit a workflow that was exported in API format.', `COMFY_HOSTS=http://127.0.0.1:8188 ${address && address !== 'nats://127.0.0.1:4222' ? `NATS_URL=${address} ` : ''}agent`, 'dispatcher submit workflow_api.json --wait')}</div>` : nothing}
    ${runningCard()}
    <div class="cols">
      ${last.length ? html`<section class="card"><header><h2>Newest pictures</h2><a class="quiet" href="#/wall">the wall</a></header><div class="in wall">${repeat(last, (p) => p.key, (p) => html`<a class="tile" href=${toJob(p.tenant, p.job)}><span class="frame">${picture(thumbOf(p.output), `made by ${p.job}`)}</span><span class="under"><span class="mono">${p.job}</span><span>${p.host}</span></span></a>`)}</div></section>` : nothing}
      <div>${trend(f)}${store.tail.length ? html`<section class="card"><h2>Events</h2><ul class="tail">${repeat(store.tail.slice(0, 24), (e) => e.sequence, line)}</ul></section>` : nothing}</div>
    </div>`;
}
