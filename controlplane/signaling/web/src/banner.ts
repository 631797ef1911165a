// One line above the pictures that says what is wrong with the connection, what is done about it and
// for how long already, and that it is over.

import type { Call } from './call.ts';

/** Shorter than this nobody needs to know. */
const QUIET_MS = 600;
const BACK_MS = 3_000;

/** What happens now; nothing when all is well. */
export function happening(call: Pick<Call, 'state' | 'why' | 'isInterrupted' | 'goesOn'>, isOnline: boolean): string {
  switch (call.state) {
    case 'connecting':
      if (!call.why) return '';
      return isOnline ? `${call.why} Trying again…` : 'You are offline. You join as soon as there is a network.';
    case 'reconnecting': {
      if (!isOnline) return 'You are offline. The call goes on as soon as there is a network.';
      const why = call.why || 'The connection is lost.';
      return `${why} Trying again…${call.goesOn ? ' You still hear and see each other.' : ''}`;
    }
    case 'connected':
      if (!call.isInterrupted) return '';
      return isOnline ? 'Your network is interrupted. Bringing sound and picture back…' : 'You are offline. The call goes on as soon as there is a network.';
    default:
      return '';
  }
}

export class Banner {
  readonly element = document.createElement('div');
  private text = document.createElement('span');
  private clock = document.createElement('span');
  private since: number | null = null;
  private timer: ReturnType<typeof setInterval>;
  private over: ReturnType<typeof setTimeout> | undefined;
  private call: Call;
  private look = () => this.refresh();

  constructor(call: Call) {
    this.call = call;
    this.element.className = 'banner';
    this.element.setAttribute('role', 'status');
    // The seconds are not read out.
    this.clock.setAttribute('aria-hidden', 'true');
    this.element.append(this.text, ' ', this.clock);
    this.element.hidden = true;
    this.timer = setInterval(this.look, 500);
    addEventListener('online', this.look);
    addEventListener('offline', this.look);
  }

  refresh(): void {
    const text = happening(this.call, navigator.onLine);
    if (!text) return this.isBack();
    clearTimeout(this.over);
    this.since ??= performance.now();
    const ms = performance.now() - this.since;
    if (ms < QUIET_MS) return;
    this.element.classList.remove('back');
    this.element.hidden = false;
    if (this.text.textContent !== text) this.text.textContent = text;
    this.clock.textContent = ms < 2_000 ? '' : `${Math.floor(ms / 1_000)} s`;
  }

  private isBack(): void {
    if (this.since === null) return;
    this.since = null;
    if (this.element.hidden || this.call.state !== 'connected') {
      this.element.hidden = true;
      return;
    }
    this.element.classList.add('back');
    this.text.textContent = 'You are back in the call.';
    this.clock.textContent = '';
    this.over = setTimeout(() => (this.element.hidden = true), BACK_MS);
  }

  close(): void {
    clearInterval(this.timer);
    clearTimeout(this.over);
    removeEventListener('online', this.look);
    removeEventListener('offline', this.look);
  }
}
