// Tenants: what each uses of the fleet, what it is due, and what waits.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { bytes, count, icon, percent, plural } from '../format.js';
import { empty, heading, link, stale, unready } from '../parts.js';
import { mayOperate } from '../store.js';
import { at, duration, now, span, whole } from '../time.js';

let draw = () => {};

const list = new Resource(async () => {
  let most = 0;
  const queue = async () => {
    const rows = [];
    for (let after; ;) {
      const page = await call('queue', after ? { after } : {});
      rows.push(...page.lanes);
      most = page.most ?? 0;
      if (!page.next) return rows;
      after = page.next;
    }
  };
  const [lanes, settings, overview] = await Promise.all([queue(), settled(), call('overview')]);
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
  for (const t of overview.tenants ?? []) Object.assign(of(t.tenant), { share: t.share, gpu: t.gpu_seconds, p95: duration(t.wait_p95), dead: t.dead, fair: t.due, weight: t.weight });
  const tenants = [...found.values()];
  const busy = tenants.filter((t) => t.lanes.length);
  const weights = busy.reduce((n, t) => n + (t.weight || 1), 0);
  const slots = busy.reduce((n, t) => n + t.running, 0);
  for (const t of tenants) {
    t.uses = t.share ?? (slots ? t.running / slots : 0);
    t.due = t.fair ?? (t.lanes.length && weights ? (t.weight || 1) / weights : 0);
    t.fill = most ? Math.max(0, ...t.lanes.map((l) => (l.depth + l.running) / most)) : 0;
    t.most = most;
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

const priorities = 10;

/** What waits at each priority, 0 to 9, as bars of which the highest is the longest queue. */
function bars(t) {
  const depth = Array(priorities).fill(0);
  for (const l of t.lanes) depth[l.priority] += l.depth;
  const most = Math.max(1, ...depth);
  const said = depth.map((n, p) => n && `${count(n)} at priority ${p}`).filter(Boolean).reverse().join(', ') || 'nothing waits';
  return html`<span class="lanes" role="img" aria-label=${said} title=${said}>${depth.map((n) => html`<i class=${n ? 'on' : ''} .style=${`height:${n ? Math.max(12, (100 * n) / most) : 6}%`}></i>`)}</span>`;
}

function tr(t) {
  return html`<tr data-row data-key=${t.tenant} tabindex="0"><td class="lead"><b><a href=${link('jobs', { tenant: t.tenant })}>${t.tenant}</a></b></td>
    <td class="num tight" data-label="running">${count(t.running)}${t.max_running ? html` <span class="quiet">of ${t.max_running}</span>` : nothing}</td>
    <td class="num tight" data-label="waiting">${count(t.depth)}${t.oldest ? html` <span class="quiet" title="how long the oldest has waited">for ${whole(now() - t.oldest)}</span>` : nothing}</td>
    <td><span class="share" role="img" aria-label="used ${percent(t.uses)} of the fleet lately, due ${percent(t.due)}" title="used ${percent(t.uses)} of the fleet's time lately; by its weight it is due ${percent(t.due)}"><i .style=${`width:${t.uses * 100}%`}></i><i class="due" .style=${`width:${t.due * 100}%`}></i></span></td>
    <td class="tight ${t.depth ? '' : 'none'}">${bars(t)}</td>
    <td class="num tight" data-label="GPU time">${t.gpu ? whole(t.gpu * 1000) : html`<span class="quiet">–</span>`}</td>
    <td class="num tight quiet" data-label="95 % wait">${t.p95 ? span(t.p95) : '–'}</td>
    <td class="num tight ${t.dead ? '' : 'none'}" data-label="dead">${t.dead ? html`<a class="pill bad" href=${link('dead', { tenant: t.tenant })}>${icon('cross')}${count(t.dead)}</a>` : nothing}</td>
    <td class="num tight" data-label="weight">${t.weight || 1}</td>
    <td class="num tight quiet ${t.fill >= 0.005 || t.max_unfinished || t.max_bytes ? '' : 'none'}">${t.fill >= 0.005 ? html`<span class="bar ${t.fill > 0.8 ? 'full' : ''}" title="its fullest lane has ${percent(t.fill)} of the ${count(t.most)} jobs that it may have"><i .style=${`width:${100 * t.fill}%`}></i></span> lane ${percent(t.fill)} full ` : nothing}${[t.max_unfinished && plural(t.max_unfinished, 'job'), t.max_bytes && bytes(t.max_bytes)].filter(Boolean).join(', ')}</td>
    <td class="num tight">${mayOperate() ? html`<button class="small" @click=${() => change(t)}>Change</button>` : nothing}</td></tr>`;
}

export function render() {
  const head = heading('Tenants', nothing, html`<p>Full bar: what it used of the fleet lately. Outlined bar: what its weight gives it beside those who have jobs now. GPU time is that of the last 24 h, waits those of the last hour.</p>`);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'the tenants')}</div>`;
  return html`${head}${stale(list)}<section class="card">${list.data.length ? html`<div class="scroll"><table class="list dense"><thead><tr><th>Tenant</th><th class="num">Running</th><th class="num">Waiting</th><th>Share</th><th title="What waits at priorities 0 to 9">Priorities</th><th class="num">GPU time</th><th class="num">95 % wait</th><th class="num">Dead</th><th class="num">Weight</th><th class="num" title="How full the fullest of its lanes is, and what it may have">Limits</th><th></th></tr></thead><tbody>${repeat(list.data, (t) => t.tenant, tr)}</tbody></table></div>`
    : empty('No tenant has jobs or settings', 'Every name is a tenant as soon as it submits a job; all have weight 1 and no cap until you say otherwise.', 'dispatcher tenants set acme --weight 2')}</section>`;
}
