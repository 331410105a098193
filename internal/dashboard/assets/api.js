// Calls of the dispatchers, as docs/contract.md lists them, over /api/v1/<call>.
import { entitle } from './store.js';
import { at, duration } from './time.js';

/** The error of a call, with its HTTP status. */
export class CallError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const memory = new Map(); // in place of localStorage where that is forbidden

/** Reads a setting of this browser. */
export function setting(name) {
  try {
    return localStorage.getItem(`comfyherd.${name}`);
  } catch {
    return memory.get(name) ?? null;
  }
}

/** Keeps a setting of this browser; an empty value removes it. */
export function keep(name, value) {
  memory.set(name, value);
  try {
    if (value) localStorage.setItem(`comfyherd.${name}`, value);
    else localStorage.removeItem(`comfyherd.${name}`);
  } catch {
    // It holds until the page is closed.
  }
}

/**
 * Makes a call and gives its answer. With text the answer is the JSON as it came, since numbers beyond 2^53 lose digits when parsed.
 * @param {string} name such as "jobs"
 * @param {object} request its fields
 */
export async function call(name, request = {}, { text = false } = {}) {
  let response;
  try {
    response = await fetch(`api/v1/${name}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Comfy-By': encodeURIComponent(setting('by') ?? '') }, // a header takes no other letters
      body: JSON.stringify(request),
    });
  } catch {
    throw new CallError('This page cannot be reached at the moment. It tries again by itself.', 0);
  }
  if (response.status === 401) {
    location.assign('login');
    throw new CallError('Your login has ended.', 401);
  }
  const body = await response.text();
  if (!response.ok) {
    let message = body;
    try {
      message = JSON.parse(body).error;
    } catch {
      // A proxy has answered: its text stands.
    }
    throw new CallError(message, response.status);
  }
  if (text) return body;
  const answer = JSON.parse(body);
  for (const rows of [answer.jobs, answer.workflows, answer.waiting]) if (Array.isArray(rows)) rows.forEach(entitle);
  return answer;
}

/** Reads all pages of a list, at most so many rows; each receives those that are read so far. */
export async function all(name, field, request = {}, most = 100000, each = () => {}) {
  const rows = [];
  let next;
  do {
    const page = await call(name, next === undefined ? request : { ...request, after: next });
    rows.push(...(page[field] ?? []));
    next = page.next || undefined;
    if (next !== undefined) each(rows);
  } while (next !== undefined && rows.length < most);
  return rows;
}

/** What a view shows, as it was read last. Reading again is put off so that it happens at most every so often, and one at a time. */
export class Resource {
  constructor(read, changed, pause = 1500) {
    Object.assign(this, { read, changed, pause, data: null, error: null, at: 0, turn: 0, timer: 0, reading: false, again: false, partial: false, shown: 0 });
  }

  async load() {
    clearTimeout(this.timer);
    this.timer = 0;
    const turn = ++this.turn;
    this.at = Date.now();
    this.reading = true;
    this.again = false;
    try {
      const data = await this.read();
      if (turn !== this.turn) return;
      this.data = data;
      this.partial = false;
      this.error = null;
    } catch (error) {
      if (turn !== this.turn) return;
      this.error = error;
    }
    this.reading = false;
    this.changed();
    if (this.again) this.soon();
  }

  /** Shows a part of what is being read for the first time, a few times a second: each time the view sorts all of it. */
  part(data) {
    if (this.error || (this.data && !this.partial) || (this.partial && Date.now() - this.shown < 400)) return;
    this.data = data;
    this.partial = true;
    this.shown = Date.now();
    this.changed();
  }

  /** Reads again soon. While an answer is on its way it waits for it, since load drops the answers of earlier reads. */
  soon() {
    this.again = this.reading;
    if (this.timer || this.reading) return;
    this.timer = setTimeout(() => this.load(), Math.max(50, this.at + this.pause - Date.now()));
  }

  /** Forgets what was read, as when another job is shown. */
  reset() {
    clearTimeout(this.timer);
    this.turn++;
    Object.assign(this, { data: null, error: null, at: 0, timer: 0, reading: false, again: false });
  }
}

/** When a job was published, as far as its event says for how long it has waited and run; otherwise when the event was stored. */
const began = (time, e) => (e.queued_for ? new Date(at(time) - duration(e.queued_for) - duration(e.ran_for)).toISOString() : time);
/** A row from an event of the stream. */
export function rowOf({ sequence, time, kind, event: e }) {
  return {
    job: e.job, tenant: e.tenant, state: kind, priority: e.priority, hash: e.hash, host: e.host, attempt: e.attempt, kind: kind === 'completed' ? '' : e.kind, reason: e.reason,
    requeue_of: e.requeue_of, name: e.name, first: { sequence, time: began(time, e) }, last: { sequence, time },
  };
}
