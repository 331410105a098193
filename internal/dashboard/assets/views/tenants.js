// Tenants: what each uses of the fleet, what it is due, and what waits.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { bytes, count, percent, plural } from '../format.js';
import { empty, heading, link, stale, unready } from '../parts.js';
import { mayOperate } from '../store.js';
import { at, now, whole } from '../time.js';

let draw = () => {};

const list = new Resource(async () => {
  const [lanes, settings] = await Promise.all([all('queue', 'lanes'), settled()]);
  const found = new Map();
  const of = (name) => found.get(name) ?? found.set(name, { tenant: name, weight: 1, lanes: [], depth: 0, running: 0, oldest: 0 }).get(name);
  for (const [name, s] of Object.entries(settings)) Object.assign(of(name), s, { set: true });
  for (const l of lanes) {
    const t = of(l.tenant);
    t.lanes.push(l);
    t.depth += l.depth;
    t.running += l.running;
    if (l.depth && l.oldest) t.oldest = Math.min(t.oldest || Infinity, at(l.oldest));
  }
  const tenants = [...found.values()];
  const busy = tenants.filter((t) => t.lanes.length);
  const weights = busy.reduce((n, t) => n + (t.weight || 1), 0);
  const slots = busy.reduce((n, t) => n + t.running, 0);
  for (const t of tenants) {
    t.uses = slots ? t.running / slots : 0;
    t.due = t.lanes.length && weights ? (t.weight || 1) / weights : 0;
  }
  return tenants.sort((a, b) => b.running - a.running || b.depth - a.depth || (a.tenant < b.tenant ? -1 : 1));
}, () => draw(), 2000);

async function settled() {
  const found = {};
  let after;
  do {
    const page = await call('tenants', after ? { after } : {});
    Object.assign(found, page.tenants);
    after = page.next;
  } while (after);
  return found;
}

export const title = () => 'Tenants';

export function open(_, redraw) {
  draw = redraw;
  list.load();
}

export const resync = () => list.load();

export function changed(events) {
  if (events.some((e) => e.of === 'jobs' || (e.of === 'operator' && e.kind === 'tenants'))) list.soon();
  return false; // what is read again is drawn then
}

async function change(t) {
  let weight = String(t.weight || 1);
  let most = String(t.max_running ?? 0);
  const sure = await ask({
    title: `Settings of ${t.tenant}`, act: 'Keep them',
    text: html`<label>Weight: how much of the fleet it gets beside others <input inputmode="decimal" .value=${weight} @input=${(e) => { weight = e.target.value; }}></label>
      <label>Jobs that it runs at once; 0 is no cap <input inputmode="numeric" .value=${most} @input=${(e) => { most = e.target.value; }}></label>`,
  });
  if (!sure) return;
  await attempt(() => call('tenants', { tenant: t.tenant, weight: Number(weight), max_running: Number(most) }), `The settings of ${t.tenant} are kept.`);
  list.load();
}

function tr(t) {
  return html`<tr data-row data-key=${t.tenant} tabindex="0"><td class="lead"><b><a href=${link('jobs', { tenant: t.tenant })}>${t.tenant}</a></b></td>
    <td class="num tight" data-label="running">${count(t.running)}${t.max_running ? html` <span class="quiet">of ${t.max_running}</span>` : nothing}</td>
    <td class="num tight" data-label="waiting">${count(t.depth)}</td>
    <td class="num tight quiet" data-label="oldest">${t.oldest ? whole(now() - t.oldest) : '–'}</td>
    <td><span class="share" role="img" aria-label="uses ${percent(t.uses)} of what runs, due ${percent(t.due)}" title="uses ${percent(t.uses)} of what runs; by its weight it is due ${percent(t.due)}"><i .style=${`width:${t.uses * 100}%`}></i><i class="due" .style=${`width:${t.due * 100}%`}></i></span></td>
    <td class="tight quiet">${t.lanes.filter((l) => l.depth || l.running).map((l) => html`<span class="pill mute" title="priority ${l.priority}: ${l.depth} wait, ${l.running} run">${l.priority}: ${l.depth + l.running}</span> `)}</td>
    <td class="num tight" data-label="weight">${t.weight || 1}</td>
    <td class="num tight quiet ${t.max_unfinished || t.max_bytes ? '' : 'none'}">${[t.max_unfinished && plural(t.max_unfinished, 'job'), t.max_bytes && bytes(t.max_bytes)].filter(Boolean).join(', ')}</td>
    <td class="num tight">${mayOperate() ? html`<button class="small" @click=${() => change(t)}>Change</button>` : nothing}</td></tr>`;
}

export function render() {
  const head = heading('Tenants', nothing, html`<p>Full bar: what it uses of all that runs. Outlined bar: what its weight gives it beside those who have jobs now.</p>`);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'the tenants')}</div>`;
  return html`${head}${stale(list)}<section class="card">${list.data.length ? html`<div class="scroll"><table class="list"><thead><tr><th>Tenant</th><th class="num">Running</th><th class="num">Waiting</th><th class="num">Oldest</th><th>Share</th><th>By priority</th><th class="num">Weight</th><th class="num">Quota</th><th></th></tr></thead><tbody>${repeat(list.data, (t) => t.tenant, tr)}</tbody></table></div>`
    : empty('No tenant has jobs or settings', 'Every name is a tenant as soon as it submits a job; all have weight 1 and no cap until you say otherwise.', 'dispatcher tenants set acme --weight 2')}</section>`;
}
