// Before a room that is full: says so, how long it has been, and that one joins by oneself. The own
// picture stays to be seen behind it.

import { icons } from './icons.ts';

export class Hallway {
  readonly element = document.createElement('section');
  private since = 0;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(leave: () => void) {
    this.element.className = 'hallway card';
    this.element.hidden = true;
    this.element.setAttribute('aria-label', 'Waiting for a place');
    this.element.innerHTML = `
      <div class="waiting-sign">${icons.door}</div>
      <div role="status"><h1></h1>
      <p>Stay here: you join by yourself as soon as there is a place. Microphone and camera are then as you set them here.</p></div>
      <p class="hint" aria-hidden="true"></p>
      <button class="secondary">Stop waiting</button>`;
    this.element.querySelector('button')!.onclick = leave;
  }

  get isOpen(): boolean {
    return !this.element.hidden;
  }

  /** `why`: as the server said it. */
  show(why: string): void {
    const title = this.element.querySelector('h1')!;
    const text = `${why.charAt(0).toUpperCase()}${why.slice(1)}`;
    if (title.textContent !== text) title.textContent = text;
    if (this.isOpen) return;
    this.since = performance.now();
    this.element.hidden = false;
    this.tick();
    this.timer = setInterval(() => this.tick(), 1_000);
  }

  close(): void {
    this.element.hidden = true;
    clearInterval(this.timer);
  }

  private tick(): void {
    const seconds = Math.floor((performance.now() - this.since) / 1_000);
    const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
    this.element.querySelector('.hint')!.textContent = `Waiting for ${clock}, looking every few seconds`;
  }
}
