// Keeps the screen on while there is a call: a phone that goes dark freezes the page, and the call is
// lost a moment later.

export class Awake {
  private lock: WakeLockSentinel | null = null;
  private isAsking = false;
  private isOver = false;
  private shown = () => void this.ask();

  constructor() {
    document.addEventListener('visibilitychange', this.shown);
    void this.ask();
  }

  /** A browser takes it back whenever the page is hidden, and wants to be asked again. */
  private async ask(): Promise<void> {
    const isHeld = this.lock !== null && !this.lock.released;
    if (this.isOver || this.isAsking || isHeld || document.visibilityState !== 'visible') return;
    this.isAsking = true;
    // Refused when a battery is nearly empty, say: then it is as it was.
    const lock = (await navigator.wakeLock?.request('screen').catch(() => null)) ?? null;
    this.isAsking = false;
    if (this.isOver) void lock?.release();
    else this.lock = lock;
  }

  close(): void {
    this.isOver = true;
    document.removeEventListener('visibilitychange', this.shown);
    void this.lock?.release();
    this.lock = null;
  }
}
