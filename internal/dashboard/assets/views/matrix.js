// The matrix of hosts and workflows: which pair is blocked, for how much longer, and which has failed. It is one stop of Tab with arrow keys within.
import { html, nothing, svg } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { all } from '../api.js';
import { count, icon, plural, short, spaces } from '../format.js';
import { hostLink } from '../parts.js';
import { store } from '../store.js';
import { clock, left, now } from '../time.js';

const mostRows = 30;
const mostColumns = 24;
const mostHosts = 60; // that have a row each; more are put together by label
const around = 2 * Math.PI * 16; // of a cell's ring

export const partial = (b) => !b.tenants?.includes('*');
const share = (b) => Math.max(0, Math.min(1, (b.end - now()) / b.lasts));
const initials = (b) => (b.tenants ?? []).slice(0, 2).map((t) => t[0].toUpperCase()).join('');
const said = (b) => `${b.host}, workflow ${short(b.hash)}: blocked until ${clock(b.end)}${partial(b) ? `, for ${b.tenants.join(', ')} only` : ''}, because of ${spaces(b.kind)}${b.failures > 1 ? `, after ${b.failures} failures` : ''}${b.level ? `; block number ${b.level + 1}` : ''}`;

/** What a host is put together with others by: its first label, or its name without numbers. */
const groupOf = (host, labels) => labels?.[0] ?? (host.replace(/[\d.]+/g, '…') || host);

export class Matrix {
  constructor(clear, draw) {
    Object.assign(this, { clear, draw, of: null, struck: null, length: 0, labels: null, open: '', from: [0, 0] });
  }

  /** The axes, as long as the blocks are the same. */
  axes(blocks, struck, of) {
    if (this.of === of && this.struck === struck && this.length === blocks.length) return;
    const pairs = new Map();
    const tally = { host: new Map(), hash: new Map() };
    const add = (b, key) => {
      pairs.set(key, b);
      tally.host.set(b.host, (tally.host.get(b.host) ?? 0) + 1);
      tally.hash.set(b.hash, (tally.hash.get(b.hash) ?? 0) + 1);
    };
    for (const b of blocks) add(b, b.key ?? `${b.host}.${b.hash}`);
    for (const s of struck) if (!pairs.has(`${s.host}.${s.hash}`)) add({ ...s, struck: true }, `${s.host}.${s.hash}`);
    const hosts = [...tally.host.keys()].sort();
    const hashes = [...tally.hash].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([h]) => h);
    Object.assign(this, { of, struck, length: blocks.length, hosts, hashes, pairs, painted: false, grouped: null });
    if (hosts.length > mostHosts && !this.labels) this.read();
  }

  /** Reads the labels of hosts, by which they are put together. */
  async read() {
    this.labels = new Map();
    try {
      this.labels = new Map((await all('hosts', 'hosts')).map((h) => [h.host, h.labels]));
    } catch {
      // Their names have to do.
    }
    this.grouped = null;
    this.draw();
  }

  /** The groups of hosts, each with how many of them are blocked by workflow. */
  groups() {
    if (this.grouped) return this.grouped;
    const groups = new Map();
    const mine = new Map();
    for (const h of this.hosts) {
      const name = groupOf(h, this.labels?.get(h));
      if (!groups.has(name)) groups.set(name, { name, hosts: [], counts: new Map() });
      groups.get(name).hosts.push(h);
      mine.set(h, groups.get(name).counts);
    }
    for (const b of this.pairs.values()) if (!b.struck) mine.get(b.host).set(b.hash, (mine.get(b.host).get(b.hash) ?? 0) + 1);
    this.grouped = [...groups.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    return this.grouped;
  }

  /** The rows: groups, and the hosts of the one that is unfolded from a place on; or hosts. */
  rows() {
    const [from] = this.from;
    if (this.hosts.length <= mostHosts) return this.hosts.slice(from, from + mostRows).map((host) => ({ key: host, host }));
    return this.groups().slice(0, mostRows).flatMap((group) => [{ key: `+${group.name}`, group }, ...(this.open === group.name ? group.hosts.slice(from, from + mostRows).map((host) => ({ key: host, host })) : [])]);
  }

  render(blocks, struck, of) {
    this.axes(blocks, struck, of);
    const rows = this.rows();
    const columns = this.hashes.slice(this.from[1], this.from[1] + mostColumns);
    const large = this.hosts.length > mostRows || this.hashes.length > mostColumns;
    return html`${large ? this.overview(blocks) : nothing}
      <section class="card matrixcard"><div class="in scroll"><table class="matrix ${rows.length * columns.length > 150 ? 'many' : ''}" role="grid" aria-label="Blocks by host and workflow" @keydown=${move}><thead><tr><th></th>${columns.map((h) => html`<th scope="col"><span title=${h}>${short(h)} ${store.titles.get(h) ? html`<b>${store.titles.get(h)}</b>` : nothing}</span></th>`)}</tr></thead>
      <tbody>${repeat(rows, (r) => r.key, (r, i) => this.row(r, i, columns))}</tbody></table></div></section>`;
  }

  row({ host, group }, i, columns) {
    if (host) return html`<tr class=${this.open ? 'inner' : ''}><th scope="row">${hostLink(host)}</th>${columns.map((x, c) => this.cell(this.pairs.get(`${host}.${x}`), i, c))}</tr>`;
    const open = this.open === group.name;
    return html`<tr><th scope="row"><button class="small" aria-expanded=${open} @click=${() => this.unfold(open ? '' : group.name)}>${group.name} <span class="quiet">${plural(group.hosts.length, 'host')}</span></button></th>${columns.map((x, c) => {
      const n = group.counts.get(x);
      const text = `${group.name}, workflow ${short(x)}: blocked on ${n ?? 0} of ${plural(group.hosts.length, 'host')}`;
      return html`<td role="gridcell"><button class="cell ${n ? 'on some' : ''}" tabindex=${i + c ? -1 : 0} data-at="${i}.${c}" title=${text} aria-label=${text} ?disabled=${!n} @click=${() => this.unfold(group.name)}>${n ? html`<span>${count(n)}</span>` : nothing}</button></td>`;
    })}</tr>`;
  }

  unfold(name) {
    this.open = name;
    this.from = [0, this.from[1]];
    this.draw();
  }

  cell(b, row, column) {
    const stop = row + column ? -1 : 0;
    const place = `${row}.${column}`;
    if (b?.struck) {
      const text = `${b.host}, workflow ${short(b.hash)}: ${b.probation ? 'on probation, one job at a time until one succeeds' : `has failed${b.failures ? ` ${b.failures}×` : ''}, and is not blocked`}`;
      return html`<td role="gridcell"><button class="cell struck ${b.probation ? 'trial' : ''}" tabindex=${stop} data-at=${place} title=${text} aria-label=${text}>${icon(b.probation ? 'half' : 'triangle')}${b.failures ? html`<sub>${b.failures}×</sub>` : nothing}</button></td>`;
    }
    if (!b) return html`<td role="gridcell"><button class="cell" tabindex=${stop} data-at=${place} aria-label="not blocked" disabled></button></td>`;
    return html`<td role="gridcell"><button class="cell on l${Math.min(3, b.level ?? 0)} ${partial(b) ? 'part' : ''}" tabindex=${stop} data-at=${place} title=${said(b)} aria-label=${said(b)} @click=${() => this.clear(b)}>
      <svg viewBox="0 0 40 40" aria-hidden="true">${svg`<circle cx="20" cy="20" r="16"/><circle cx="20" cy="20" r="16" stroke-dasharray=${around} stroke-dashoffset=${around * (1 - share(b))}/>`}</svg>
      <span>${left(b.end).split(' ')[0]}</span>${b.level ? html`<sup>${b.level + 1}.</sup>` : nothing}${partial(b) ? html`<sub>${initials(b)}</sub>` : b.failures > 1 ? html`<sub>${b.failures}×</sub>` : nothing}</button></td>`;
  }

  /** All pairs as dots, when they are more than the matrix holds: a click shows what is there. The list below has the same. */
  overview(blocks) {
    const width = document.querySelector('canvas.overview')?.clientWidth;
    if (this.painted !== width || !width) requestAnimationFrame(() => this.paint(blocks));
    const [row, column] = this.from;
    return html`<section class="card"><header><h2>All ${count(blocks.length)} blocks</h2><span class="quiet">${plural(this.hosts.length, 'host')} down, ${plural(this.hashes.length, 'workflow')} across</span></header><div class="in"><canvas class="overview" aria-hidden="true" @click=${(e) => this.aim(e)}></canvas>
      <p class="quiet">Below are workflows ${count(column + 1)} to ${count(Math.min(this.hashes.length, column + mostColumns))} by their number of blocks${row ? `, and hosts from number ${count(row + 1)} on` : ''}. Click a place to see it${row || column ? html`, or go back to <button class="small" @click=${() => this.to([0, 0], '')}>the first</button>` : ''}.</p></div></section>`;
  }

  to(from, open) {
    Object.assign(this, { from, open, painted: false });
    this.draw();
  }

  /** Shows the hosts and workflows of a place in the overview. */
  aim(e) {
    const box = e.currentTarget.getBoundingClientRect();
    const host = Math.min(this.hosts.length - 1, Math.floor(((e.clientY - box.top) / box.height) * this.hosts.length));
    const column = Math.floor(((e.clientX - box.left) / box.width) * this.hashes.length);
    const first = Math.max(0, Math.min(this.hashes.length - mostColumns, column - mostColumns / 2));
    const group = this.hosts.length > mostHosts && this.groups().find((g) => g.hosts.includes(this.hosts[host]));
    const within = group ? group.hosts : this.hosts;
    const row = Math.max(0, Math.min(within.length - mostRows, within.indexOf(this.hosts[host]) - mostRows / 2));
    this.to([row, first], group ? group.name : '');
  }

  paint(blocks) {
    const canvas = document.querySelector('canvas.overview');
    if (!canvas) return;
    const { clientWidth: w, clientHeight: h } = canvas;
    this.painted = w;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(w * scale)) [canvas.width, canvas.height] = [Math.round(w * scale), Math.round(h * scale)];
    const g = canvas.getContext('2d');
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, w, h);
    const style = getComputedStyle(canvas);
    g.fillStyle = style.getPropertyValue('--block');
    const row = new Map(this.hosts.map((x, i) => [x, i]));
    const column = new Map(this.hashes.map((x, i) => [x, i]));
    const [x, y] = [w / this.hashes.length, h / this.hosts.length];
    const dot = Math.max(1.5, Math.min(x, y, 6));
    for (const b of blocks) g.fillRect(column.get(b.hash) * x, row.get(b.host) * y, dot, dot);
    g.strokeStyle = style.getPropertyValue('--accent');
    g.lineWidth = 2;
    g.strokeRect(this.from[1] * x + 1, 1, Math.max(6, mostColumns * x) - 2, h - 2);
  }
}

/** Arrow keys move within the matrix. */
function move(e) {
  const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
  const here = e.target.closest('[data-at]');
  if (!by || !here) return;
  e.preventDefault();
  let [r, c] = here.dataset.at.split('.').map(Number);
  const table = e.currentTarget;
  for (let n = 0; n < 100; n++) {
    [r, c] = [r + by[0], c + by[1]];
    const next = table.querySelector(`[data-at="${r}.${c}"]`);
    if (!next) return;
    if (next.disabled) continue;
    here.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    return;
  }
}
