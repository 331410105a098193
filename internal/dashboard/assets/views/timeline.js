// A job's events as spans of time.
import { holds, spaces } from '../format.js';
import { at } from '../time.js';

/**
 * Spans from the first event to the last, or to now when the job has not ended.
 * @returns {{begin: number, end: number, list: {from: number, to: number, tone: string, text: string}[]}}
 */
export function segments(events, now) {
  const points = events.map((row) => ({ kind: row.subject.split('.').at(-1), time: at(row.time), event: row.event }));
  const list = [];
  for (let i = 0; i < points.length; i++) {
    const p = points[i];
    const after = points[i + 1];
    if (['completed', 'dead', 'cancelled'].includes(p.kind)) break;
    const to = Math.max(p.time, after ? after.time : now);
    list.push({ from: p.time, to, ...part(p, after) });
  }
  const begin = points[0]?.time ?? now;
  const end = Math.max(begin + 1, list.at(-1)?.to ?? points.at(-1)?.time ?? now);
  return { begin, end, list: list.filter((s) => s.to > s.from) };
}

function part({ kind, event: e }, after) {
  switch (kind) {
    case 'started': {
      const ended = after?.kind;
      return { tone: ended === 'failed' ? 'warn' : ended === 'dead' ? 'bad' : ended === 'completed' ? 'good' : 'run', text: `${e.host}${ended === 'failed' ? ` failed` : ''}` };
    }
    case 'waiting': return { tone: 'wait', text: holds[e.reason] ?? spaces(e.reason) };
    case 'queued': return { tone: 'wait', text: 'waits' };
    case 'retrying': return { tone: 'wait', text: 'waits for its next attempt' };
    default: return { tone: 'wait', text: 'is decided' };
  }
}
