// System: the dispatchers, what NATS stores, and what is set.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { call, CallError, Resource } from '../api.js';
import { spaces } from '../format.js';
import { age, heading, unready } from '../parts.js';
import { store } from '../store.js';
import { at, clock, now } from '../time.js';
import { line } from './now.js';

let draw = () => {};

const optional = (name) => call(name).catch((e) => {
  if (e instanceof CallError && (e.status === 404 || e.status === 503)) return { missing: e.message };
  throw e;
});

const facts = new Resource(async () => {
  const [dispatchers, settings] = await Promise.all([optional('dispatchers'), optional('settings')]);
  return { dispatchers, settings };
}, () => draw(), 5000);

export const title = () => 'System';

export function open(_, redraw) {
  draw = redraw;
  facts.load();
}

export const resync = () => facts.load();
export const changed = (events) => events.some((e) => e.of === 'operator') && facts.soon();

/** Any answer as names and values: lists of objects become tables. */
function shown(value) {
  if (Array.isArray(value) && value.length && typeof value[0] === 'object') {
    const fields = [...new Set(value.flatMap((v) => Object.keys(v)))];
    return html`<div class="scroll"><table class="list"><thead><tr>${fields.map((f) => html`<th>${spaces(f)}</th>`)}</tr></thead><tbody>${value.map((v) => html`<tr>${fields.map((f) => html`<td data-label=${spaces(f)}>${text(v[f])}</td>`)}</tr>`)}</tbody></table></div>`;
  }
  return html`<div class="in"><dl class="facts">${Object.entries(value ?? {}).map(([k, v]) => html`<dt>${spaces(k)}</dt><dd>${text(v)}</dd>`)}</dl></div>`;
}

function text(v) {
  if (v === undefined || v === null || v === '') return html`<span class="quiet">–</span>`;
  if (typeof v === 'string' && /^\d{4}-\d\d-\d\dT/.test(v)) return age(at(v));
  if (typeof v === 'object') return html`<code>${JSON.stringify(v)}</code>`;
  return String(v);
}

function card(name, answer) {
  if (!answer || answer.missing) return nothing;
  const value = answer[name.toLowerCase()] ?? answer;
  return html`<section class="card"><h2>${name}</h2>${shown(value)}</section>`;
}

export function render() {
  const acts = store.tail.filter((e) => e.of === 'operator');
  return html`${heading('System')}
    <section class="card"><h2>This page</h2><div class="in"><dl class="facts"><dt>Version</dt><dd>${store.version || '–'}</dd><dt>You</dt><dd>${store.role === 'tenant' ? `see tenant ${store.tenant}` : store.role === 'act' ? 'may look and act' : 'may look'}</dd><dt>Time of NATS</dt><dd>${clock(now())}</dd><dt>Stream</dt><dd>${store.connection}</dd></dl></div></section>
    ${facts.data ? html`${card('Dispatchers', facts.data.dispatchers)}${card('Settings', facts.data.settings)}` : html`<div class="card">${unready(facts, 'the settings')}</div>`}
    ${acts.length ? html`<section class="card"><h2>Changes by people</h2><div class="in"></div><ul class="tail">${acts.slice(0, 50).map(line)}</ul></section>` : nothing}`;
}
