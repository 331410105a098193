// Words, numbers and signs for what the dispatchers say.
import { html, svg } from './vendor/lit-html/lit-html.js';

const number = new Intl.NumberFormat('en');
export const count = (n) => number.format(n ?? 0);
export const percent = (x) => `${Math.round((x ?? 0) * 100)} %`;
export const spaces = (text) => String(text ?? '').replaceAll('_', ' ');
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const short = (hash) => String(hash ?? '').slice(0, 8);

/** Bytes as people write them. */
export function bytes(n) {
  if (!n) return '0 B';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const i = Math.min(units.length - 1, Math.floor(Math.log2(n) / 10));
  const value = n / 2 ** (10 * i);
  return `${value >= 100 || i === 0 ? Math.round(value) : value.toFixed(1)} ${units[i]}`;
}

/** The states of jobs, hosts and pairs: each has a word, a shape and a colour, so that no colour is needed to tell them apart. */
export const states = {
  queued: { word: 'queued', tone: 'wait', shape: 'dots' },
  waiting: { word: 'waiting', tone: 'wait', shape: 'clock' },
  started: { word: 'running', tone: 'run', shape: 'play' },
  failed: { word: 'failed', tone: 'warn', shape: 'triangle' },
  retrying: { word: 'retrying', tone: 'warn', shape: 'again' },
  completed: { word: 'completed', tone: 'good', shape: 'check' },
  dead: { word: 'dead', tone: 'bad', shape: 'cross' },
  cancelled: { word: 'cancelled', tone: 'mute', shape: 'minus' },
  online: { word: 'online', tone: 'good', shape: 'dot' },
  recovered: { word: 'recovered', tone: 'good', shape: 'dot' },
  draining: { word: 'draining', tone: 'wait', shape: 'half' },
  unhealthy: { word: 'unhealthy', tone: 'bad', shape: 'triangle' },
  offline: { word: 'offline', tone: 'mute', shape: 'ring' },
  blocked: { word: 'blocked', tone: 'block', shape: 'bar' },
  unblocked: { word: 'unblocked', tone: 'good', shape: 'ring' },
};

const shapes = {
  dots: svg`<circle cx="8" cy="8" r="5.6" stroke-dasharray="2.2 2.2"/>`,
  clock: svg`<circle cx="8" cy="8" r="5.6"/><path d="M8 4.8V8l2.2 1.6"/>`,
  play: svg`<circle cx="8" cy="8" r="5.6"/><path d="M6.8 5.7v4.6L10.4 8z" fill="currentColor"/>`,
  triangle: svg`<path d="M8 2.6 14 13H2z"/><path d="M8 6.4v3M8 11.2v.1"/>`,
  again: svg`<path d="M12.9 6.2A5.3 5.3 0 1 0 13.3 9"/><path d="M13.4 3v3.4H10"/>`,
  check: svg`<circle cx="8" cy="8" r="5.6"/><path d="m5.5 8.2 1.8 1.8 3.3-3.8"/>`,
  cross: svg`<path d="M5.6 2.4h4.8l3.2 3.2v4.8l-3.2 3.2H5.6l-3.2-3.2V5.6z"/><path d="m6.1 6.1 3.8 3.8m0-3.8-3.8 3.8"/>`,
  minus: svg`<circle cx="8" cy="8" r="5.6"/><path d="M5.4 8h5.2"/>`,
  dot: svg`<circle cx="8" cy="8" r="4.4" fill="currentColor"/>`,
  half: svg`<circle cx="8" cy="8" r="5"/><path d="M3 8a5 5 0 0 0 10 0z" fill="currentColor"/>`,
  ring: svg`<circle cx="8" cy="8" r="4.6"/>`,
  bar: svg`<rect x="2.6" y="2.6" width="10.8" height="10.8" rx="2.4"/><path d="m4.8 11.2 6.4-6.4"/>`,
};

/** A shape of 16 × 16, drawn in the colour of the text. */
export const icon = (shape) => html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">${shapes[shape] ?? pictures[shape]}</svg>`;

const pictures = {
  now: svg`<path d="M2 9h3l2-5 3 9 2-4h2"/>`,
  jobs: svg`<path d="M5.5 4H14M5.5 8H14M5.5 12H14M2 4h.5M2 8h.5M2 12h.5"/>`,
  hosts: svg`<rect x="2" y="2.8" width="12" height="4.4" rx="1.2"/><rect x="2" y="8.8" width="12" height="4.4" rx="1.2"/><path d="M4.6 5h.1M4.6 11h.1"/>`,
  blocks: svg`<path d="M2.5 2.5h4v4h-4zM9.5 2.5h4v4h-4zM2.5 9.5h4v4h-4z"/><path d="M9.5 9.5h4v4h-4z" fill="currentColor"/>`,
  workflows: svg`<circle cx="3.6" cy="8" r="1.8"/><circle cx="12.4" cy="3.8" r="1.8"/><circle cx="12.4" cy="12.2" r="1.8"/><path d="M5.4 8c3 0 2.4-4.2 5.2-4.2M5.4 8c3 0 2.4 4.2 5.2 4.2"/>`,
  tenants: svg`<circle cx="6" cy="5.4" r="2.4"/><path d="M1.8 13c.4-2.6 2-4 4.2-4s3.8 1.4 4.2 4"/><path d="M10.4 3.3a2.2 2.2 0 0 1 0 4.2M11.8 9.5c1.4.5 2.2 1.7 2.4 3.5"/>`,
  dead: svg`<path d="M5.6 2.4h4.8l3.2 3.2v4.8l-3.2 3.2H5.6l-3.2-3.2V5.6z"/><path d="m6.1 6.1 3.8 3.8m0-3.8-3.8 3.8"/>`,
  wall: svg`<rect x="2" y="2.8" width="12" height="10.4" rx="1.4"/><path d="m2.6 11.6 3.4-3.8 2.6 2.8 2-2 3 3"/><circle cx="10.8" cy="5.9" r=".9"/>`,
  system: svg`<path d="M2 4.5h12M2 8h12M2 11.5h12"/><circle cx="5.5" cy="4.5" r="1.5" fill="var(--card)"/><circle cx="10.5" cy="8" r="1.5" fill="var(--card)"/><circle cx="7" cy="11.5" r="1.5" fill="var(--card)"/>`,
  more: svg`<path d="M3.5 8h.1M8 8h.1M12.5 8h.1" stroke-width="2.2"/>`,
  down: svg`<path d="M8 2.5v7.6M4.8 7.2 8 10.4l3.2-3.2M3 13.2h10"/>`,
  copy: svg`<rect x="5.5" y="5.5" width="8" height="8" rx="1.6"/><path d="M10.5 5.5V3.9c0-.8-.6-1.4-1.4-1.4H3.9c-.8 0-1.4.6-1.4 1.4v5.2c0 .8.6 1.4 1.4 1.4h1.6"/>`,
  search: svg`<circle cx="7" cy="7" r="4.4"/><path d="m10.4 10.4 3.2 3.2"/>`,
  sun: svg`<circle cx="8" cy="8" r="3"/><path d="M8 1.5v1.4M8 13.1v1.4M1.5 8h1.4M13.1 8h1.4M3.4 3.4l1 1M11.6 11.6l1 1M12.6 3.4l-1 1M4.4 11.6l-1 1"/>`,
};

/** A state as shape and word. */
export function badge(state) {
  const known = states[state] ?? { word: spaces(state), tone: 'mute', shape: 'ring' };
  return html`<span class="badge ${known.tone}">${icon(known.shape)}${known.word}</span>`;
}

/** Why a job waits, in words. */
export const holds = {
  none_capable: 'no host can run it', all_blocked: 'every host that can run it is blocked', excluded: 'every host that can run it is excluded',
  over_cap: 'its tenant runs as many as it may', not_due: 'it is not due yet', hosts_down: 'two hosts went down with jobs of this tenant',
  other_tenants: 'hosts that can run it serve other tenants',
};

/** What an event says besides its kind, in a few words. */
export function details(kind, e) {
  switch (kind) {
    case 'waiting': return holds[e.reason] ?? spaces(e.reason);
    case 'failed': return [e.exception_type, e.class_type && `in ${e.class_type}`].filter(Boolean).join(' ') || spaces(e.kind);
    case 'retrying': return e.avoided_hosts?.length ? `avoiding ${e.avoided_hosts.join(', ')}` : `attempt ${e.attempt}`;
    case 'started': return e.attempt > 1 ? `attempt ${e.attempt}` : '';
    case 'completed': return e.message ?? '';
    case 'dead': return [spaces(e.reason), spaces(e.kind)].filter(Boolean).join(': ');
    case 'cancelled': return e.by ? `by ${e.by}` : '';
    default: return '';
  }
}
