// Now: what runs, what waits, what needs a person, and the newest pictures.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { badge, count, details, icon, plural } from '../format.js';
import { command, empty, figure, heading, hostLink, jobLink, link, nodeOf, picture, previewOf, progress, stale, thumbOf, unready } from '../parts.js';
import { keyOf, store } from '../store.js';
import { at, clock, now, whole } from '../time.js';
import { needs } from './needs.js';
import { Pictures } from './pictures.js';

let draw = () => {};
const shown = new Pictures(() => draw(), 12);
const running = new Map(); // jobs that run, by tenant/job

const facts = new Resource(async () => {
  const tenant = store.role === 'tenant';
  const [jobs, started, lanes, hosts, blocks] = await Promise.all([
    call('jobs', { limit: 1 }),
    call('jobs', { state: 'started', limit: 100 }),
    all('queue', 'lanes'),
    tenant ? null : all('hosts', 'hosts'),
    tenant ? null : all('blocks', 'blocks', {}, 2000),
  ]);
  running.clear();
  for (const row of started.jobs) running.set(keyOf(row.tenant, row.job), row);
  return { counts: jobs.counts ?? {}, since: jobs.since, lanes, hosts, blocks };
}, () => draw(), 2000);

const recent = []; // times of ends that came while the page is open

export const title = () => 'Now';

export function open(_, redraw) {
  draw = redraw;
  facts.load();
  shown.load({});
}

export function resync() {
  facts.load();
  shown.load({});
}

export function changed(events) {
  for (const e of events) {
    if (e.of !== 'jobs') continue;
    const key = keyOf(e.event.tenant, e.event.job);
    if (e.kind === 'started') running.set(key, { ...e.event, state: 'started', last: { time: e.time } });
    else if (e.kind !== 'queued' && e.kind !== 'waiting') running.delete(key);
    if (e.kind === 'completed') recent.push(at(e.time));
  }
  shown.changed(events);
  facts.soon();
}

function figures(f) {
  const slots = f.hosts?.reduce((n, h) => n + (h.state === 'online' ? h.slots : 0), 0);
  const waiting = f.lanes.reduce((n, l) => n + l.depth, 0);
  const oldest = Math.min(...f.lanes.filter((l) => l.depth && l.oldest).map((l) => at(l.oldest)), Infinity);
  const minute = recent.filter((t) => t > now() - 60000).length;
  const online = f.hosts?.filter((h) => h.state === 'online').length;
  return html`<div class="figures">
    ${figure('Running', html`${count(running.size)}${slots ? html` <small>of ${plural(slots, 'slot')}</small>` : nothing}`, '', link('jobs', { state: 'started' }), running.size ? 'run' : '')}
    ${figure('Waiting', count(waiting), waiting && oldest < Infinity ? `oldest ${whole(now() - oldest)}` : 'nothing waits', link('jobs', { state: 'waiting' }), waiting ? 'wait' : '')}
    ${figure('Completed', count(f.counts.completed), `${count(minute)} in the last minute`, link('jobs', { state: 'completed' }))}
    ${figure('Dead', count(f.counts.dead), f.counts.dead ? 'look at why' : 'none', link('dead'), f.counts.dead ? 'bad' : '')}
    ${f.hosts ? figure('Hosts', html`${count(online)} <small>online</small>`, f.hosts.length > online ? `${plural(f.hosts.length - online, 'other')}` : 'all of them', link('hosts')) : nothing}
    ${f.blocks ? figure('Blocked pairs', count(f.blocks.length), f.blocks.length ? 'of host and workflow' : 'nothing is blocked', link('blocks'), f.blocks.length ? 'block' : '') : nothing}
  </div>`;
}

function needed(f) {
  const list = needs(f);
  if (!list.length) return nothing;
  return html`<section class="card"><h2>Needs you</h2><ul class="needs">${list.map((n) => html`<li class=${n.tone}>${icon(n.shape)}<span>${n.text}</span>${n.to ? html`<a class="pill" href=${n.to}>${n.act}</a>` : nothing}${n.command ? command(n.command) : nothing}</li>`)}</ul></section>`;
}

function runningCard() {
  const rows = [...running.values()].sort((a, b) => at(a.last.time) - at(b.last.time));
  if (!rows.length) return nothing;
  return html`<section class="card"><header><h2>Running</h2><a class="quiet" href=${link('jobs', { state: 'started' })}>all</a></header><div class="in runs">${repeat(rows.slice(0, 12), (r) => keyOf(r.tenant, r.job), (r) => {
    const src = previewOf(r.tenant, r.job);
    return html`<a href=${link(`job/${encodeURIComponent(r.tenant)}/${encodeURIComponent(r.job)}`)}><span class="frame">${src ? picture(src, '') : icon('play')}</span><span><b class="mono">${r.job}</b><br><span class="quiet">${nodeOf(r.tenant, r.job) || r.tenant} · ${r.host} · ${whole(now() - at(r.last.time))}</span><br>${progress(r.tenant, r.job)}</span></a>`;
  })}</div></section>`;
}


/** One event of the stream in a line. */
export function line(e) {
  const v = e.event;
  if (e.of === 'jobs') return html`<li><time>${clock(at(e.time))}</time>${badge(e.kind)}<span>${jobLink(v.tenant, v.job)} <span class="quiet">${v.tenant}</span>${v.host ? html` on ${hostLink(v.host)}` : nothing} <span class="quiet">${details(e.kind, v)}</span></span></li>`;
  if (e.of === 'blocks') return html`<li><time>${clock(at(e.time))}</time>${badge(e.kind)}<span>${hostLink(v.host)} <span class="mono quiet">${String(v.hash).slice(0, 8)}</span> <span class="quiet">${e.kind === 'blocked' ? `because of ${v.job}` : String(v.cause).replaceAll('_', ' ')}</span></span></li>`;
  if (e.of === 'hosts') return html`<li><time>${clock(at(e.time))}</time>${badge(e.kind)}<span>${hostLink(v.host)} <span class="quiet">${v.reason ?? ''}</span></span></li>`;
  return html`<li><time>${clock(at(e.time))}</time><span class="badge mute">${icon('system')}${e.kind}</span><span>${v.by ? `by ${v.by}` : ''}<span class="quiet"> ${v.count ? plural(v.count, 'object') : ''}</span></span></li>`;
}

export function render() {
  if (!facts.data) return html`${heading('Now')}<div class="card">${unready(facts, 'the fleet')}</div>`;
  const f = facts.data;
  const nothingYet = !Object.values(f.counts).some((n) => n > 0) && !store.tail.length;
  const last = shown.list();
  return html`<h1 class="sr">Now</h1>${stale(facts)}${figures(f)}${needed(f)}
    ${nothingYet ? html`<div class="card">${empty('The fleet is ready', 'Start an agent beside each ComfyUI, then submit a workflow that was exported in API format.', 'COMFY_HOSTS=http://127.0.0.1:8188 agent', 'dispatcher submit workflow_api.json --wait')}</div>` : nothing}
    ${runningCard()}
    <div class="cols">
      ${last.length ? html`<section class="card"><header><h2>Newest pictures</h2><a class="quiet" href="#/wall">the wall</a></header><div class="in wall">${repeat(last, (p) => p.key, (p) => html`<a class="tile" href=${link(`job/${encodeURIComponent(p.tenant)}/${encodeURIComponent(p.job)}`)}><span class="frame">${picture(thumbOf(p.output), `made by ${p.job}`)}</span><span class="under"><span class="mono">${p.job}</span><span>${p.host}</span></span></a>`)}</div></section>` : nothing}
      ${store.tail.length ? html`<section class="card"><h2>Events</h2><div class="in"></div><ul class="tail">${repeat(store.tail.slice(0, 30), (e) => e.sequence, line)}</ul></section>` : nothing}
    </div>`;
}

