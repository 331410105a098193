// The live stream of the page: one for a tab, closed while the tab is hidden, and resumed where it ended.
import { setTime } from './time.js';

const hiddenFor = 8000; // after which the stream of a hidden tab is closed
const retry = 2000;

/**
 * Follows /live.
 * @param {{hello: Function, events: Function, running: Function, resync: Function, state: Function}} to receivers
 */
export function follow(to) {
  let source = null;
  let last = 0; // sequence up to which events were received
  let timer = 0;
  let paused = false;
  let seen = 0; // when the stream was opened, or something was received last

  const say = (state) => to.state(state);

  function receive(name, handle) {
    source.addEventListener(name, (message) => {
      seen = Date.now();
      const data = JSON.parse(message.data);
      setTime(data.now);
      if (message.lastEventId) last = Math.max(last, Number(message.lastEventId));
      handle(data, message);
    });
  }

  function open() {
    clearTimeout(timer);
    if (source || paused) return;
    seen = Date.now();
    source = new EventSource(last ? `live?after=${last}` : 'live?recent=40');
    const mine = source;
    receive('hello', (data) => {
      const missed = last && !data.resumed;
      last = data.resumed ? last : data.sequence;
      to.hello(data);
      if (missed) to.resync();
      say('live');
    });
    receive('events', (data) => to.events(data.events));
    receive('running', (data) => to.running(data.jobs));
    receive('resync', (_, message) => {
      last = Number(message.lastEventId) || last;
      to.resync();
    });
    receive('time', () => {});
    source.onerror = () => {
      if (mine !== source) return;
      close();
      say('lost');
      timer = setTimeout(open, retry);
    };
  }

  function close() {
    source?.close();
    source = null;
  }

  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer);
    if (paused) return;
    if (document.hidden) {
      timer = setTimeout(() => {
        close();
        say('hidden');
      }, hiddenFor);
    } else {
      open();
    }
  });
  setInterval(() => {
    if (source && Date.now() - seen > 40000) { // a line comes every 15 s
      close();
      say('lost');
      open();
    }
  }, 5000);
  open();

  return {
    /** For how many milliseconds nothing was received. */
    silent: () => Date.now() - seen,
    /** Stops or continues; events of the time between are received afterwards. */
    pause(on) {
      paused = on;
      if (on) {
        close();
        say('paused');
      } else {
        open();
      }
    },
  };
}
