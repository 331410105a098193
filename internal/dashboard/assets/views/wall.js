// Wall: the newest pictures, and what runs at this moment.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { keep, setting } from '../api.js';
import { attempt } from '../dialog.js';
import { icon, short } from '../format.js';
import { isVideo } from '../media.js';
import { age, empty, heading, link, nodeOf, picture, previewOf, progress, thumbOf, toJob, fileOf, unready } from '../parts.js';
import { keyOf, store } from '../store.js';
import { at, full, now, whole } from '../time.js';
import { Pictures } from './pictures.js';
import { Running } from './running.js';

let draw = () => {};
let tenant = '';
const shown = new Pictures(() => draw(), 60);
const running = new Running();
const seen = new Set(); // tenants

export const live = true; // it shows progress
export const title = () => 'Wall';

export function open(route, redraw) {
  draw = redraw;
  tenant = route.query.get('tenant') ?? '';
  resync();
}

export function resync() {
  shown.load(tenant ? { tenant } : {});
  running.reset();
  running.load(tenant ? { tenant } : {}).then(() => draw(), () => {}); // the pictures show the error
}

export function changed(events) {
  running.changed(events, tenant);
  shown.changed(events);
}

function runs(r) {
  const src = previewOf(r.tenant, r.job);
  return html`<a class="tile" href=${toJob(r.tenant, r.job)} title="${r.job} of ${r.tenant} · ${store.titles.get(r.hash) ?? short(r.hash)} · ${r.host}"><span class="frame">${src ? picture(src, `preview of ${r.job}`) : icon('play')}<span class="now"><span>${nodeOf(r.tenant, r.job) || 'begins'} · ${whole(now() - at(r.last.time))}</span>${progress(r.tenant, r.job)}</span></span><span class="under"><span class="mono">${r.job}</span><span>${r.host}</span></span></a>`;
}

const still = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
const play = (e) => !still() && e.currentTarget.querySelector('video')?.play();
const rest = (e) => e.currentTarget.querySelector('video')?.pause();

/** A picture, or a video that plays while the pointer or the focus is on it. */
function tile(p) {
  const media = isVideo(p.output)
    ? html`<video src=${fileOf(p.output.object)} poster=${p.output.thumb ? fileOf(p.output.thumb) : nothing} muted loop playsinline preload=${p.output.thumb ? 'none' : 'metadata'}></video><span class="media-icon">${icon('play')}</span>`
    : picture(thumbOf(p.output), `made by ${p.job} on ${p.host}`);
  const workflow = store.titles.get(p.hash) || short(p.hash);
  return html`<div class="tile"><a class="frame" href=${toJob(p.tenant, p.job)} aria-label="${isVideo(p.output) ? 'video' : 'picture'} of job ${p.job}" title="${p.job} of ${p.tenant} · ${workflow} · ${p.host} · ${full(at(p.time))}${p.ran ? ` · ran for ${p.ran}` : ''}" @mouseenter=${play} @mouseleave=${rest} @focus=${play} @blur=${rest}>${media}</a>
    <span class="under"><span class="mono">${p.job}</span><span>${age(at(p.time))}</span></span><span class="under"><a class="quiet" href=${link(`workflow/${p.hash}`)} title="More of this workflow">${workflow}</a><a href=${fileOf(p.output.object, true)} title="Download the original" aria-label="Download the original of ${p.job}">${icon('down')}</a></span></div>`;
}

/** The tenants whose pictures are here, with those of the filter. */
function tenants(list) {
  if (store.role === 'tenant') return nothing;
  for (const p of [...list, ...running.list()]) seen.add(p.tenant);
  if (tenant) seen.add(tenant);
  if (seen.size < 2) return nothing;
  return html`<nav class="filters chips" aria-label="Tenants"><a href="#/wall" aria-current=${tenant ? nothing : 'true'}>all</a>${[...seen].sort().slice(0, 30).map((t) => html`<a href=${link('wall', { tenant: t })} aria-current=${tenant === t ? 'true' : nothing}>${t}</a>`)}</nav>`;
}

export function render() {
  const blur = setting('blur') === 'yes';
  const head = heading('Wall', html`
    <button role="switch" aria-checked=${blur} @click=${() => { keep('blur', blur ? '' : 'yes'); draw(); }}>${icon(blur ? 'dot' : 'ring')} Blur</button>
    <button @click=${() => document.getElementById('main').requestFullscreen?.()}>Full screen</button>`);
  const list = shown.found;
  if (!shown.read && !list.length) return html`${head}<div class="card">${unready(shown, 'the pictures')}</div>`;
  const chips = tenants(list);
  if (!list.length && !running.jobs.size) {
    return html`${head}${chips}${shown.error ? html`<p class="note bad">${shown.error.message}</p>` : nothing}<div class="wall grey" aria-hidden="true">${Array.from({ length: 6 }, () => html`<div class="tile"><span class="frame">${icon('wall')}</span></div>`)}</div>
      ${empty('Pictures of completed jobs appear here', 'The newest comes first, and jobs that run show their preview.', 'dispatcher submit workflow_api.json --wait')}`;
  }
  return html`${head}${chips}<div class="wall ${blur ? 'blur' : ''}">${repeat(running.list().slice(0, 24), (r) => `run ${keyOf(r.tenant, r.job)}`, runs)}${repeat(list, (p) => p.key, tile)}</div>
    ${shown.next ? html`<p class="row"><button class="later" @click=${() => attempt(() => shown.more(), '')}>Older pictures</button></p>` : nothing}`;
}
