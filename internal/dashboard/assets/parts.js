// Pieces that several views use.
import { html, nothing } from './vendor/lit-html/lit-html.js';
import { icon, plural, short } from './format.js';
import { ago, at, duration, full } from './time.js';
import { done, keyOf, store } from './store.js';
import { announce } from './dialog.js';
import { thumbFor } from './thumbs.js';

/** Where a view is: the address of this page behind #. */
export function link(path, query = {}) {
  const params = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== '' && v !== undefined && v !== null));
  const text = params.toString();
  return `#/${path}${text ? `?${text}` : ''}`;
}

const pair = (tenant, job) => `${encodeURIComponent(tenant)}/${encodeURIComponent(job)}`;

/** Where a job is shown. */
export const toJob = (tenant, job) => link(`job/${pair(tenant, job)}`);
export const jobLink = (tenant, job) => html`<a class="mono job" href=${toJob(tenant, job)} title="${tenant}/${job}">${job}</a>`;
export const hostLink = (host) => (host ? html`<a href=${link(`hosts/${encodeURIComponent(host)}`)}>${host}</a>` : html`<span class="quiet">–</span>`);
export const hashChip = (hash, title = store.titles.get(hash)) => (hash
  ? html`<a class="hash mono" href=${link(`workflow/${hash}`)} title="Workflow ${hash}">${title ? html`<b>${title}</b> ` : nothing}${short(hash)}</a>`
  : html`<span class="quiet">–</span>`);
export const age = (time) => (time ? html`<time title=${full(time)}>${ago(time)}</time>` : nothing);

/** The headline of a view, with what stands beside it. */
export const heading = (title, beside = nothing, below = nothing) => html`<header class="head"><div><h1>${title}</h1>${below}</div><div class="beside">${beside}</div></header>`;

/** A command that can be copied. */
export const command = (text) => html`<span class="command"><code>${text}</code><button class="plain small" title="Copy" aria-label="Copy the command ${text}" @click=${(e) => copy(text, e.currentTarget)}>${icon('copy')}</button></span>`;

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    announce('Copied.');
  } catch {
    const range = document.createRange(); // without https a page may not write to the clipboard: the text is selected instead
    const code = button?.parentElement?.querySelector('code');
    if (code) {
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      announce('Selected: press Ctrl-C to copy.');
    }
  }
}

/** What stands where there is nothing yet, with the next command. */
export const empty = (title, text, ...commands) => html`<div class="empty"><h2>${title}</h2><p>${text}</p>${commands.map((c) => html`<p>${command(c)}</p>`)}</div>`;

/** For how long events are kept, in words behind others. */
export const kept = () => (store.kept ? `, for ${Math.round(duration(store.kept) / 3600000)} h` : '');

/** The error of a resource, or a placeholder while it is read for the first time. */
export function unready(resource, what) {
  if (resource.error) return html`<div class="note bad" role="alert">${resource.error.message}</div>`;
  return html`<div class="ghost" aria-busy="true"><span class="sr">Reading ${what}…</span><i></i><i></i><i></i></div>`;
}

/** An error above data that was read before it. */
export const stale = (resource) => (resource.error ? html`<div class="note warn" role="status">${resource.error.message} Below is what was read before.</div>` : nothing);

/** How far a running job is: a bar, and the node in words. */
export function progress(tenant, job) {
  const live = store.running.get(keyOf(tenant, job));
  const share = done(live?.progress);
  if (share === null) return html`<span class="bar unknown" role="progressbar" aria-label="progress of ${job} is not known"><i></i></span>`;
  const text = `${Math.round(share * 100)} %`;
  return html`<span class="bar" role="progressbar" aria-valuenow=${Math.round(share * 100)} aria-label="progress of ${job}" title="${live.progress.class_type ?? ''} ${text}"><i .style=${`width:${share * 100}%`}></i></span>`;
}

export const nodeOf = (tenant, job) => store.running.get(keyOf(tenant, job))?.progress?.class_type ?? '';

/** The address of a running job's last preview; empty when there is none. */
export function previewOf(tenant, job) {
  const live = store.running.get(keyOf(tenant, job));
  return live?.previews ? `preview/${pair(tenant, job)}?n=${live.previews}` : '';
}

export const fileOf = (object, download = false) => `files/${object.split('/').map(encodeURIComponent).join('/')}${download ? '?download' : ''}`;

/** The small picture of an output, which is the whole one when the agent has made none. */
export const thumbOf = (o) => fileOf(o.thumb || o.object);

/** A picture that leaves an empty frame when it was removed already. */
export const picture = (src, alt) => html`<img src=${src} alt=${alt} loading="lazy" decoding="async" @error=${(e) => e.currentTarget.classList.add('gone')} @load=${(e) => e.currentTarget.classList.remove('gone')}>`;

/** A tile with a number. */
export const figure = (label, value, below, to, tone = '') => html`<a class="figure ${tone}" href=${to ?? nothing}><span class="label">${label}</span><strong>${value}</strong><span class="below">${below || html`&nbsp;`}</span></a>`;

/** The preview of a running job, or the small picture of a completed one. */
export function shot(row) {
  const thumb = thumbFor(row);
  const src = row.state === 'started' ? previewOf(row.tenant, row.job) : thumb && fileOf(thumb);
  return src ? html`<a class="frame mini" href=${toJob(row.tenant, row.job)} tabindex="-1" aria-hidden="true">${picture(src, '')}</a>` : nothing;
}

/** The attempt, and how many count before the job is dead; those that a host was to blame for do not count, so there may be more. */
export function nth(row) {
  const most = row.max_attempts ?? store.most.get(keyOf(row.tenant, row.job));
  return html` <span class="quiet" title="attempt ${row.attempt}${most ? `, of ${most} that count` : ''}">${row.attempt}${row.attempt <= most ? `/${most}` : ''}</span>`;
}

/** What counts against a pair that is not blocked. */
export const strikes = (s) => html`<span class="pill ${s.probation ? 'block' : 'warn'}">${s.failures ? plural(s.failures, 'failure') : s.level ? plural(s.level, 'earlier block') : 'suspicion'}</span> <span class="quiet">${at(s.last) ? html`the last ${age(at(s.last))}` : nothing}${s.probation ? '; on probation: one job at a time until one succeeds' : ''}</span>`;
