// Webhooks: where events are sent, how each try went, and what is still to be delivered.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all, call, Resource } from '../api.js';
import { ask, attempt } from '../dialog.js';
import { count, icon, plural, spaces } from '../format.js';
import { age, empty, heading, jobLink, link, stale, unready } from '../parts.js';
import { mayAct, mayOperate } from '../store.js';
import { at, clock, left, now } from '../time.js';

let draw = () => {};

const list = new Resource(() => all('webhooks', 'webhooks', { tries: 10 }), () => draw(), 700);

export const title = () => 'Webhooks';

export function open(_, redraw) {
  draw = redraw;
  list.load();
}

export const resync = () => list.load();

export function changed(events) {
  if (events.some((e) => e.of === 'webhooks' || (e.of === 'operator' && e.kind.startsWith('webhooks')))) list.soon();
  return false; // what is read again is drawn then
}

const one = (w) => ({ tenant: w.tenant, name: w.name });

async function test(w) {
  await attempt(() => call('webhooks.test', one(w)), 'The test is on its way; its try appears below.');
  list.soon();
}

async function redeliver(w) {
  let since = '1h';
  const sure = await ask({
    title: `Deliver again to ${w.name}?`, act: 'Deliver again',
    text: html`<p>Events that were not delivered since then are sent again, each with the same webhook-id as before.</p><label>Since how long <input autocomplete="off" .value=${since} @input=${(e) => { since = e.target.value; }}></label>`,
  });
  if (!sure) return;
  let events = 0;
  await attempt(async () => {
    for (let after; ;) {
      const page = await call('webhooks.redeliver', { ...one(w), since, ...(after ? { after } : {}) });
      events += page.count;
      if (!page.next) return;
      after = page.next;
    }
  }, () => `${plural(events, 'event')} will be delivered.`);
  list.soon();
}

async function disable(w) {
  const sure = await ask({ title: `Send nothing more to ${w.name}?`, act: 'Disable', danger: true, text: html`<p>Events are kept for it no longer. dispatcher webhooks set lets it receive events again.</p>` });
  if (sure) await attempt(() => call('webhooks.set', { ...one(w), disable: true }), `${w.name} is disabled.`);
  list.soon();
}

const good = (t) => t.outcome === 'delivered';

function tries(w) {
  if (!w.tries?.length) return html`<p class="in quiet">Nothing was sent to it yet.</p>`;
  return html`<div class="scroll"><table class="list"><thead><tr><th>Try</th><th>Event</th><th>Job</th><th>Answer</th><th class="num">Took</th><th class="num">Again</th><th class="num">When</th></tr></thead><tbody>${w.tries.map((t) => html`<tr><td class="tight"><span class="badge ${good(t) ? 'good' : 'warn'}">${icon(good(t) ? 'check' : 'triangle')}${spaces(t.outcome)}</span></td><td class="tight lead">${t.type}</td><td class="tight ${t.job ? '' : 'none'}">${t.job && w.tenant !== '*' ? jobLink(w.tenant, t.job) : t.job ?? nothing}</td><td class="clip"><span class="quiet" title=${t.error ?? ''}>${t.status || ''} ${t.error ?? ''}</span></td><td class="num tight quiet">${t.took}</td><td class="num tight quiet ${t.next ? '' : 'none'}">${t.next && at(t.next) > now() ? `in ${left(at(t.next))}` : nothing}</td><td class="num tight quiet">${age(at(t.time))}</td></tr>`)}</tbody></table></div>`;
}

function card(w) {
  return html`<section class="card"><header><h2>${w.tenant === '*' ? 'the fleet' : html`<a href=${link('jobs', { tenant: w.tenant })}>${w.tenant}</a>`} / ${w.name} ${w.disabled ? html`<span class="pill bad">${icon('cross')}disabled ${age(at(w.disabled))}</span>` : w.pending ? html`<span class="pill wait">${icon('clock')}${count(w.pending)} to be delivered${w.oldest ? html`, the oldest ${age(at(w.oldest))}` : nothing}</span>` : html`<span class="pill good">${icon('check')}all delivered</span>`}</h2>
    <span class="row">${mayAct() ? html`<button class="small" @click=${() => test(w)}>Test</button><button class="small" @click=${() => redeliver(w)}>Deliver again</button>` : nothing}${mayOperate() && !w.disabled ? html`<button class="small" @click=${() => disable(w)}>Disable</button>` : nothing}</span></header>
    <p class="in quiet"><span class="mono">${w.url}</span> gets ${w.events.join(', ')}${w.named ? ' of jobs that name it' : ''}${w.rotated && at(w.rotated) > now() ? `; signed with two secrets until ${clock(at(w.rotated))}` : ''}${w.reason ? html`. ${w.reason}` : nothing}</p>${tries(w)}</section>`;
}

export function render() {
  const head = heading('Webhooks', nothing, html`<p>Events that are sent to other programs over HTTP, signed, until each is received.</p>`);
  if (!list.data) return html`${head}<div class="card">${unready(list, 'the webhooks')}</div>`;
  return html`${head}${stale(list)}${list.data.length ? repeat(list.data, (w) => `${w.tenant}/${w.name}`, card)
    : html`<section class="card">${empty('No webhook', 'A program is told of events when its address is set:', 'dispatcher webhooks set NAME --url https://example.com/hook')}</section>`}`;
}
