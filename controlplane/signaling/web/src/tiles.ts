// One tile: a person or a shared screen, with what belongs to it (name, quality, figures).

import { spatialLayerFor, type Quality } from './encodings.ts';
import type { Box } from './grid.ts';
import { icons } from './icons.ts';
import type { Line } from './lines.ts';
import { hueOf, initials } from './lobby.ts';
import { showLine } from './people-panel.ts';
import type { TileFigures } from './statistics.ts';
import type { RemoteTrack } from './tracks.ts';

export interface TileActions {
  pin: (tile: Tile) => void;
  quality: (tile: Tile) => void;
  firstFrame: (track: RemoteTrack, sinceMs: number) => void;
}

export class Tile {
  readonly element = document.createElement('div');
  readonly key: string;
  readonly isScreen: boolean;
  readonly isSelf: boolean;
  quality: Quality = 'auto';
  /** Layers were set from outside: the tile's size and its selection no longer count. */
  manual = false;
  /** The layer that was asked for last; none yet when undefined. */
  askedLayer: number | undefined;
  videoTrack: RemoteTrack | null = null;
  /** Where it ends in the stage. */
  bottom = 0;
  private shown = '';
  private isMuted = false;
  private video: HTMLVideoElement;
  private qualitySelect: HTMLSelectElement;
  private figures: HTMLElement;
  private actions: TileActions;

  constructor(key: string, name: string, kind: { isSelf: boolean; isScreen: boolean }, actions: TileActions) {
    this.key = key;
    this.isSelf = kind.isSelf;
    this.isScreen = kind.isScreen;
    this.actions = actions;
    this.element.className = `tile${kind.isSelf ? ' self' : ''}${kind.isScreen ? ' screen' : ''} no-video`;
    this.element.tabIndex = 0;
    this.element.setAttribute('role', 'group');
    this.element.setAttribute('aria-keyshortcuts', 'Enter');
    this.element.innerHTML = `
      <video playsinline autoplay muted></video>
      <div class="avatar"></div>
      <p class="wait">Your connection is too slow for this picture</p>
      <div class="tag"><span class="mic-state">${icons.micOff}</span><span class="who"></span><span class="line"></span></div>
      <div class="controls">
        <select title="Quality">
          <option value="auto">Auto</option><option value="high">High</option>
          <option value="medium">Medium</option><option value="low">Low</option>
        </select>
        <button class="small" data-pin>${icons.pin}</button>
      </div>
      <pre class="figures" hidden></pre>`;
    this.video = this.element.querySelector('video')!;
    this.figures = this.element.querySelector('.figures')!;
    this.qualitySelect = this.element.querySelector('select')!;
    this.qualitySelect.hidden = true;
    this.qualitySelect.onchange = () => {
      this.quality = this.qualitySelect.value as Quality;
      this.manual = false;
      actions.quality(this);
    };
    const pin = this.element.querySelector<HTMLButtonElement>('[data-pin]')!;
    pin.onclick = () => actions.pin(this);
    this.element.ondblclick = () => actions.pin(this);
    // A finger does not hover, and a small tile has no room for controls: a tap enlarges it.
    this.element.onclick = () => {
      if (matchMedia('(hover: none)').matches && this.element.classList.contains('tiny')) actions.pin(this);
    };
    this.setName(name);
  }

  /** Width by height of what is shown; undefined before there is a picture. */
  get aspect(): number | undefined {
    const { videoWidth, videoHeight } = this.video;
    return videoWidth && videoHeight ? videoWidth / videoHeight : undefined;
  }

  setName(name: string): void {
    const shown = this.isScreen ? `${name}${this.isSelf ? ' (your screen)' : '’s screen'}` : `${name}${this.isSelf ? ' (you)' : ''}`;
    if (this.shown === shown) return;
    this.shown = shown;
    this.element.querySelector('.who')!.textContent = shown;
    this.describe();
    const avatar = this.element.querySelector<HTMLElement>('.avatar')!;
    avatar.textContent = initials(name);
    this.element.style.setProperty('--hue', String(hueOf(name)));
  }

  /** What who listens is told of it. */
  private describe(): void {
    const { classList } = this.element;
    const states = [classList.contains('muted') && 'microphone off', classList.contains('pinned') && 'pinned'].filter(Boolean);
    this.element.setAttribute('aria-label', [this.shown, ...states].join(', '));
    const pin = this.element.querySelector<HTMLButtonElement>('[data-pin]')!;
    const label = classList.contains('pinned') ? `Unpin ${this.shown}` : `Pin ${this.shown}`;
    pin.setAttribute('aria-label', label);
    pin.title = `${label} (double click, Enter)`;
    this.qualitySelect.setAttribute('aria-label', `Quality of ${this.shown}`);
  }

  place(box: Box): void {
    this.bottom = box.top + box.height;
    const { style } = this.element;
    style.width = `${box.width}px`;
    style.height = `${box.height}px`;
    style.transform = `translate(${box.left}px, ${box.top}px)`;
    this.element.classList.toggle('tiny', box.width < 190 || box.height < 130);
  }

  /** What the own camera or screen sends. */
  showLocal(track: MediaStreamTrack | null): void {
    const shown = (this.video.srcObject as MediaStream | null)?.getVideoTracks()[0] ?? null;
    if (shown !== track) this.video.srcObject = track ? new MediaStream([track]) : null;
    this.element.classList.toggle('no-video', !track);
    // Who looks at himself expects a mirror; what the camera on the back sees has none.
    this.element.classList.toggle('mirror', !this.isScreen && track?.getSettings().facingMode !== 'environment');
  }

  showRemote(track: RemoteTrack | null): void {
    if (this.videoTrack === track) return;
    this.videoTrack = track;
    this.askedLayer = undefined;
    this.qualitySelect.hidden = (track?.spatialLayers ?? 1) < 2;
    this.video.srcObject = track ? new MediaStream([track.consumer.track]) : null;
    this.setPicture();
    if (!track) return;
    const attached = performance.now();
    const begun = () => {
      if (this.videoTrack !== track) return;
      this.element.classList.add('playing');
      this.actions.firstFrame(track, performance.now() - attached);
    };
    if ('requestVideoFrameCallback' in this.video) this.video.requestVideoFrameCallback(begun);
    else (this.video as HTMLVideoElement).addEventListener('loadeddata', begun, { once: true });
    void this.video.play().catch(() => {});
  }

  setPicture(): void {
    const track = this.videoTrack;
    const there = track !== null && !track.producerPaused && !track.leftOut;
    if (!this.isSelf) this.element.classList.toggle('no-video', !there);
    this.element.classList.toggle('starved', there && track.starved);
    if (!track) this.element.classList.remove('playing');
  }

  /** The layer that this tile should have, if it is another than the one asked for. */
  wantedLayer(): number | undefined {
    const track = this.videoTrack;
    if (!track || track.spatialLayers < 2 || this.manual) return undefined;
    const { clientWidth, clientHeight } = this.element;
    // A picture that is cut to fill its tile is wider than the tile.
    const shown = this.isScreen ? clientWidth : Math.max(clientWidth, clientHeight * (this.aspect ?? 16 / 9));
    const pixels = shown * Math.min(2, devicePixelRatio);
    const wanted = spatialLayerFor(this.quality, track.spatialLayers, pixels, track.width);
    // The server begins with the highest.
    if (wanted === (this.askedLayer ?? track.spatialLayers - 1)) return undefined;
    return wanted;
  }

  setMuted(muted: boolean): void {
    if (this.element.classList.toggle('muted', muted) !== this.isMuted) {
      this.isMuted = muted;
      this.describe();
    }
  }

  setSpeaking(speaking: boolean): void {
    this.element.classList.toggle('speaking', speaking);
  }

  /** Only what is not as it should be is shown on a picture. */
  setLine(line: Line): void {
    showLine(this.element.querySelector('.line')!, line, this.shown);
  }

  setPinned(pinned: boolean): void {
    if (this.element.classList.contains('pinned') === pinned) return;
    this.element.classList.toggle('pinned', pinned);
    this.describe();
  }

  showFigures(list: TileFigures[] | null): void {
    this.figures.hidden = list === null;
    if (list) this.figures.textContent = list.map(lines).join('\n') || 'no media';
  }
}

function lines(figures: TileFigures): string {
  const parts: string[] = [];
  const rate = figures.bitrateBps >= 1_000_000 ? `${(figures.bitrateBps / 1e6).toFixed(2)} Mb/s` : `${Math.round(figures.bitrateBps / 1000)} kb/s`;
  if (figures.kind === 'video') {
    const size = figures.width ? `${figures.width}×${figures.height}` : 'no picture';
    parts.push(`${size}, ${Math.round(figures.fps ?? 0)} pictures/s, ${figures.codec ?? ''}`);
    parts.push(`${rate}${figures.layer ? `, ${figures.layer}` : ''}`);
  } else {
    parts.push(`sound, ${rate}, ${figures.codec ?? ''}`);
  }
  const quality: string[] = [];
  if (figures.lossPercent !== undefined) quality.push(`${figures.lossPercent.toFixed(1)} % lost`);
  if (figures.kind === 'audio') return [parts[0], ...quality].join(', ');
  if (figures.roundTripMs !== undefined) quality.push(`${Math.round(figures.roundTripMs)} ms there and back`);
  if (figures.freezeCount) quality.push(`stood still ${figures.freezeCount}×`);
  if (quality.length > 0) parts.push(quality.join(', '));
  return parts.join('\n');
}

