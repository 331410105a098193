// A workflow's graph as an outline: its nodes in the order in which they can run, each with what it takes and what is set.
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { plural, spaces } from '../format.js';

const shown = 200;
const longest = 90;

/**
 * Nodes, each behind those that it takes something from. Its level is how many nodes stand before it at most.
 * @returns {{id: string, level: number, type: string, title: string, from: [string, string][], set: [string, string][]}[]}
 */
export function outline(graph) {
  const list = [];
  const done = new Map(); // nodes by id; null while those before it are visited, as in a circle
  const visit = (id) => {
    if (done.has(id)) return done.get(id)?.level ?? 0;
    done.set(id, null);
    const of = graph[id];
    const node = { id, level: 0, type: String(of.class_type ?? ''), title: String(of._meta?.title ?? ''), from: [], set: [] };
    for (const [name, value] of Object.entries(of.inputs ?? {})) {
      if (Array.isArray(value) && value.length === 2 && graph[value[0]]) {
        node.from.push([name, String(value[0])]);
        node.level = Math.max(node.level, visit(String(value[0])) + 1);
      } else {
        const text = typeof value === 'string' ? value : value?.text ?? JSON.stringify(value) ?? ''; // a number too large for JavaScript has its text
        node.set.push([name, text.length > longest ? `${text.slice(0, longest)}…` : text]);
      }
    }
    done.set(id, node);
    list.push(node);
    return node.level;
  };
  for (const id of Object.keys(graph)) if (graph[id] && typeof graph[id] === 'object') visit(id);
  return list;
}

/** The outline in a card. */
export function graphCard(graph) {
  if (!graph || typeof graph !== 'object') return nothing;
  const nodes = outline(graph);
  return html`<details class="card" open><summary>The graph <span class="quiet">${plural(nodes.length, 'node')} in the order in which they can run</span></summary><ol class="graph">${nodes.slice(0, shown).map((n) => html`<li .style=${`--level:${Math.min(n.level, 12)}`}><span class="mono quiet">${n.id}</span><span><b>${n.type}</b>${n.title && n.title !== n.type ? html` <span class="quiet">${n.title}</span>` : nothing}
    ${n.from.length ? html`<span class="quiet">takes ${n.from.map(([name, id], i) => html`${i ? ', ' : ''}${spaces(name)} of <span class="mono">${id}</span>`)}</span>` : nothing}
    ${n.set.length ? html`<span class="set">${n.set.map(([name, text]) => html`<span><span class="quiet">${spaces(name)}</span> ${text}</span>`)}</span>` : nothing}</span></li>`)}</ol>${nodes.length > shown ? html`<p class="in quiet">${plural(nodes.length - shown, 'further node')}</p>` : nothing}</details>`;
}
