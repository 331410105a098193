// What the whole page shares: who looks, the newest events, and what runs at this moment.

export const store = {
  connection: 'connecting', // live, paused, hidden, lost
  role: document.documentElement.dataset.role, // act, look or tenant
  tenant: '',
  login: false,
  version: '',
  build: '',
  kept: '', // how long events are stored
  trace: '', // address of a trace, with {trace} in place of its id
  tail: [], // the newest events, newest first
  running: new Map(), // progress and previews, by tenant/job
  titles: new Map(), // of workflows, by hash, as far as an answer or event has told them
  most: new Map(), // attempts that count, of jobs whose first event came, by tenant/job
};

const mostTail = 200;
const mostRunning = 5000; // more than a dashboard sends

export const keyOf = (tenant, job) => `${tenant}/${job}`;

/** Takes events of the stream. */
export function take(events) {
  if (store.most.size > mostRunning) store.most.clear();
  for (const e of events) {
    if (e.event.title) entitle(e.event);
    if (e.event.max_attempts) store.most.set(keyOf(e.event.tenant, e.event.job), e.event.max_attempts);
    if (e.of === 'jobs' && e.kind !== 'started' && e.kind !== 'queued' && e.kind !== 'waiting') {
      store.running.delete(keyOf(e.event.tenant, e.event.job));
    }
  }
  store.tail = [...events.slice(-mostTail).reverse(), ...store.tail].slice(0, mostTail);
}

/** Remembers the title of a workflow. */
export function entitle({ hash, title }) {
  if (hash && title) store.titles.set(hash, title);
}

/** Takes progress of running jobs. It may come later than the end of its job, which then stays until there are too many. */
export function run(jobs) {
  for (const j of jobs) store.running.set(keyOf(j.tenant, j.job), j);
  for (const key of store.running.keys()) {
    if (store.running.size <= mostRunning) break;
    store.running.delete(key);
  }
}

/** How much of a job is done, 0 to 1; null when nothing is known. */
export function done(progress) {
  if (!progress?.nodes_total) return null;
  const node = progress.max ? Math.min(1, progress.value / progress.max) : 0;
  return Math.min(1, (progress.nodes_done + (progress.nodes_done < progress.nodes_total ? node : 0)) / progress.nodes_total);
}

export const mayAct = () => store.role === 'act' || store.role === 'tenant';
export const mayOperate = () => store.role === 'act';
