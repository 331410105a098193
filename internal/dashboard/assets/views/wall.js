// Wall: the newest pictures, and what runs at this moment.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { keep, setting } from '../api.js';
import { attempt } from '../dialog.js';
import { icon } from '../format.js';
import { age, heading, isVideo, nodeOf, picture, previewOf, progress, thumbOf, toJob, fileOf, unready } from '../parts.js';
import { keyOf } from '../store.js';
import { at, whole, now } from '../time.js';
import { Pictures } from './pictures.js';
import { Running } from './running.js';

let draw = () => {};
let tenant = '';
const shown = new Pictures(() => draw(), 60);
const running = new Running();

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
  return html`<a class="tile" href=${toJob(r.tenant, r.job)}><span class="frame">${src ? picture(src, `preview of ${r.job}`) : icon('play')}<span class="now"><span>${nodeOf(r.tenant, r.job) || 'begins'} · ${whole(now() - at(r.last.time))}</span>${progress(r.tenant, r.job)}</span></span><span class="under"><span class="mono">${r.job}</span><span>${r.host}</span></span></a>`;
}

function tile(p) {
  const media = isVideo(p.output)
    ? html`<video src=${fileOf(p.output.object)} poster=${p.output.thumb ? fileOf(p.output.thumb) : nothing} muted loop preload=${p.output.thumb ? 'none' : 'metadata'} @mouseenter=${(e) => e.currentTarget.play()} @mouseleave=${(e) => e.currentTarget.pause()}></video>`
    : picture(thumbOf(p.output), `made by ${p.job} on ${p.host}`);
  return html`<a class="tile" href=${toJob(p.tenant, p.job)} title="${p.tenant} · ${p.job} · ${p.host}"><span class="frame">${media}</span><span class="under"><span class="mono">${p.job}</span><span>${age(at(p.time))}</span></span></a>`;
}

export function render() {
  const blur = setting('blur') === 'yes';
  const head = heading('Wall', html`
    ${tenant ? html`<a class="pill" href="#/wall">${tenant} ×</a>` : nothing}
    <button aria-pressed=${blur} @click=${() => { keep('blur', blur ? '' : 'yes'); draw(); }}>${blur ? 'Show' : 'Blur'}</button>
    <button @click=${() => document.getElementById('main').requestFullscreen?.()}>Full screen</button>`);
  const list = shown.found;
  if (!shown.read && !list.length) return html`${head}<div class="card">${unready(shown, 'the pictures')}</div>`;
  if (!list.length && !running.jobs.size) {
    return html`${head}${shown.error ? html`<p class="note bad">${shown.error.message}</p>` : nothing}<div class="card"><div class="empty"><h2>Pictures of finished jobs will hang here</h2><p>The newest comes first, and jobs that run show their preview.</p></div></div>`;
  }
  return html`${head}<div class="wall ${blur ? 'blur' : ''}">${repeat(running.list().slice(0, 24), (r) => `run ${keyOf(r.tenant, r.job)}`, runs)}${repeat(list, (p) => p.key, tile)}</div>
    ${shown.next ? html`<p class="row"><button class="later" @click=${() => attempt(() => shown.more(), '')}>Older pictures</button></p>` : nothing}`;
}
