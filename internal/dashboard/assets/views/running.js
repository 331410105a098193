// The jobs that run, from a list and the events behind it.
import { call } from '../api.js';
import { keyOf } from '../store.js';

export class Running {
  constructor() {
    this.jobs = new Map();
    this.seen = new Map(); // the last sequence of each job of which an event came
    this.newest = 0; // the sequence of the newest event
  }

  /** Reads the list. An event that came meanwhile is newer than what the list says of its job. */
  async load(request = {}) {
    const before = this.newest;
    const page = await call('jobs', { ...request, state: 'started', limit: 100 });
    const listed = new Map(page.jobs.map((row) => [keyOf(row.tenant, row.job), row]));
    for (const [key, row] of listed) if (!(this.seen.get(key) > row.last.sequence)) this.jobs.set(key, row);
    for (const [key, row] of this.jobs) if (!listed.has(key) && page.jobs.length < 100 && row.last.sequence <= before) this.jobs.delete(key);
  }

  changed(events, tenant = '') {
    for (const e of events) {
      this.newest = e.sequence;
      if (e.of !== 'jobs' || (tenant && e.event.tenant !== tenant)) continue;
      const key = keyOf(e.event.tenant, e.event.job);
      this.seen.set(key, e.sequence);
      if (e.kind === 'started') this.jobs.set(key, { ...e.event, state: 'started', last: { sequence: e.sequence, time: e.time } });
      else this.jobs.delete(key);
    }
    if (this.seen.size > 5000) this.seen = new Map([...this.seen].slice(-1000));
  }

  reset() {
    this.jobs.clear();
    this.seen.clear();
  }

  /** Those that have run longest first, so that the others do not move when one begins. */
  list() {
    return [...this.jobs.values()].sort((a, b) => a.last.sequence - b.last.sequence);
  }
}
