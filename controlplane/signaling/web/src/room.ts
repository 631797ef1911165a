// The second screen: everybody's tiles, and what lies around them.

import { Awake } from './awake.ts';
import { Banner } from './banner.ts';
import type { Call, CallState } from './call.ts';
import { ChatPanel } from './chat-panel.ts';
import {
  inWords, isOwnWish, listDevices, openCamera, openMic, openNextMic, openOtherCamera, openScreen, rememberedDevices,
} from './devices.ts';
import { closeDialogs } from './dialog.ts';
import { focusBoxes, roomyBoxes } from './grid.ts';
import { Hallway } from './hallway.ts';
import { toggleHelp } from './help.ts';
import { icons } from './icons.ts';
import type { Action } from './keys.ts';
import { Lines, type Line } from './lines.ts';
import { remember, remembered, type Options } from './options.ts';
import { MutedHint } from './muted.ts';
import { Own } from './own.ts';
import { PeoplePanel } from './people-panel.ts';
import { openSettings } from './settings.ts';
import { Sounds } from './sounds.ts';
import { Spotlight } from './spotlight.ts';
import { linesNow, Statistics, type TileFigures } from './statistics.ts';
import { toggleTheme } from './theme.ts';
import { Tile, type TileActions } from './tiles.ts';
import { toast } from './toasts.ts';
import { Tools } from './tools.ts';
import { nameOf, type RemoteTrack, type Source } from './tracks.ts';

const GAP = 10;
const FIGURES_MS = 1_000;
/** Figures that nobody reads are for the quality of the lines alone. */
const FIGURES_UNSEEN_EACH = 2;
/** Tiles move when people come and go: layers are asked for when they have come to rest. */
const SETTLE_MS = 400;

const STATE_TEXT: Record<CallState, string> = {
  connecting: 'Connecting…',
  waiting: 'Waiting…',
  connected: 'Connected',
  reconnecting: 'Reconnecting…',
  left: 'Left',
};

const MODES = {
  p2p: { name: 'Direct', word: 'P2P', title: 'Sound and picture go directly, from browser to browser' },
  sfu: { name: 'Server', word: 'SFU', title: 'Sound and picture go through the media server' },
};

/** What who waits for a place can do. */
const HALLWAY_ACTIONS: ReadonlySet<Action> = new Set(['mic', 'camera', 'flip', 'devices', 'theme', 'help', 'leave']);

/** The beginning of a message, on one line. */
function shorten(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  return line.length > 80 ? `${[...line].slice(0, 79).join('')}…` : line;
}

export class Room {
  readonly statistics: Statistics;
  private tiles = new Map<string, Tile>();
  private sounds: Sounds;
  private own: Own;
  private awake = new Awake();
  /** Cameras that there are. */
  private cameras = 0;
  private pinned: string | null = null;
  private followsSpeaker = remembered('layout') === 'speaker';
  private spotlight = new Spotlight();
  private showsFigures: boolean;
  private looks = 0;
  private lines = new Lines();
  private shownLines = new Map<string, Line>();
  /** Who was there at the last look, to tell who came and went; null before the first one. */
  private seen: Map<string, string> | null = null;
  private talksByKey = false;
  private maySend = true;
  private isOver = false;
  private timer: ReturnType<typeof setInterval>;
  private settle: ReturnType<typeof setTimeout> | undefined;
  private resizes: ResizeObserver;
  private chat: ChatPanel;
  private people: PeoplePanel;
  private hallway: Hallway;
  private banner: Banner;
  private tools: Tools;
  private muted: MutedHint;
  private stage: HTMLElement;
  private app: HTMLElement;
  private call: Call;
  private options: Options;
  private left: (problem?: string) => void;
  private count = () => void this.countCameras();

  constructor(app: HTMLElement, call: Call, options: Options, left: (problem?: string) => void) {
    this.app = app;
    this.call = call;
    this.options = options;
    this.left = left;
    this.showsFigures = options.stats;
    this.statistics = new Statistics(call);
    app.innerHTML = `
      <main class="room">
        <a class="skip" href="#tools">To the buttons</a>
        <header class="bar">
          <span class="brand compact">${icons.logo}<span>Ironcast</span></span>
          <h1 class="room-name"></h1>
          <span class="spacer"></span>
          <span class="badges" role="status"></span>
          <span class="mode" hidden><b></b> <span></span></span>
          <span class="people" title="People in this room"></span>
          <span class="state" data-state="connecting"><i></i><span>Connecting…</span></span>
        </header>
        <section class="stage" aria-label="Participants"></section>
        <div class="alone" hidden>
          <p><b>You’re the only one here.</b> Send the link to whoever should join.</p>
          <button class="primary">${icons.link}<span>Copy invite link</span></button>
        </div>
        <div class="silent" role="alert" hidden>
          <p>The browser keeps this page silent.</p>
          <button class="primary">${icons.sound}<span>Turn sound on</span></button>
        </div>
        <p class="heard-only" role="status" data-said></p>
      </main>`;
    const main = app.querySelector('main')!;
    this.stage = app.querySelector('.stage')!;
    this.banner = new Banner(call);
    const silent = app.querySelector<HTMLElement>('.silent')!;
    this.sounds = new Sounds(app, () => (silent.hidden = !this.sounds.isSilent));
    silent.querySelector('button')!.onclick = () => this.sounds.play();
    this.own = new Own({
      call,
      devices: {
        open: (source) => this.open(source),
        nextMic: openNextMic,
        otherCamera: (now) => openOtherCamera(options, now).catch((error) => {
          throw new Error(inWords(error, 'camera'));
        }),
      },
      changed: () => this.refresh(),
      tell: toast,
    });
    this.hallway = new Hallway(() => void this.run('leave'));
    this.chat = new ChatPanel(call.chat, () => this.panelToggled('chat'));
    this.people = new PeoplePanel({
      toggled: () => this.panelToggled('people'),
      pin: (id) => this.pin(`${id === call.participantId ? 'self' : id}/person`),
      invite: () => void this.run('invite'),
    });
    this.tools = new Tools({
      run: (action) => void this.run(action),
      talk: (on) => void this.talk(on),
      escape: () => this.closePanels(),
      enter: (element) => {
        const tile = [...this.tiles.values()].find((each) => each.element === element);
        if (tile) this.pin(tile.key);
      },
    });
    this.tools.element.id = 'tools';
    this.tools.element.tabIndex = -1;
    this.stage.before(this.banner.element);
    main.append(this.hallway.element, this.chat.element, this.people.element, this.tools.element);
    app.querySelector<HTMLButtonElement>('.alone button')!.onclick = () => void this.run('invite');
    call.chat.arrived = ({ name, content }) => {
      this.chat.arrived();
      if (!this.chat.isOpen) toast(`${name}: ${shorten(content)}`);
    };
    call.broadcasts.changed = () => this.refreshTools();
    // As it is seen here: one large, or all.
    call.broadcasts.chooseLayout(() => (this.pinned || this.followsSpeaker ? 'speaker' : 'grid'));
    app.querySelector('.room-name')!.textContent = options.room;
    this.resizes = new ResizeObserver(() => this.arrange());
    this.resizes.observe(this.stage);
    this.muted = new MutedHint(call, () => toast('You are muted. Press M, or hold the space bar while you speak.'));
    this.listen();
    this.own.watch();
    navigator.mediaDevices?.addEventListener('devicechange', this.count);
    this.count();
    this.muted.refresh();
    this.timer = setInterval(() => void this.refreshFigures(), FIGURES_MS);
    this.refresh();
  }

  private listen(): void {
    this.call.on('state', () => this.stateChanged());
    this.call.on('participants', () => {
      this.sayWhoCame();
      this.refresh();
    });
    this.call.on('localChanged', () => {
      if (this.maySend && !this.call.maySend) toast('You are here to watch and to listen.');
      this.maySend = this.call.maySend;
      this.own.watch();
      this.muted.refresh();
      this.refresh();
    });
    this.call.on('mode', () => this.refresh());
    this.call.on('speaking', () => this.showSpeaking());
    this.call.on('trackAdded', (track) => this.added(track));
    this.call.on('trackRemoved', (track) => this.removed(track));
    this.call.on('trackChanged', () => this.refresh());
    this.call.on('problem', (text) => toast(text, 'error'));
    this.call.on('crowded', (people) => this.suggestAudio(people));
    this.call.on('ended', (text) => void this.leave(text));
  }

  private async countCameras(): Promise<void> {
    this.cameras = (await listDevices('videoinput')).length;
    this.refresh();
  }

  private stateChanged(): void {
    const { state, why } = this.call;
    if (state === 'waiting') this.hallway.show(why);
    else if (this.hallway.isOpen) {
      this.hallway.close();
      if (state === 'connected') toast('There is a place for you: you are in the call.');
    }
    this.app.querySelector('.room')?.classList.toggle('waiting', state === 'waiting');
    this.banner.refresh();
    this.refresh();
  }

  /** For who listens; who sees, sees the tiles. */
  private sayWhoCame(): void {
    const now = new Map([...this.call.participants.values()].map(({ id, name }) => [id, name]));
    const names = (one: Map<string, string>, other: Map<string, string>) =>
      [...one].filter(([id]) => !other.has(id)).map(([, name]) => name);
    const before = this.seen;
    this.seen = now;
    if (!before) return;
    const [came, went] = [names(now, before), names(before, now)];
    const said = [came.length ? `${came.join(', ')} joined.` : '', went.length ? `${went.join(', ')} left.` : ''];
    if (came.length + went.length > 0) this.app.querySelector('[data-said]')!.textContent = said.join(' ').trim();
  }

  private ownerOf(tile: Tile): string {
    const id = tile.key.slice(0, tile.key.lastIndexOf('/'));
    return id === 'self' ? this.call.participantId : id;
  }

  // ---- tracks to tiles ---------------------------------------------------------------------

  private added(track: RemoteTrack): void {
    const { consumer } = track;
    if (consumer.kind === 'audio') this.sounds.add(consumer.id, consumer.track, rememberedDevices().speaker);
    this.refresh();
    if (track.source === 'screen' && track.consumer.kind === 'video') {
      const name = this.call.participants.get(track.participantId)?.name ?? 'Someone';
      toast(`${name} is sharing a screen`);
    }
  }

  private removed(track: RemoteTrack): void {
    this.sounds.remove(track.consumer.id);
    this.refresh();
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
    if (this.followsSpeaker) this.arrange();
    this.showPeople();
  }

  private showPeople(): void {
    if (!this.people.isOpen) return;
    const { call } = this;
    const own = { id: call.participantId, name: this.options.name };
    const tracks = [...call.consumers.values()];
    const rows = [own, ...call.participants.values()].map(({ id, name }) => {
      const isSelf = id === call.participantId;
      const isOn = (source: Source) => tracks.some((each) => each.participantId === id && each.source === source && !each.producerPaused);
      return {
        id,
        name,
        isSelf,
        speaks: call.speaking.has(id),
        hasMic: isSelf ? call.local.has('mic') && !call.micMuted : isOn('mic'),
        hasCamera: isSelf ? call.local.has('camera') : isOn('camera'),
        hasScreen: isSelf ? call.local.has('screen') : isOn('screen'),
        line: this.shownLines.get(id) ?? 'good',
        isPinned: this.pinned === `${isSelf ? 'self' : id}/person`,
      };
    });
    this.people.show(rows);
  }

  private pin(key: string): void {
    if (!this.tiles.has(key)) return;
    this.pinned = this.pinned === key ? null : key;
    this.arrange();
    this.showPeople();
  }

  private actions(): TileActions {
    return {
      pin: (tile) => this.pin(tile.key),
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
    const focus = (this.pinned && this.tiles.get(this.pinned)) || shared || this.speaker();
    if (focus && all.length > 1) {
      const others = all.filter((tile) => tile !== focus);
      // A shared screen is shown whole; of a person somewhat more than the face is enough.
      const boxes = focusBoxes(others.length, area, GAP, focus.isScreen ? focus.aspect : 1);
      focus.place(boxes.main);
      others.forEach((tile, index) => tile.place(boxes.others[index]));
    } else {
      const boxes = roomyBoxes(all.length, area, GAP);
      all.forEach((tile, index) => tile.place(boxes[index]));
    }
    this.stage.classList.toggle('scrolls', !(focus && all.length > 1) && all.some((tile) => tile.bottom > area.height + 1));
    for (const tile of all) {
      tile.element.classList.toggle('focus', tile === focus && all.length > 1);
      tile.setPinned(tile.key === this.pinned);
    }
    clearTimeout(this.settle);
    this.settle = setTimeout(() => this.askLayers(), SETTLE_MS);
  }

  /** Whose tile is large in the layout that follows the speaker. */
  private speaker(): Tile | undefined {
    if (!this.followsSpeaker) return undefined;
    const id = this.spotlight.choose(this.call.speaking, [...this.call.participants.keys()]);
    return this.tiles.get(`${id}/person`);
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
    const { call, tools } = this;
    const [mic, camera, screen] = (['mic', 'camera', 'screen'] as const).map((source) => this.own.isOn(source));
    tools.show('mic', { on: mic, icon: mic ? icons.mic : icons.micOff, label: mic ? 'Mute' : 'Unmute' });
    tools.show('camera', { on: camera, icon: camera ? icons.camera : icons.cameraOff, label: camera ? 'Camera off' : 'Camera on' });
    tools.show('screen', { on: screen, icon: screen ? icons.screenOff : icons.screen, label: screen ? 'Stop sharing' : 'Share screen' });
    for (const action of ['mic', 'camera', 'broadcast', 'record'] as const) tools.find(action).hidden = !call.maySend;
    tools.find('screen').hidden = !call.maySend || !navigator.mediaDevices?.getDisplayMedia;
    // On a phone; elsewhere cameras are chosen by their names.
    tools.find('flip').hidden = this.cameras < 2 || !call.local.has('camera') || !matchMedia('(pointer: coarse)').matches;
    const { unread } = this.chat;
    const chat = this.chat.isOpen ? 'Close the chat' : unread ? `Open the chat, ${unread} unread` : 'Open the chat';
    tools.show('chat', { icon: icons.chat, label: chat, count: unread });
    tools.show('people', { icon: icons.people, label: this.people.isOpen ? 'Close the list of people' : 'Show who is here' });
    tools.setOpen('chat', this.chat.isOpen);
    tools.setOpen('people', this.people.isOpen);
    const layout = this.followsSpeaker
      ? { icon: icons.grid, label: 'Show all equally large' }
      : { icon: icons.spotlight, label: 'Show the speaker large' };
    tools.show('layout', layout);
    tools.show('stats', { icon: icons.stats, label: this.showsFigures ? 'Hide statistics' : 'Show statistics', on: this.showsFigures });
    const before = call.state === 'waiting' ? 'Waiting · ' : unread ? `(${unread}) ` : '';
    document.title = `${before}${this.options.room} · Ironcast`;
    const { broadcast, record } = call.broadcasts.buttons;
    tools.show('broadcast', broadcast);
    tools.show('record', record);
    call.broadcasts.showBadges(this.app.querySelector<HTMLElement>('.badges')!, this.options.room);
    this.refreshBar();
  }

  private refreshBar(): void {
    const { call } = this;
    const find = (selector: string) => this.app.querySelector<HTMLElement>(selector)!;
    const isIn = call.state === 'connected' || call.state === 'reconnecting';
    const count = call.participants.size + 1;
    find('.people').textContent = !isIn ? '' : count === 1 ? '1 person' : `${count} people`;
    const state = find('.state');
    state.dataset.state = call.state;
    state.lastElementChild!.textContent = STATE_TEXT[call.state];
    const mode = find('.mode');
    const { name, word, title } = MODES[call.mode];
    mode.hidden = !isIn;
    mode.dataset.mode = call.mode;
    mode.title = title;
    mode.firstElementChild!.textContent = name;
    mode.lastElementChild!.textContent = word;
    find('.alone').hidden = call.participants.size > 0 || call.state !== 'connected' || call.local.has('screen');
  }

  private async run(action: Action): Promise<void> {
    // Without a place there is nothing to write, show or record.
    if (this.call.state === 'waiting' && !HALLWAY_ACTIONS.has(action)) return;
    try {
      await this.act(action);
    } catch (error) {
      if (!this.isOver) toast(error instanceof Error ? error.message : String(error), 'error');
    }
  }

  private async act(action: Action): Promise<void> {
    switch (action) {
      case 'mic':
        this.talksByKey = false;
        return this.own.toggle('mic');
      case 'camera':
      case 'screen':
        return this.own.toggle(action);
      case 'flip':
        return this.own.flip();
      case 'chat':
        return this.chat.toggle();
      case 'people':
        return this.people.toggle();
      case 'layout':
        this.followsSpeaker = !this.followsSpeaker;
        remember('layout', this.followsSpeaker ? 'speaker' : '');
        this.pinned = null;
        return this.refresh();
      case 'stats':
        this.showsFigures = !this.showsFigures;
        this.refreshTools();
        return this.refreshFigures();
      case 'broadcast':
        return this.call.broadcasts.toggle('hls');
      case 'record':
        return this.call.broadcasts.toggle('recording');
      case 'devices':
        return openSettings(this.call, this.own, this.options, (speaker) => this.sounds.sendTo(speaker));
      case 'theme':
        return toggleTheme();
      case 'help':
        return toggleHelp();
      case 'invite':
        return this.invite();
      case 'leave':
        return this.leave();
    }
  }

  /** One panel at a time: beside the tiles there is room for one. */
  private panelToggled(which: 'chat' | 'people'): void {
    const [panel, other] = which === 'chat' ? [this.chat, this.people] : [this.people, this.chat];
    if (panel.isOpen) other.toggle(false);
    this.refreshTools();
    this.showPeople();
    this.arrange();
    const { activeElement } = document;
    if (!panel.isOpen && !other.isOpen && (activeElement === document.body || panel.element.contains(activeElement))) {
      this.tools.find(which).focus();
    }
  }

  private closePanels(): void {
    this.chat.toggle(false);
    this.people.toggle(false);
  }

  /** Who is muted may say a word while he holds the key. */
  private async talk(on: boolean): Promise<void> {
    const { call } = this;
    if (!call.local.has('mic') || call.micMuted !== on) return;
    if (on) this.talksByKey = true;
    else if (!this.talksByKey) return;
    else this.talksByKey = false;
    await call.setMicMuted(!on).catch(() => {});
  }

  private async open(source: Source): Promise<MediaStreamTrack | null> {
    const { camera, mic } = rememberedDevices();
    try {
      if (source === 'mic') return await openMic(mic);
      if (source === 'camera') return await openCamera(this.options, camera);
      return await openScreen();
    } catch (error) {
      if (source === 'screen' && isOwnWish(error)) return null;
      throw new Error(inWords(error, nameOf(source)));
    }
  }

  /** The room is large: whoever sends a camera is offered to turn it off. */
  private suggestAudio(people: number): void {
    if (!this.call.local.has('camera')) return;
    const off = { label: 'Camera off', run: () => void this.call.setTrack('camera', null) };
    toast(`There are ${people} people here. Turning cameras off helps everybody.`, 'info', off);
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

  /** `problem`: why, if nobody wanted it. */
  async leave(problem?: string): Promise<void> {
    if (this.isOver) return;
    this.isOver = true;
    await this.call.leave();
    this.close();
    this.left(problem);
  }

  private async refreshFigures(): Promise<void> {
    this.looks += 1;
    if (this.call.state !== 'connected') return;
    if (!this.showsFigures && this.looks % FIGURES_UNSEEN_EACH !== 0) return this.showFigures(null);
    const figures = await this.statistics.tiles();
    this.shownLines = this.lines.look(linesNow(this.call, figures));
    for (const tile of this.tiles.values()) {
      if (!tile.isScreen) tile.setLine(this.shownLines.get(this.ownerOf(tile)) ?? 'good');
    }
    this.showPeople();
    this.showFigures(this.showsFigures ? figures : null);
  }

  private showFigures(figures: TileFigures[] | null): void {
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
    this.tools.close();
    this.banner.close();
    this.hallway.close();
    this.muted.close();
    this.sounds.close();
    this.awake.close();
    navigator.mediaDevices?.removeEventListener('devicechange', this.count);
    closeDialogs();
  }
}
