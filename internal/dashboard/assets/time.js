// The time of NATS, by which all ages and countdowns are shown: the clock of the viewer may be wrong.

let offset = 0;
let sure = false;

/** Sets the clock by a message of the stream. Messages are late and never early, so the largest offset is the best. */
export function setTime(text) {
  const measured = Date.parse(text) - Date.now();
  if (!sure || measured > offset || Math.abs(measured - offset) > 2000) offset = measured;
  sure = true;
}

/** The time now, in milliseconds. */
export const now = () => Date.now() + offset;

/** Reads a time of an answer; 0 when there is none. */
export const at = (text) => (text && !text.startsWith('0001-') ? Date.parse(text) : 0);

const units = { ns: 1e-6, us: 1e-3, 'µs': 1e-3, ms: 1, s: 1000, m: 60000, h: 3600000 };

/** Reads a duration of Go, such as 1h30m or 718.2ms, in milliseconds. */
export function duration(text) {
  let sum = 0;
  for (const [, number, unit] of String(text ?? '').matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g)) sum += number * units[unit];
  return sum;
}

/** A span in words of at most two units: 740ms, 3.2s, 48s, 5m 10s, 2h 5m, 3d 4h. */
export function span(ms) {
  if (!(ms > 0)) return '0s';
  if (ms < 1000) return `${Math.round(ms)}ms`;
  if (ms < 10000) return `${(Math.floor(ms / 100) / 10).toFixed(1)}s`;
  return whole(ms);
}

/** A span without fractions, for what ticks. */
export function whole(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, '0')}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor((s % 3600) / 60)}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor((s % 86400) / 3600)}h`;
}

/** How long ago, without seconds beyond the first minute, so that a list does not flicker. */
export function ago(time) {
  const ms = now() - time;
  if (ms < 1000) return 'now';
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s}s ago`;
  if (s < 3600) return `${Math.floor(s / 60)}m ago`;
  return `${whole(ms)} ago`;
}

/** What remains until a time, in whole seconds; it never shows 0 before it is over. */
export const left = (until) => whole(Math.max(0, until - now()) + 999);

/** The time of day; with the date when it is not today. */
export function clock(time) {
  const d = new Date(time);
  const day = d.toDateString() === new Date(now()).toDateString() ? '' : `${d.toLocaleDateString()} `;
  return day + [d.getHours(), d.getMinutes(), d.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

/** When the day of the viewer has begun. */
export const midnight = () => new Date(new Date(now()).setHours(0, 0, 0, 0)).toISOString();

export const full = (time) => new Date(time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' });
