// Who speaks: the own level from the microphone, the others' from what their packets say.

import type { Call } from './call.ts';

const LOOK_MS = 150;
/** Louder than this counts as speaking (0 to 1, linear). */
const SPEAKING_MIN = 0.02;
/** A short pause between words is still speaking. */
const HOLD_MS = 600;

/** The level of a local track. */
export class LevelMeter {
  private context: AudioContext;
  private timer: ReturnType<typeof setInterval>;

  constructor(track: MediaStreamTrack, tell: (level: number) => void) {
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 512;
    this.context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      tell(Math.sqrt(power));
    }, 80);
  }

  close(): void {
    clearInterval(this.timer);
    void this.context.close();
  }
}

/** Tells, several times a second, whose voice is heard. */
export class Speakers {
  private heard = new Map<string, number>();
  private timer: ReturnType<typeof setInterval>;
  private own: LevelMeter | null = null;
  private ownTrack: MediaStreamTrack | undefined;
  private call: Call;

  constructor(call: Call, tell: (speaking: Set<string>) => void) {
    this.call = call;
    this.timer = setInterval(() => tell(this.look()), LOOK_MS);
  }

  private look(): Set<string> {
    const now = performance.now();
    this.followOwn();
    for (const track of this.call.consumers.values()) {
      if (track.consumer.kind !== 'audio' || track.producerPaused) continue;
      const sources = track.consumer.rtpReceiver?.getSynchronizationSources() ?? [];
      const level = Math.max(0, ...sources.map((source) => source.audioLevel ?? 0));
      if (level > SPEAKING_MIN) this.heard.set(track.participantId, now);
    }
    const speaking = new Set<string>();
    for (const [id, time] of this.heard) {
      if (now - time < HOLD_MS) speaking.add(id);
      else this.heard.delete(id);
    }
    return speaking;
  }

  private followOwn(): void {
    const track = this.call.local.get('mic');
    if (track === this.ownTrack) return;
    this.own?.close();
    this.ownTrack = track;
    this.own = track
      ? new LevelMeter(track, (level) => {
          if (level > SPEAKING_MIN && !this.call.micMuted) this.heard.set(this.call.participantId, performance.now());
        })
      : null;
  }

  close(): void {
    clearInterval(this.timer);
    this.own?.close();
  }
}
