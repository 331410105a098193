// Many jobs at once: all that match a filter, and a change of each of them.
import { html } from './vendor/lit-html/lit-html.js';
import { call } from './api.js';
import { announce, attempt } from './dialog.js';
import { count, plural } from './format.js';
import { keyOf } from './store.js';
import { at } from './time.js';

export const mostJobs = 10000; // that are changed at once
const pageSize = 500;
const atOnce = 6; // calls

/**
 * Reads all jobs that match, as far as they were published up to an event: those that come later are not meant.
 * @param {object} request the conditions
 * @param {number} upTo a sequence
 */
export async function matching(request, upTo) {
  const found = new Map();
  let before;
  do {
    const page = await call('jobs', { ...request, limit: pageSize, ...(before ? { before } : {}) });
    for (const row of page.jobs) if (row.first.sequence <= upTo && found.size < mostJobs) found.set(keyOf(row.tenant, row.job), row);
    before = page.next;
  } while (before && found.size < mostJobs);
  return found;
}

/** Requeues one dead job, with what else its request says; its letter was stored when it died. */
export const requeueOne = (row, more = {}) => call('requeue', { tenant: row.tenant, job: row.job, since: new Date(at(row.last.time) - 60000).toISOString(), limit: 1, ...more });

/** Requeues all dead jobs that a request means, a page at a time, and says how it went. */
export async function requeueThese(request) {
  let again = 0;
  let keys = 0;
  await attempt(async () => {
    for (let after; ;) {
      const page = await call('requeue', { ...request, ...(after ? { after } : {}) });
      again += page.count;
      keys += page.need_extra_data?.length ?? 0;
      if (!page.next) return;
      after = page.next;
    }
  }, () => `${plural(again, 'job')} requeued${keys ? `; ${count(keys)} need their extra_data again, which dispatcher dead requeue can give` : ''}.`);
}

/** A change of many jobs that is under way. */
export class Doing {
  constructor(word, jobs, one, changed) {
    Object.assign(this, { word, jobs, one, changed, next: 0, done: 0, failed: 0, stopped: false });
  }

  /** Changes each, some at a time, and gives how many were changed. */
  async run() {
    await Promise.all(Array.from({ length: Math.min(atOnce, this.jobs.length) }, () => this.some()));
    const rest = this.stopped ? ` ${plural(this.jobs.length - this.next, 'job')} left as they were.` : '';
    announce(`${plural(this.done, 'job')} ${this.word}.${this.failed ? ` ${plural(this.failed, 'job')} not: ${this.error}` : ''}${rest}`, this.failed > 0);
    return this.done;
  }

  async some() {
    while (this.next < this.jobs.length && !this.stopped) {
      const row = this.jobs[this.next++];
      try {
        const changed = await this.one(row); // others add to done meanwhile
        this.done += changed;
      } catch (error) {
        this.failed++;
        this.error = error.message;
      }
      this.changed();
    }
  }

  render() {
    return html`<div class="pickbar" role="status"><b>${count(this.done)} of ${plural(this.jobs.length, 'job')} ${this.word}</b><button @click=${() => { this.stopped = true; }}>Stop</button></div>`;
  }
}
