// Questions before a change, and short sentences about what was done.
import { html, nothing, render } from './vendor/lit-html/lit-html.js';
import { count } from './format.js';

let box = null;

function dialog() {
  if (!box) {
    box = document.createElement('dialog');
    box.addEventListener('click', (e) => {
      if (e.target === box) box.close('');
    });
    document.body.append(box);
  }
  return box;
}

/**
 * Asks before a change, and gives whether it is wanted. Beyond 100 objects the number has to be typed.
 * @param {{title: string, text: any, act: string, number?: number, danger?: boolean}} question
 */
export function ask({ title, text, act, number = 1, danger = false }) {
  const d = dialog();
  if (d.open) return Promise.resolve(false);
  const typed = number > 100;
  return new Promise((resolve) => {
    const end = () => {
      d.removeEventListener('close', end);
      resolve(d.returnValue === 'yes');
    };
    d.returnValue = '';
    d.addEventListener('close', end);
    const check = (e) => {
      d.querySelector('button.act').disabled = typed && e.target.value.replace(/\D/g, '') !== String(number);
    };
    render(html`<form method="dialog" @submit=${(e) => {
      e.preventDefault();
      if (!d.querySelector('button.act').disabled) d.close('yes');
    }}><h2>${title}</h2><div class="text">${text}</div>
      ${typed ? html`<label>Type ${count(number)} to confirm <input inputmode="numeric" autocomplete="off" @input=${check}></label>` : nothing}
      <div class="row end"><button type="button" @click=${() => d.close('')}>Leave it</button>
      <button class="act ${danger ? 'danger' : 'primary'}" ?disabled=${typed}>${act}</button></div></form>`, d);
    d.querySelector('button.act').disabled = typed;
    d.showModal();
    (d.querySelector('input') ?? d.querySelector('button.act')).focus();
  });
}

/** Shows something to read, such as the list of keys. */
export function show(title, body) {
  const d = dialog();
  if (d.open) return;
  render(html`<div><h2>${title}</h2><div class="text">${body}</div><div class="row end"><button class="primary" @click=${() => d.close('')}>Close</button></div></div>`, d);
  d.showModal();
  d.querySelector('button').focus();
}

export const asking = () => Boolean(box?.open);

let timer = 0;

/** Says a sentence for a moment, also to screen readers; nothing when there is none. */
export function announce(text, bad = false) {
  const line = document.getElementById('say');
  if (!line || !text) return;
  line.textContent = text;
  line.className = bad ? 'toast bad' : 'toast';
  clearTimeout(timer);
  timer = setTimeout(() => {
    line.className = 'toast gone';
  }, bad ? 12000 : 5000);
}

/** Makes a change, and says how it went. */
export async function attempt(change, said) {
  try {
    const answer = await change();
    announce(typeof said === 'function' ? said(answer) : said);
    return answer;
  } catch (error) {
    announce(error.message, true);
    return null;
  }
}
