// Who speaks while two talk directly: no server hears them, so each browser listens for itself, to the
// levels of what it sends and of what it receives.

import { LevelMeter } from './levels.ts';
import type { RemoteTrack } from './tracks.ts';

/** About -45 dB: above it somebody speaks, or a door slams. */
const LOUD = 0.0056;
/** So long somebody has to be loud until he counts as speaking, and silent until he does not. */
const BEGIN_MS = 300;
const END_MS = 600;
/** Looks that are further apart say nothing about the time between. */
const STEP_MS_MAX = 200;
const LOOK_MS = 50;

/** Levels in, speakers out. Short noises do not count, and pauses between words do not end a voice. */
export class Voices {
  private known = new Map<string, { at: number; share: number; speaks: boolean }>();

  /** `level`: 0 to 1, of the last moment. Gives whether somebody began or ended. */
  hear(id: string, level: number, now: number): boolean {
    const voice = this.known.get(id) ?? { at: now, share: 0, speaks: false };
    this.known.set(id, voice);
    const ms = Math.min(now - voice.at, STEP_MS_MAX);
    voice.at = now;
    const change = level > LOUD ? ms / BEGIN_MS : -ms / END_MS;
    voice.share = Math.min(1, Math.max(0, voice.share + change));
    const speaks = voice.speaks ? voice.share > 0 : voice.share >= 1;
    const isNew = speaks !== voice.speaks;
    voice.speaks = speaks;
    return isNew;
  }

  get speaking(): string[] {
    return [...this.known].filter(([, { speaks }]) => speaks).map(([id]) => id);
  }
}

export interface VoicesOptions {
  ownId: () => string;
  /** The own microphone, also while it is muted. */
  mic: () => MediaStreamTrack | null;
  /** What comes of the other one's. */
  remote: () => RemoteTrack[];
  changed: (participantIds: string[]) => void;
}

/** Listens until it is closed. */
export class DirectVoices {
  private voices = new Voices();
  private options: VoicesOptions;
  private meter: LevelMeter | null = null;
  private metered: MediaStreamTrack | null = null;
  private level = 0;
  /** Participant to the time of the newest packet. */
  private heard = new Map<string, number>();
  private timer: ReturnType<typeof setInterval>;

  constructor(options: VoicesOptions) {
    this.options = options;
    this.timer = setInterval(() => this.look(), LOOK_MS);
  }

  private look(): void {
    const { ownId, mic, remote, changed } = this.options;
    const now = performance.now();
    const own = mic();
    if (own !== this.metered) {
      this.meter?.close();
      this.level = 0;
      this.metered = own;
      this.meter = own ? new LevelMeter(own, (level) => (this.level = level)) : null;
    }
    let isNew = this.voices.hear(ownId(), own?.enabled ? this.level : 0, now);
    for (const other of remote()) isNew = this.voices.hear(other.participantId, this.levelOf(other), now) || isNew;
    if (isNew) changed(this.voices.speaking);
  }

  /** As its sender wrote it into the packets, or as it was decoded; none when nothing new came. */
  private levelOf({ consumer, participantId, producerPaused }: RemoteTrack): number {
    const newest = consumer.rtpReceiver?.getSynchronizationSources()[0];
    const isNew = newest !== undefined && newest.rtpTimestamp !== this.heard.get(participantId);
    this.heard.set(participantId, newest?.rtpTimestamp ?? 0);
    return isNew && !producerPaused ? (newest.audioLevel ?? 0) : 0;
  }

  close(): void {
    clearInterval(this.timer);
    this.meter?.close();
  }
}
