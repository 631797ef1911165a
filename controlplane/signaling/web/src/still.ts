// How often a picture stood still, without the times when its sender had turned his camera off.

export class Still {
  /** The browser's count when the sender paused; null when he has not, or pictures came since. */
  private pausedAt: number | null = null;
  /** Pictures until then. */
  private frames = 0;
  private forgiven = 0;

  /** What the browser counted, made right. To be called again and again, also during a pause. */
  count(freezes: number, frames: number, isPaused: boolean): number {
    if (isPaused) {
      this.pausedAt ??= freezes;
      this.frames = frames;
    } else if (this.pausedAt !== null && frames > this.frames) {
      // The browser adds the pause when the first picture comes after it.
      this.forgiven += Math.min(1, freezes - this.pausedAt);
      this.pausedAt = null;
    }
    return (this.pausedAt ?? freezes) - this.forgiven;
  }
}
