// The second screen: everybody's tiles, and the buttons below them.

import type { Call } from './call.ts';
import { ChatPanel } from './chat-panel.ts';
import { inWords, isOwnWish, openCamera, openMic, openScreen, rememberedDevices } from './devices.ts';
import { focusBoxes, gridBoxes } from './grid.ts';
import { icons } from './icons.ts';
import type { Options } from './options.ts';
import { Statistics } from './statistics.ts';
import { Tile, type TileActions } from './tiles.ts';
import { toast } from './toasts.ts';
import type { RemoteTrack, Source } from './tracks.ts';

const GAP = 10;
const FIGURES_MS = 1_000;
/** Tiles move when people come and go: layers are asked for when they have come to rest. */
const SETTLE_MS = 400;

const STATE_TEXT = {
  connecting: 'Connecting…',
  connected: 'Connected',
  reconnecting: 'Reconnecting…',
  left: 'Left',
};

/** The beginning of a message, on one line. */
function shorten(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  return line.length > 80 ? `${[...line].slice(0, 79).join('')}…` : line;
}

export class Room {
  readonly statistics: Statistics;
  private tiles = new Map<string, Tile>();
  private sounds = new Map<string, HTMLAudioElement>();
  private pinned: string | null = null;
  private showsFigures: boolean;
  private timer: ReturnType<typeof setInterval>;
  private settle: ReturnType<typeof setTimeout> | undefined;
  private resizes: ResizeObserver;
  private chat: ChatPanel;
  private stage: HTMLElement;
  private app: HTMLElement;
  private call: Call;
  private options: Options;
  private left: () => void;
  private onKey = (event: KeyboardEvent) => this.key(event);

  constructor(app: HTMLElement, call: Call, options: Options, left: () => void) {
    this.app = app;
    this.call = call;
    this.options = options;
    this.left = left;
    this.showsFigures = options.stats;
    this.statistics = new Statistics(call);
    app.innerHTML = `
      <main class="room">
        <header class="bar">
          <span class="brand compact">${icons.logo}<span>Ironcast</span></span>
          <span class="room-name"></span>
          <span class="spacer"></span>
          <span class="badges" role="status"></span>
          <span class="people" title="People in this room"></span>
          <span class="state" data-state="connecting"><i></i><span>Connecting…</span></span>
        </header>
        <section class="stage" aria-label="Participants"></section>
        <div class="alone" hidden>
          <p><b>You’re the only one here.</b> Send the link to whoever should join.</p>
          <button class="primary" data-do="invite">${icons.link}<span>Copy invite link</span></button>
        </div>
        <nav class="tools" aria-label="Call">
          <button class="round" data-do="mic"></button>
          <button class="round" data-do="camera"></button>
          <button class="round" data-do="screen"></button>
          <button class="round" data-do="chat" aria-controls="chat"></button>
          <button class="round" data-do="broadcast"></button>
          <button class="round" data-do="record"></button>
          <button class="round" data-do="stats"></button>
          <button class="round" data-do="invite" title="Copy invite link (I)" aria-label="Copy invite link">${icons.link}</button>
          <button class="round danger" data-do="leave" title="Leave the call" aria-label="Leave the call">${icons.leave}</button>
        </nav>
      </main>`;
    this.stage = app.querySelector('.stage')!;
    this.chat = new ChatPanel(call.chat, () => this.chatToggled());
    app.querySelector('.room')!.append(this.chat.element);
    call.chat.arrived = ({ name, content }) => {
      this.chat.arrived();
      if (!this.chat.isOpen) toast(`${name}: ${shorten(content)}`);
    };
    call.broadcasts.changed = () => this.refreshTools();
    // As it is seen here: one large, or all.
    call.broadcasts.chooseLayout(() => (this.pinned ? 'speaker' : 'grid'));
    app.querySelector('.room-name')!.textContent = options.room;
    for (const button of app.querySelectorAll<HTMLButtonElement>('[data-do]')) {
      button.onclick = () => void this.run(button.dataset.do!);
    }
    document.addEventListener('keydown', this.onKey);
    this.resizes = new ResizeObserver(() => this.arrange());
    this.resizes.observe(this.stage);
    this.listen();
    this.timer = setInterval(() => void this.refreshFigures(), FIGURES_MS);
    this.refresh();
  }

  private listen(): void {
    this.call.on('state', () => this.refresh());
    this.call.on('participants', () => this.refresh());
    this.call.on('localChanged', () => this.refresh());
    this.call.on('mode', () => this.refresh());
    this.call.on('speaking', () => this.showSpeaking());
    this.call.on('trackAdded', (track) => this.added(track));
    this.call.on('trackRemoved', (track) => this.removed(track));
    this.call.on('trackChanged', () => this.refresh());
    this.call.on('problem', (text) => toast(text, 'error'));
    this.call.on('ended', (text) => {
      toast(text, 'error');
      void this.leave();
    });
  }

  private ownerOf(tile: Tile): string {
    const id = tile.key.slice(0, tile.key.lastIndexOf('/'));
    return id === 'self' ? this.call.participantId : id;
  }

  // ---- tracks to tiles ---------------------------------------------------------------------

  private added(track: RemoteTrack): void {
    if (track.consumer.kind === 'audio') this.hear(track);
    this.refresh();
    if (track.source === 'screen' && track.consumer.kind === 'video') {
      const name = this.call.participants.get(track.participantId)?.name ?? 'Someone';
      toast(`${name} is sharing a screen`);
    }
  }

  private removed(track: RemoteTrack): void {
    const sound = this.sounds.get(track.consumer.id);
    if (sound) {
      sound.srcObject = null;
      sound.remove();
      this.sounds.delete(track.consumer.id);
    }
    this.refresh();
  }

  private hear(track: RemoteTrack): void {
    const sound = document.createElement('audio');
    sound.autoplay = true;
    sound.srcObject = new MediaStream([track.consumer.track]);
    this.app.append(sound);
    this.sounds.set(track.consumer.id, sound);
    sound.play().catch((error: DOMException) => {
      if (error.name !== 'NotAllowedError') return;
      toast('The browser muted this page.', 'error', {
        label: 'Turn sound on',
        run: () => this.sounds.forEach((each) => void each.play().catch(() => {})),
      });
    });
  }

  /** Brings the tiles in step with the call. */
  private refresh(): void {
    if (this.call.state === 'left') return;
    const wanted = new Map<string, { name: string; isSelf: boolean; isScreen: boolean }>();
    wanted.set('self/person', { name: this.options.name, isSelf: true, isScreen: false });
    if (this.call.local.has('screen')) {
      wanted.set('self/screen', { name: this.options.name, isSelf: true, isScreen: true });
    }
    for (const { id, name } of this.call.participants.values()) {
      wanted.set(`${id}/person`, { name, isSelf: false, isScreen: false });
    }
    for (const { participantId, source, consumer } of this.call.consumers.values()) {
      if (source !== 'screen' || consumer.kind !== 'video') continue;
      const name = this.call.participants.get(participantId)?.name ?? 'Guest';
      wanted.set(`${participantId}/screen`, { name, isSelf: false, isScreen: true });
    }
    for (const [key, tile] of this.tiles) {
      if (wanted.has(key)) continue;
      tile.showRemote(null);
      tile.element.remove();
      this.tiles.delete(key);
      if (this.pinned === key) this.pinned = null;
    }
    for (const [key, kind] of wanted) {
      let tile = this.tiles.get(key);
      if (!tile) {
        tile = new Tile(key, kind.name, kind, this.actions());
        this.tiles.set(key, tile);
        this.stage.append(tile.element);
      }
      tile.setName(kind.name);
    }
    for (const tile of this.tiles.values()) this.fill(tile);
    this.showSpeaking();
    this.refreshTools();
    this.arrange();
  }

  private showSpeaking(): void {
    for (const tile of this.tiles.values()) {
      tile.setSpeaking(!tile.isScreen && this.call.speaking.has(this.ownerOf(tile)));
    }
  }

  private actions(): TileActions {
    return {
      pin: (tile) => {
        this.pinned = this.pinned === tile.key ? null : tile.key;
        this.arrange();
      },
      quality: () => this.askLayers(),
      firstFrame: (track, sinceMs) => {
        // Now the picture's shape is known.
        this.arrange();
        const { participantId, producerId, source } = track;
        const consumerId = track.consumer.id;
        this.call.step('firstFrame', { consumerId, producerId, participantId, source, sinceMs });
      },
    };
  }

  private fill(tile: Tile): void {
    const source: Source = tile.isScreen ? 'screen' : 'camera';
    if (tile.isSelf) {
      tile.showLocal(this.call.local.get(source) ?? null);
      tile.setMuted(!tile.isScreen && (this.call.micMuted || !this.call.local.has('mic')));
      return;
    }
    const owner = this.ownerOf(tile);
    const tracks = [...this.call.consumers.values()].filter((track) => track.participantId === owner);
    tile.showRemote(tracks.find((track) => track.source === source && track.consumer.kind === 'video') ?? null);
    tile.setPicture();
    const voice = tracks.find((track) => track.source === 'mic');
    tile.setMuted(!tile.isScreen && (!voice || voice.producerPaused));
  }

  // ---- layout ------------------------------------------------------------------------------

  private arrange(): void {
    const area = { left: 0, top: 0, width: this.stage.clientWidth, height: this.stage.clientHeight };
    // Others first, the own tile last: a newcomer does not push everybody along.
    const all = [...this.tiles.values()].sort((a, b) => Number(a.isSelf) - Number(b.isSelf));
    const shared = all.filter((tile) => tile.isScreen && !tile.isSelf).at(-1) ?? all.find((tile) => tile.isScreen);
    const focus = (this.pinned && this.tiles.get(this.pinned)) || shared;
    if (focus && all.length > 1) {
      const others = all.filter((tile) => tile !== focus);
      // A shared screen is shown whole; of a person somewhat more than the face is enough.
      const boxes = focusBoxes(others.length, area, GAP, focus.isScreen ? focus.aspect : 1);
      focus.place(boxes.main);
      others.forEach((tile, index) => tile.place(boxes.others[index]));
    } else {
      const boxes = gridBoxes(all.length, area, GAP);
      all.forEach((tile, index) => tile.place(boxes[index]));
    }
    for (const tile of all) {
      tile.element.classList.toggle('focus', tile === focus && all.length > 1);
      tile.setPinned(tile.key === this.pinned);
    }
    clearTimeout(this.settle);
    this.settle = setTimeout(() => this.askLayers(), SETTLE_MS);
  }

  /** Asks for the layers that the tiles can show, where that changed. */
  private askLayers(): void {
    for (const tile of this.tiles.values()) {
      const layer = tile.wantedLayer();
      if (layer === undefined || !tile.videoTrack) continue;
      tile.askedLayer = layer;
      const { consumer, temporalLayers } = tile.videoTrack;
      void this.call.setPreferredLayers(consumer.id, layer, temporalLayers - 1).catch(() => {
        tile.askedLayer = undefined;
      });
    }
  }

  /** Somebody else (the debugging hook) asked for layers: this tile is no longer automatic. */
  layersWereSet(consumerId: string, layer: number): void {
    for (const tile of this.tiles.values()) {
      if (tile.videoTrack?.consumer.id !== consumerId) continue;
      tile.manual = true;
      tile.askedLayer = layer;
    }
  }

  // ---- buttons -----------------------------------------------------------------------------

  private refreshTools(): void {
    const { call } = this;
    const set = (name: string, on: boolean, icon: string, label: string, key: string) => {
      const button = this.app.querySelector<HTMLButtonElement>(`.tools [data-do=${name}]`)!;
      button.innerHTML = icon;
      button.setAttribute('aria-pressed', String(on));
      button.setAttribute('aria-label', label);
      button.title = `${label} (${key})`;
    };
    const mic = call.local.has('mic') && !call.micMuted;
    const camera = call.local.has('camera');
    const screen = call.local.has('screen');
    set('mic', mic, mic ? icons.mic : icons.micOff, mic ? 'Mute' : 'Unmute', 'M');
    set('camera', camera, camera ? icons.camera : icons.cameraOff, camera ? 'Camera off' : 'Camera on', 'V');
    set('screen', screen, screen ? icons.screenOff : icons.screen, screen ? 'Stop sharing' : 'Share screen', 'S');
    set('stats', this.showsFigures, icons.stats, 'Statistics', 'D');
    const { unread, isOpen } = this.chat;
    const label = isOpen ? 'Close the chat' : unread ? `Open the chat, ${unread} unread` : 'Open the chat';
    set('chat', isOpen, icons.chat + (unread ? `<i class="badge">${unread > 99 ? '99+' : unread}</i>` : ''), label, 'C');
    const chat = this.app.querySelector('[data-do=chat]')!;
    chat.setAttribute('aria-expanded', String(isOpen));
    chat.classList.toggle('active', isOpen);
    this.app.querySelector('[data-do=screen]')!.classList.toggle('active', screen);
    this.app.querySelector('[data-do=stats]')!.classList.toggle('active', this.showsFigures);
    call.broadcasts.showButtons((name) => this.app.querySelector<HTMLButtonElement>(`.tools [data-do=${name}]`)!);
    call.broadcasts.showBadges(this.app.querySelector<HTMLElement>('.badges')!, this.options.room);
    const count = call.participants.size + 1;
    this.app.querySelector('.people')!.textContent = count === 1 ? '1 person' : `${count} people`;
    const state = this.app.querySelector<HTMLElement>('.state')!;
    state.dataset.state = call.state;
    state.lastElementChild!.textContent = STATE_TEXT[call.state];
    state.title = call.mode === 'p2p' ? 'Directly, from browser to browser' : 'Through the media server';
    const alone = this.app.querySelector<HTMLElement>('.alone')!;
    alone.hidden = call.participants.size > 0 || call.state !== 'connected' || screen;
  }

  private key(event: KeyboardEvent): void {
    const typing = (event.target as HTMLElement).closest('input, select, textarea');
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' && this.chat.isOpen) return this.chat.toggle(false);
    if (event.key === 'Enter' && event.target instanceof HTMLElement && event.target.matches('.tile')) {
      event.target.ondblclick?.(new MouseEvent('dblclick'));
      return;
    }
    const actions: Record<string, string> = {
      m: 'mic', v: 'camera', s: 'screen', d: 'stats', i: 'invite', c: 'chat', b: 'broadcast', r: 'record',
    };
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    // The key that opens the chat is not its first letter.
    event.preventDefault();
    void this.run(action);
  }

  private async run(action: string): Promise<void> {
    try {
      switch (action) {
        case 'mic':
          return await this.toggleMic();
        case 'camera':
          return await this.toggleCamera();
        case 'screen':
          return await this.toggleScreen();
        case 'stats':
          this.showsFigures = !this.showsFigures;
          this.refreshTools();
          return await this.refreshFigures();
        case 'broadcast':
          return await this.call.broadcasts.toggle('hls');
        case 'record':
          return await this.call.broadcasts.toggle('recording');
        case 'chat':
          return this.chat.toggle();
        case 'invite':
          return await this.invite();
        case 'leave':
          return await this.leave();
      }
    } catch (error) {
      toast(error instanceof Error ? error.message : String(error), 'error');
    }
  }

  private chatToggled(): void {
    this.refreshTools();
    this.arrange();
    const { activeElement } = document;
    if (!this.chat.isOpen && (activeElement === document.body || this.chat.element.contains(activeElement))) {
      this.app.querySelector<HTMLElement>('[data-do=chat]')!.focus();
    }
  }

  private async toggleMic(): Promise<void> {
    if (this.call.local.has('mic')) return this.call.setMicMuted(!this.call.micMuted);
    const track = await openMic(rememberedDevices().mic).catch((error) => {
      throw new Error(inWords(error, 'microphone'));
    });
    this.call.micMuted = false;
    return this.call.setTrack('mic', track);
  }

  private async toggleCamera(): Promise<void> {
    if (this.call.local.has('camera')) return this.call.setTrack('camera', null);
    const track = await openCamera(this.options, rememberedDevices().camera).catch((error) => {
      throw new Error(inWords(error, 'camera'));
    });
    return this.call.setTrack('camera', track);
  }

  private async toggleScreen(): Promise<void> {
    if (this.call.local.has('screen')) return this.call.setTrack('screen', null);
    const track = await openScreen().catch((error) => {
      if (isOwnWish(error)) return null;
      throw new Error(inWords(error, 'screen'));
    });
    if (!track) return;
    track.onended = () => void this.call.setTrack('screen', null);
    return this.call.setTrack('screen', track);
  }

  private async invite(): Promise<void> {
    const link = new URL(location.href);
    link.search = new URLSearchParams({ room: this.options.room }).toString();
    link.hash = '';
    try {
      await navigator.clipboard.writeText(link.href);
      toast('Invite link copied');
    } catch {
      prompt('Copy this link:', link.href);
    }
  }

  async leave(): Promise<void> {
    await this.call.leave();
    this.close();
    this.left();
  }

  private async refreshFigures(): Promise<void> {
    const figures = this.showsFigures ? await this.statistics.tiles() : null;
    for (const tile of this.tiles.values()) {
      const owner = this.ownerOf(tile);
      tile.showFigures(
        figures &&
          figures.filter((each) => each.participantId === owner && (each.source === 'screen') === tile.isScreen),
      );
    }
  }

  private close(): void {
    clearInterval(this.timer);
    clearTimeout(this.settle);
    this.resizes.disconnect();
    document.removeEventListener('keydown', this.onKey);
    this.sounds.forEach((sound) => (sound.srcObject = null));
  }
}
