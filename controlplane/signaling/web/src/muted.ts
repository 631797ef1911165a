// Who is muted and speaks is told so, now and then. It listens to a copy of the microphone's track,
// which stays in this page; what is sent stays silent.

import type { Call } from './call.ts';
import { LevelMeter } from './levels.ts';
import { Voices } from './voices.ts';

/** Once told, for so long not again. */
const TELL_MS_MIN = 30_000;

export class MutedHint {
  private call: Call;
  private tell: () => void;
  private meter: LevelMeter | null = null;
  private copy: MediaStreamTrack | null = null;
  private of: MediaStreamTrack | null = null;
  private told = -TELL_MS_MIN;

  constructor(call: Call, tell: () => void) {
    this.call = call;
    this.tell = tell;
  }

  /** The microphone changed, or was muted or not. */
  refresh(): void {
    const { local, micMuted, state } = this.call;
    const track = (micMuted && state !== 'left' && local.get('mic')) || null;
    if (track === this.of) return;
    this.close();
    if (!track) return;
    this.of = track;
    this.copy = track.clone();
    this.copy.enabled = true;
    const voices = new Voices();
    this.meter = new LevelMeter(this.copy, (level) => {
      const now = performance.now();
      if (!voices.hear('', level, now) || voices.speaking.length === 0 || now - this.told < TELL_MS_MIN) return;
      this.told = now;
      this.tell();
    });
  }

  close(): void {
    this.meter?.close();
    this.copy?.stop();
    this.meter = this.copy = this.of = null;
  }
}
