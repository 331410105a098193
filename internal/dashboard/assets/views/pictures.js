// The newest pictures of completed jobs, newest first.
import { call } from '../api.js';
import { isPicture, isVideo } from '../media.js';
import { keyOf } from '../store.js';

/** A list of pictures that grows with the stream. */
export class Pictures {
  constructor(changed, most) {
    Object.assign(this, { redraw: changed, most, found: [], next: 0, request: {}, error: null, read: false });
  }

  async load(request) {
    this.request = request;
    try {
      const page = await call('pictures', { ...request, limit: this.most });
      this.found = page.events.flatMap(pictures);
      this.next = page.next ?? 0;
      this.error = null;
    } catch (error) {
      this.error = error;
    }
    this.read = true;
    this.redraw();
  }

  async more() {
    const page = await call('pictures', { ...this.request, before: this.next, limit: this.most });
    const known = new Set(this.found.map((p) => p.key));
    this.found = [...this.found, ...page.events.flatMap(pictures).filter((p) => !known.has(p.key))];
    this.next = page.next ?? 0;
    this.redraw();
  }

  /** Takes events of the stream; those that are known are left out. */
  changed(events, keep = 400) {
    const known = new Set(this.found.map((p) => p.key));
    const fresh = events.filter((e) => !this.request.tenant || e.event.tenant === this.request.tenant).flatMap(pictures).filter((p) => !known.has(p.key));
    if (fresh.length) this.found = [...fresh.reverse(), ...this.found].slice(0, keep);
  }

  list() {
    return this.found.slice(0, this.most);
  }
}

/** The pictures of an event; the first of its job, since one tile a job is enough. */
export function pictures(e) {
  if (e.of !== 'jobs' || e.kind !== 'completed') return [];
  const output = (e.event.outputs ?? []).find((o) => (isPicture(o) || isVideo(o)) && o.type !== 'temp') ?? (e.event.outputs ?? []).find(isPicture);
  if (!output) return [];
  const { tenant, job, host, hash, ran_for: ran } = e.event;
  return [{ key: keyOf(tenant, job), tenant, job, host, hash, ran, time: e.time, output }];
}
