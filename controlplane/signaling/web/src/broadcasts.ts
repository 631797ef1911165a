// What others may see of a room: whether it is watched or recorded now, and the buttons for it. The
// badges are there for everybody in the call.

import type { Signaling } from './signaling.ts';
import { icons } from './icons.ts';
import { toast } from './toasts.ts';
import type { Look } from './tools.ts';

export type Kind = 'hls' | 'recording';

export interface Broadcast {
  kind: Kind;
  broadcastId: string;
  state: 'starting' | 'live' | 'interrupted' | 'ended' | 'failed';
  url?: string;
  error?: { code: string; message: string };
}

const WORDS = {
  hls: { name: 'broadcast', badge: 'Live', on: 'This call is being broadcast', off: 'The broadcast is over' },
  recording: { name: 'recording', badge: 'Rec', on: 'This call is being recorded', off: 'The recording is over' },
};

export class Broadcasts {
  /** Those that run, by kind. */
  readonly running = new Map<Kind, Broadcast>();
  /** What the last recording was written to. */
  recorded = '';
  changed: () => void = () => {};
  private signaling: Signaling;
  private layout: () => 'speaker' | 'grid' = () => 'speaker';

  constructor(signaling: Signaling) {
    this.signaling = signaling;
    signaling.socket.on('broadcast-changed', (told: Broadcast) => this.told(told));
  }

  /** What the answer to a join says. */
  sync(all: Broadcast[] = []): void {
    this.running.clear();
    for (const one of all) this.running.set(one.kind, one);
    this.changed();
  }

  private told(told: Broadcast): void {
    const words = WORDS[told.kind];
    if (!words) return;
    const isOver = told.state === 'ended' || told.state === 'failed';
    const isNew = !this.running.has(told.kind);
    if (isOver) this.running.delete(told.kind);
    else this.running.set(told.kind, told);
    if (told.error) toast(`The ${words.name}: ${told.error.message}`, 'error');
    else if (isNew && !isOver) toast(words.on);
    if (isOver && told.kind === 'recording' && told.url) {
      const { url } = told;
      this.recorded = url;
      toast('The recording is ready', 'info', { label: 'Open', run: () => void window.open(url, '_blank', 'noopener') });
    } else if (told.state === 'ended') toast(words.off);
    this.changed();
  }

  /** Begins what does not run, ends what does. */
  async toggle(kind: Kind, layout = this.layout()): Promise<void> {
    if (this.running.has(kind)) await this.signaling.request('stopBroadcast', { kind });
    else await this.signaling.request('startBroadcast', { kind, layout });
  }

  /** Which layout a new one gets. */
  chooseLayout(layout: () => 'speaker' | 'grid'): void {
    this.layout = layout;
  }

  /** Shows what runs; the broadcast's badge is the way to watch it. */
  showBadges(place: HTMLElement, room: string): void {
    place.replaceChildren();
    for (const kind of this.running.keys()) {
      const words = WORDS[kind];
      const badge = document.createElement(kind === 'hls' ? 'a' : 'span');
      badge.className = `on-air ${kind}`;
      badge.innerHTML = '<i></i>';
      badge.append(words.badge);
      badge.title = words.on;
      badge.setAttribute('aria-label', `${words.badge}: ${words.on}`);
      if (badge instanceof HTMLAnchorElement) {
        badge.href = `/watch.html?${new URLSearchParams({ room })}`;
        badge.target = '_blank';
        badge.rel = 'noopener';
      } else badge.setAttribute('role', 'img');
      place.append(badge);
    }
  }

  /** How the two buttons look. */
  get buttons(): { broadcast: Look; record: Look } {
    const [isLive, isRecorded] = [this.running.has('hls'), this.running.has('recording')];
    return {
      broadcast: { icon: icons.broadcast, label: isLive ? 'Stop the broadcast' : 'Broadcast this call', on: isLive },
      record: { icon: icons.record, label: isRecorded ? 'Stop recording' : 'Record this call', on: isRecorded },
    };
  }
}
