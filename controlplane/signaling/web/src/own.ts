// What one sends of oneself, as the buttons say. To open a device takes a while, or waits until the
// browser has asked: afterwards it is looked at whether it is still wanted. Knows nothing of the screen.

import type { Call } from './call.ts';
import { nameOf, type Source } from './tracks.ts';

/** Ways to a device; each fails in words for people. */
export interface Devices {
  open: (source: Source) => Promise<MediaStreamTrack | null>;
  /** Another microphone, when the one in use is gone; none where people would be asked first. */
  nextMic: () => Promise<MediaStreamTrack | null>;
  otherCamera: (now: MediaStreamTrack) => Promise<MediaStreamTrack>;
}

export interface OwnOptions {
  call: Pick<Call, 'local' | 'micMuted' | 'setTrack' | 'setMicMuted' | 'maySend'>;
  devices: Devices;
  /** What is on, or about to be, changed. */
  changed: () => void;
  tell: (text: string, kind: 'info' | 'error') => void;
}

export class Own {
  private options: OwnOptions;
  private opening = new Set<Source>();
  /** Counts what was wanted of each: an older wish that is fulfilled late is not wanted any more. */
  private wishes = new Map<Source, number>();
  private watched = new WeakSet<MediaStreamTrack>();

  constructor(options: OwnOptions) {
    this.options = options;
  }

  /** On, or about to be. */
  isOn(source: Source): boolean {
    const { local, micMuted } = this.options.call;
    return this.opening.has(source) || (local.has(source) && (source !== 'mic' || !micMuted));
  }

  /** Gives whether it is still the newest wish. */
  private wish(source: Source): () => boolean {
    const count = (this.wishes.get(source) ?? 0) + 1;
    this.wishes.set(source, count);
    this.opening.delete(source);
    return () => this.wishes.get(source) === count;
  }

  /** The button of a source was pressed. */
  async toggle(source: Source): Promise<void> {
    const { call, devices } = this.options;
    if (!call.maySend) return this.options.tell('You are here to watch and to listen.', 'info');
    if (source === 'mic' && call.local.has('mic')) return call.setMicMuted(!call.micMuted);
    const wasOpening = this.opening.has(source);
    const isWanted = this.wish(source);
    if (call.local.has(source)) return call.setTrack(source, null);
    if (wasOpening) return this.options.changed();
    this.opening.add(source);
    this.options.changed();
    let track: MediaStreamTrack | null = null;
    try {
      track = await devices.open(source);
    } finally {
      if (isWanted()) this.opening.delete(source);
      this.options.changed();
    }
    if (!track || !isWanted()) return track?.stop();
    if (source === 'mic') call.micMuted = false;
    // The browser has a button of its own to stop sharing.
    if (source === 'screen') track.onended = () => void this.ended(source, track);
    await call.setTrack(source, track);
  }

  private async ended(source: Source, track: MediaStreamTrack): Promise<void> {
    if (this.options.call.local.get(source) === track) await this.options.call.setTrack(source, null);
  }

  /** Another device for what is on. What is off stays off, and the newest choice counts. */
  async replace(source: Source, open: () => Promise<MediaStreamTrack>): Promise<void> {
    const { call } = this.options;
    if (!call.local.has(source)) return;
    const isWanted = this.wish(source);
    const track = await open();
    if (isWanted() && call.local.has(source)) await call.setTrack(source, track);
    else track.stop();
  }

  /** From the front to the back, or to the next one. */
  async flip(): Promise<void> {
    const { call, devices } = this.options;
    const now = call.local.get('camera');
    if (!now) return;
    try {
      await this.replace('camera', () => devices.otherCamera(now));
    } catch (error) {
      // A phone has one camera open at a time: the one that was is off already.
      if (call.local.get('camera') === now) await call.setTrack('camera', null);
      throw error;
    }
  }

  /** A device that is pulled out ends its track, and says nothing. */
  watch(): void {
    for (const source of ['mic', 'camera'] as const) {
      const track = this.options.call.local.get(source);
      if (!track || this.watched.has(track)) continue;
      this.watched.add(track);
      track.addEventListener('ended', () => void this.lost(source, track));
    }
  }

  private async lost(source: 'mic' | 'camera', track: MediaStreamTrack): Promise<void> {
    const { call, devices, tell } = this.options;
    const isUsed = () => call.local.get(source) === track;
    if (!isUsed()) return;
    if (source === 'mic') {
      const isWanted = this.wish('mic');
      const next = await devices.nextMic().catch(() => null);
      if (next && isWanted() && isUsed()) {
        tell(`Your microphone is gone. ${next.label || 'Another one'} is used now.`, 'info');
        return call.setTrack('mic', next);
      }
      next?.stop();
      if (!isUsed()) return;
    }
    tell(`Your ${nameOf(source)} is gone: it was unplugged, or its permission was taken back.`, 'error');
    await call.setTrack(source, null);
  }
}
