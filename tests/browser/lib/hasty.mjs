// For people who are quicker than their devices and their line.

/**
 * In the page, before it is opened. `line.hold = 'produce'` keeps requests of that event, and devices that are asked for
 * while `devices.slow` open, when told so; `devices.refused` names kinds that the browser refuses. What was opened is in
 * `devices.opened`, and how often the screen was to be kept on in `awake`. `silent`: nothing is heard before the page is
 * touched (a test that looks into a page counts as a touch for its browser).
 */
export function hasty({ hold = '', refused = [], silent = false } = {}) {
  const line = { hold, held: [], release: () => {} };
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (data) {
    if (line.hold && typeof data === 'string' && data.includes(`"${line.hold}"`)) line.held.push(() => send.call(this, data));
    else send.call(this, data);
  };
  line.release = () => {
    line.hold = '';
    for (const each of line.held.splice(0)) each();
  };
  window.line = line;

  const devices = { slow: false, waiting: [], opened: [], refused, release: () => {} };
  const { mediaDevices } = navigator;
  for (const way of ['getUserMedia', 'getDisplayMedia']) {
    const original = mediaDevices[way].bind(mediaDevices);
    mediaDevices[way] = async (wanted) => {
      if (devices.refused.some((kind) => wanted[kind])) throw new DOMException('Permission denied', 'NotAllowedError');
      if (devices.slow) await new Promise((resolve) => devices.waiting.push(resolve));
      const stream = await original(wanted);
      devices.opened.push(...stream.getTracks());
      return stream;
    };
  }
  devices.release = () => {
    devices.slow = false;
    for (const each of devices.waiting.splice(0)) each();
  };
  window.devices = devices;

  let isSilent = silent;
  addEventListener('pointerdown', () => (isSilent = false), { capture: true });
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    if (!isSilent || this.muted) return play.call(this);
    this.autoplay = false;
    return Promise.reject(new DOMException('play() failed because the user did not interact', 'NotAllowedError'));
  };

  window.awake = [];
  Object.defineProperty(navigator, 'wakeLock', {
    value: {
      request: async () => {
        const lock = { released: false, release: async () => void (lock.released = true) };
        window.awake.push(lock);
        return lock;
      },
    },
  });
}
