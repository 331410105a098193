// What needs a person, in the order of urgency. The rules are those of the alerts.
import { count, plural } from '../format.js';
import { link } from '../parts.js';
import { at, now } from '../time.js';

/** @returns {{tone: string, shape: string, text: string, to?: string, act?: string, command?: string}[]} */
export function needs({ hosts, lanes, counts, blocks }) {
  const list = [];
  const waiting = lanes.reduce((n, l) => n + l.depth, 0);
  if (hosts) {
    const online = hosts.filter((h) => h.state === 'online');
    if (!hosts.length) list.push({ tone: 'wait', shape: 'ring', text: 'No host is online: jobs wait until an agent is started.', command: 'COMFY_HOSTS=http://127.0.0.1:8188 agent' });
    else if (!online.length) list.push({ tone: 'bad', shape: 'triangle', text: 'No host accepts jobs.', to: link('hosts'), act: 'look at the hosts' });
    for (const h of hosts.filter((x) => x.state === 'unhealthy').slice(0, 5)) list.push({ tone: 'bad', shape: 'triangle', text: `${h.host} is unhealthy: ${h.reason || h.cause || 'its ComfyUI does not answer'}`, to: link(`hosts/${h.host}`), act: 'look' });
    for (const h of hosts.filter((x) => x.resting).slice(0, 3)) list.push({ tone: 'warn', shape: 'clock', text: `${h.host} rests: ${h.resting.why}`, to: link(`hosts/${h.host}`), act: 'look' });
    for (const h of hosts.filter((x) => x.clock_off).slice(0, 3)) list.push({ tone: 'warn', shape: 'clock', text: `The clock of ${h.host} is off by ${h.clock_off}.`, to: link(`hosts/${h.host}`), act: 'look' });
    if (blocks?.length && online.length && blocks.length > online.length * 2) list.push({ tone: 'block', shape: 'bar', text: `${plural(blocks.length, 'pair')} of host and workflow are blocked, more than two for each host.`, to: link('blocks'), act: 'look' });
  }
  const old = lanes.filter((l) => l.depth && l.oldest && now() - at(l.oldest) > 600000);
  if (old.length && waiting) list.push({ tone: 'wait', shape: 'clock', text: `Jobs of ${old.slice(0, 3).map((l) => l.tenant).join(', ')} have waited for more than 10 minutes.`, to: link('jobs', { state: 'waiting' }), act: 'look why' });
  if (counts.dead) list.push({ tone: 'bad', shape: 'cross', text: `${plural(counts.dead, 'job')} died${counts.completed ? `, beside ${count(counts.completed)} that completed` : ''}.`, to: link('dead'), act: 'see why' });
  return list;
}
