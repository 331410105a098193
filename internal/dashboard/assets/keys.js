// Everything on the page can be done with the keyboard.
import { html } from './vendor/lit-html/lit-html.js';
import { asking, show } from './dialog.js';

const typing = (e) => e.target.closest?.('input, textarea, select, [contenteditable]');

const list = (places) => html`<dl class="keys">
  ${places.map((p) => html`<dt><kbd>g</kbd> <kbd>${p.key}</kbd></dt><dd>${p.name}</dd>`)}
  <dt><kbd>/</kbd></dt><dd>find a job</dd>
  <dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>next and previous row</dd>
  <dt><kbd>Enter</kbd></dt><dd>open the row</dd>
  <dt><kbd>x</kbd></dt><dd>select the row; with Shift all up to it</dd>
  <dt><kbd>c</kbd> <kbd>r</kbd> <kbd>u</kbd></dt><dd>cancel, requeue, clear a block; each asks first</dd>
  <dt><kbd>a</kbd></dt><dd>the hosts of a workflow</dd>
  <dt><kbd>.</kbd></dt><dd>pause or continue</dd>
  <dt><kbd>Esc</kbd></dt><dd>back</dd>
  <dt><kbd>?</kbd></dt><dd>this list</dd>
</dl>`;

/** Moves the focus to the next row of the list. */
function step(by) {
  const rows = [...document.querySelectorAll('main [data-row]')];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement?.closest('[data-row]'));
  const row = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
  row.focus();
  row.scrollIntoView({ block: 'nearest' });
}

/** Opens the link of the focused row. */
function open() {
  const row = document.activeElement?.closest('[data-row]');
  if (row && row === document.activeElement) row.querySelector('a[href]')?.click();
}

/** Listens to keys; a view may have more in its keys, each by its letter. */
export function listen({ places, pause, view }) {
  let going = 0;
  addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || asking()) return;
    if (typing(e)) {
      if (e.key === 'Escape') e.target.blur();
      return;
    }
    if (Date.now() - going < 1500) {
      going = 0;
      const to = places.find((p) => p.key === e.key);
      if (to) {
        e.preventDefault();
        location.hash = `#/${to.path}`;
        return;
      }
    }
    const own = view().keys?.[e.key];
    const acts = {
      g: () => { going = Date.now(); },
      '/': () => document.getElementById('search').focus(),
      '?': () => show('Keys', list(places)),
      '.': pause,
      j: () => step(1),
      k: () => step(-1),
      Enter: open,
      Escape: () => history.back(),
    };
    const act = own ?? acts[e.key];
    if (!act || (e.key === 'Enter' && !document.activeElement?.matches('[data-row]'))) return;
    if (e.key !== 'Enter') e.preventDefault();
    act(e, document.activeElement?.closest('[data-row]')?.dataset);
  });
}
