// The page: where the viewer is, what is drawn, and when.
import { html, nothing, render } from './vendor/lit-html/lit-html.js';
import { call, keep, Resource, setting } from './api.js';
import { announce, ask } from './dialog.js';
import { icon, plural } from './format.js';
import { listen } from './keys.js';
import { run, store, take } from './store.js';
import { follow } from './stream.js';
import * as blocks from './views/blocks.js';
import * as dead from './views/dead.js';
import * as host from './views/host.js';
import * as hosts from './views/hosts.js';
import * as job from './views/job.js';
import * as jobs from './views/jobs.js';
import * as now from './views/now.js';
import * as system from './views/system.js';
import * as tenants from './views/tenants.js';
import * as waiting from './views/waiting.js';
import * as wall from './views/wall.js';
import * as webhooks from './views/webhooks.js';
import * as workflow from './views/workflow.js';
import * as workflows from './views/workflows.js';

// In the order of the rail. The first four and "more" are the bar of a phone. Views without tenant are for operators only.
const places = [
  { path: '', key: 'n', name: 'Now', icon: 'now', view: now, tenant: true },
  { path: 'jobs', key: 'j', name: 'Jobs', icon: 'jobs', view: jobs, tenant: true },
  { path: 'wall', key: 'w', name: 'Wall', icon: 'wall', view: wall, tenant: true },
  { path: 'hosts', key: 'h', name: 'Hosts', icon: 'hosts', view: hosts },
  { path: 'blocks', key: 'b', name: 'Blocks', icon: 'blocks', view: blocks },
  { path: 'workflows', key: 'f', name: 'Workflows', icon: 'workflows', view: workflows, tenant: true },
  { path: 'tenants', key: 't', name: 'Tenants', icon: 'tenants', view: tenants },
  { path: 'dead', key: 'd', name: 'Dead', icon: 'dead', view: dead, tenant: true },
  { path: 'system', key: 's', name: 'System', icon: 'system', view: system, tenant: true },
];

// Views that the rail has no place for, and under which of its places they are.
const hidden = { job, waiting, workflow, webhooks, host };
const under = { job: 'jobs', waiting: 'jobs', workflow: 'workflows', webhooks: 'system' };

const root = document.getElementById('app');
let route = read();
let view = null;
let drawing = false;
let more = false;
let stream = null;
let reload = false; // another version of the page is there

/** How many things need a person; of a tenant, how many of its jobs are dead. The title and the icon of the tab show it. */
const needs = new Resource(async () => {
  if (store.role === 'tenant') return (await call('jobs', { limit: 1 })).counts?.dead ?? 0;
  return (await call('overview')).needs?.length ?? 0;
}, () => entitle(), 15000);
const tabIcon = document.querySelector('link[rel=icon]');
const plainIcon = tabIcon.getAttribute('href');
const stale = 60000; // after which what needs a person is read again, whatever happens

function entitle() {
  document.title = `${needs.data ? `(${needs.data}) ` : ''}${view.title(route)} · comfyherd`;
  const icon = needs.data ? `icon/${Math.min(needs.data, 100)}` : plainIcon;
  if (tabIcon.getAttribute('href') !== icon) tabIcon.setAttribute('href', icon);
}

/** Text of the address as it was before it was encoded; an address that was cut within a letter stays as it is. */
function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What the address says: the view, the rest of its path, and the filters. */
function read() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/').map(plain);
  return { name, rest, query: new URLSearchParams(query) };
}

/** Draws soon, once for all that has changed. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    render(shell(), root);
  });
}

function go() {
  const before = view;
  const was = route;
  route = read();
  view = route.name === 'hosts' && route.rest[0] ? host : hidden[route.name] ?? (places.find((p) => p.path === route.name)?.view ?? now);
  more = false;
  if (before && before !== view) before.close?.();
  view.open(route, draw);
  entitle();
  draw();
  if (was.name !== route.name || was.rest.join() !== route.rest.join()) {
    scrollTo(0, 0);
    if (before) document.getElementById('main')?.focus({ preventScroll: true });
  }
}

/** What happened lately, for screen readers: at most one sentence in 5 s. */
const news = { dead: 0, blocked: 0, offline: 0, told: 0 };

function hear(events) {
  for (const e of events) if (e.kind in news && e.kind !== 'told') news[e.kind]++;
  tell();
}

function tell() {
  if (Date.now() - news.told < 5000) return;
  const parts = [news.dead && `${plural(news.dead, 'job')} died`, news.blocked && `${plural(news.blocked, 'pair')} blocked`, news.offline && `${plural(news.offline, 'host')} went offline`].filter(Boolean);
  if (!parts.length) return;
  Object.assign(news, { dead: 0, blocked: 0, offline: 0, told: Date.now() });
  document.getElementById('news').textContent = `${parts.join(', ')}.`;
}

const words = { connecting: 'connecting', live: 'live', paused: 'paused', hidden: 'hidden', lost: 'connection lost' };

/** The stream sends something every 15 s at least. */
function behind() {
  const quiet = store.connection === 'live' ? Math.floor((stream?.silent() ?? 0) / 1000) : 0;
  return quiet > 17 ? `${quiet} s behind` : '';
}

function theme() {
  const next = { light: 'dark', dark: '' }[document.documentElement.dataset.theme ?? ''] ?? 'light';
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  keep('theme', next);
  announce(`Theme: ${next || 'that of the system'}.`);
  draw();
}

function pause() {
  stream.pause(store.connection !== 'paused');
}

async function rename() {
  let name = setting('by') ?? '';
  const yes = await ask({
    title: 'Your name', act: 'Keep it',
    text: html`<p>Every change that you make is stored with it.</p><label>Name <input maxlength="40" .value=${name} @input=${(e) => { name = e.target.value; }}></label>`,
  });
  if (yes) {
    keep('by', name.trim());
    draw();
  }
}

function shell() {
  const here = under[route.name] ?? route.name;
  const shown = places.filter((p) => p.tenant || store.role !== 'tenant');
  const item = (p, i) => html`<a href="#/${p.path}" class=${i > 3 ? 'wide' : ''} aria-current=${here === p.path ? 'page' : nothing} title="${p.name} (g ${p.key})">${icon(p.icon)}<span>${p.name}</span></a>`;
  return html`
    <a class="skip" href="#main" @click=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href="#/"><svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8"/><circle cx="9" cy="11" r="3.2"/><circle cx="16" cy="11" r="3.2" opacity=".75"/><circle cx="23" cy="11" r="3.2" opacity=".45"/><rect class="light" x="5.8" y="18" width="20.4" height="4.4" rx="2.2"/></svg><span>comfyherd</span></a>
      <form class="search" role="search" @submit=${search}>${icon('search')}<input id="search" type="search" placeholder="Find a job" title="By the beginning of its id, or a part of its name or metadata" aria-label="Find a job by its id, name or metadata" autocomplete="off" spellcheck="false"><kbd>/</kbd></form>
      <button class="link ${store.connection}" @click=${pause} title="Pause or continue (.)" aria-live="polite">${icon({ live: 'dot', paused: 'half', lost: 'cross' }[store.connection] ?? 'ring')}<span>${behind() || words[store.connection]}</span></button>
      <button class="plain" @click=${rename} title="Changes are stored with this name">${store.role === 'look' ? 'may look' : setting('by') || 'no name'}</button>
      <button class="plain" @click=${theme} title="Theme: system, light or dark" aria-label="Change the theme">${icon('sun')}</button>
      ${store.login ? html`<form method="post" action="logout"><button class="plain">Log out</button></form>` : nothing}
    </header>
    <nav class="rail ${more ? 'open' : ''}" aria-label="Views">
      ${shown.map(item)}
      <button class="more" aria-expanded=${more} @click=${() => { more = !more; draw(); }}>${icon('more')}<span>More</span></button>
    </nav>
    <main id="main" tabindex="-1">${view.render(route)}</main>
    <div id="say" class="toast gone" role="status"></div><div id="news" class="sr" role="status"></div>`;
}

function skip(e) {
  e.preventDefault();
  document.getElementById('main').focus();
}

/** Finds jobs by the beginning of their id, and when there is none, by a part of their name or metadata. */
async function search(e) {
  e.preventDefault();
  const text = document.getElementById('search').value.trim();
  let by = 'job';
  try {
    if (text && !(await call('jobs', { job: text, limit: 1 })).jobs.length) by = 'text';
  } catch {
    // The list shows the error.
  }
  location.hash = text ? `#/jobs?${by}=${encodeURIComponent(text)}` : '#/jobs';
}

function begin() {
  addEventListener('hashchange', go);
  listen({ places, pause, view: () => view });
  view = now;
  go();
  stream = follow({
    hello(data) {
      if (store.build && store.build !== data.build) reload = true;
      Object.assign(store, { role: data.role, tenant: data.tenant, version: data.version, build: data.build, login: data.login, kept: data.kept, trace: data.trace });
      draw();
    },
    events(events) {
      take(events);
      hear(events);
      if (events.some((e) => e.kind === 'dead' || e.of === 'blocks' || e.of === 'hosts')) needs.soon();
      if (view.changed?.(events) !== false) draw();
    },
    running(jobs) {
      run(jobs);
      if (view.live) draw();
    },
    resync() {
      view.resync?.();
      draw();
    },
    state(state) {
      store.connection = state;
      draw();
    },
  });
  needs.load();
  setInterval(() => {
    if (Date.now() - needs.at > stale) needs.soon();
    tell();
    if (document.hidden) return;
    if (reload && !document.activeElement?.matches('input, textarea') && !document.querySelector('dialog[open]')) location.reload();
    draw();
  }, 1000);
}

begin();
