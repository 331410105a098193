// The small pictures of completed jobs, by the sequence of their last event: they come with the event, or are asked for once.
import { call } from './api.js';
import { isPicture } from './media.js';

const known = new Map(); // '' when the job has none
const asked = new Set();
const most = 5000;
const atOnce = 200;

const smallPicture = 65536; // bytes of a picture that needs no smaller one
const small = (o) => o.thumb || (isPicture(o) && o.size <= smallPicture ? o.object : '');

const of = (event) => {
  const found = (event.outputs ?? []).filter(small);
  const first = found.find((o) => o.type !== 'temp') ?? found[0];
  return first ? small(first) : '';
};

/** Takes events of the stream. */
export function noted(events) {
  if (known.size > most) known.clear();
  for (const e of events) if (e.of === 'jobs' && e.kind === 'completed') known.set(e.sequence, of(e.event));
}

/** The name of the small picture of a row in a list of jobs; empty when there is none, or it is not known yet. */
export const thumbFor = (row) => (row.state === 'completed' ? known.get(row.last.sequence) ?? '' : '');

/** Asks for those of rows that are not known. */
export async function wantThumbs(rows, changed) {
  const sequences = rows.filter((r) => r.state === 'completed').map((r) => r.last.sequence).filter((s) => !known.has(s) && !asked.has(s)).slice(0, atOnce);
  if (!sequences.length) return;
  for (const s of sequences) asked.add(s);
  try {
    const { thumbs } = await call('thumbs', { sequences });
    for (const s of sequences) known.set(s, thumbs[s] ?? '');
  } catch {
    // The rows do without; they are asked for again with the next list.
  }
  for (const s of sequences) asked.delete(s);
  changed();
}
