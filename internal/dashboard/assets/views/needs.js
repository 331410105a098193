// What needs a person, as the dispatchers say it: each rule has a shape, and a view that shows more.
import { html } from '../vendor/lit-html/lit-html.js';
import { icon } from '../format.js';
import { command, link } from '../parts.js';

const rules = {
  no_hosts: ['bad', 'triangle', () => link('hosts')],
  jobs_wait_long: ['wait', 'clock', (n) => link('waiting', { tenant: n.tenant })],
  tenant_starved: ['wait', 'half', () => link('tenants')],
  no_host_can_run: ['warn', 'minus', () => link('jobs', { state: 'waiting', reason: 'none_capable' })],
  all_blocked: ['block', 'bar', () => link('blocks')],
  dead_rate_high: ['bad', 'cross', () => link('dead')],
  hosts_sick: ['bad', 'triangle', (n) => link(n.host ? `hosts/${n.host}` : 'hosts')],
  hosts_missing: ['warn', 'ring', () => link('hosts')],
  store_filling: ['warn', 'half', () => link('system')],
};

export const needsCard = (needs) => html`<section class="card"><h2>Needs you</h2><ul class="needs">${needs.map((n) => {
  const [tone, shape, to] = rules[n.rule] ?? ['warn', 'triangle', () => link('system')];
  return html`<li class=${tone}>${icon(shape)}<span>${n.text}</span><span class="row">${n.command ? command(n.command) : ''}<a class="pill" href=${to(n)}>look</a></span></li>`;
})}</ul></section>`;
