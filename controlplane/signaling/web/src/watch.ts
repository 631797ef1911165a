// The watch page: plays a room's broadcast without joining its call. It waits for a broadcast to
// begin, shows its end, and then offers the whole of it. `window.watch` is for tests.

import Hls from 'hls.js/light';
import { icons } from './icons.ts';
import { cleanRoom, roomIdOf } from './options.ts';
import { showTheme } from './theme.ts';

const LOOK_MS = 2_000;
const FATAL_MAX = 5;

type State = 'waiting' | 'live' | 'over' | 'whole' | 'failed';

const TEXT: Record<State, string> = {
  waiting: 'Waiting for the broadcast to begin…',
  live: 'Live',
  over: 'The broadcast is over',
  whole: 'Recorded',
  failed: 'This browser cannot play it',
};

const app = document.getElementById('app')!;
const room = cleanRoom(new URLSearchParams(location.search).get('room') ?? '');
const base = `/hls/${encodeURIComponent(roomIdOf(room)).replaceAll('%3A', ':')}`;

app.innerHTML = `
  <main class="watch">
    <header class="bar">
      <span class="brand compact">${icons.logo}<span>Ironcast</span></span>
      <h1 class="room-name"></h1>
      <span class="spacer"></span>
      <span class="state" role="status"><i></i><span></span></span>
    </header>
    <section class="screen">
      <video controls playsinline muted autoplay aria-label="Broadcast"></video>
      <div class="curtain"><p></p><button class="primary" hidden>Watch from the beginning</button></div>
    </section>
  </main>`;
const find = <T extends Element>(selector: string) => app.querySelector<T>(selector)!;
const video = find<HTMLVideoElement>('video');
const whole = find<HTMLButtonElement>('.curtain button');
find('.room-name').textContent = room;
document.title = `${room} · Ironcast`;

const watch = { state: 'waiting' as State, hls: null as Hls | null, video };
(window as unknown as { watch: typeof watch }).watch = watch;

function show(state: State): void {
  watch.state = state;
  const badge = find<HTMLElement>('.state');
  badge.dataset.state = state;
  badge.lastElementChild!.textContent = state === 'waiting' ? 'Waiting' : TEXT[state];
  find<HTMLElement>('.curtain').hidden = state === 'live' || state === 'whole';
  find('.curtain p').textContent = room ? TEXT[state] : 'The address names no room: watch.html?room=…';
  whole.hidden = state !== 'over';
}

const exists = async (address: string) => {
  const answer = await fetch(address, { cache: 'no-store' }).catch(() => null);
  return answer?.ok ? answer.text() : null;
};

/** Until there is something new to play. What has ended before is offered, not played. */
async function wait(): Promise<void> {
  let ended = '';
  for (;;) {
    const playlist = await exists(`${base}/index.m3u8`);
    if (playlist && !playlist.includes('#EXT-X-ENDLIST')) return play(`${base}/index.m3u8`, 'live');
    if (playlist && playlist !== ended) {
      ended = playlist;
      if (watch.state === 'waiting' || watch.state === 'live') show('over');
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    if (watch.state === 'whole') return;
  }
}

function stop(): void {
  watch.hls?.destroy();
  watch.hls = null;
}

function play(address: string, state: 'live' | 'whole'): void {
  stop();
  if (!Hls.isSupported()) {
    if (!video.canPlayType('application/vnd.apple.mpegurl')) return show('failed');
    video.src = address;
    video.onended = () => ended(state);
    return show(state);
  }
  // Workers would be made of blobs, which this page may not run.
  const hls = new Hls({ enableWorker: false, liveSyncDurationCount: 2, maxLiveSyncPlaybackRate: 1.1 });
  watch.hls = hls;
  let fatal = 0;
  hls.on(Hls.Events.ERROR, (_, problem) => {
    if (!problem.fatal) return;
    fatal += 1;
    if (fatal > FATAL_MAX) return again();
    if (problem.type === Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else again();
  });
  hls.on(Hls.Events.FRAG_BUFFERED, () => {
    fatal = 0;
  });
  const again = () => {
    stop();
    show('waiting');
    void wait();
  };
  hls.loadSource(address);
  hls.attachMedia(video);
  video.onended = () => ended(state);
  // Browsers let nothing play loud that nobody has touched: it begins without sound.
  void video.play().catch(() => {});
  show(state);
}

function ended(state: 'live' | 'whole'): void {
  stop();
  show('over');
  if (state === 'live') void wait();
}

whole.onclick = () => {
  video.muted = false;
  play(`${base}/vod.m3u8`, 'whole');
};

showTheme();
show('waiting');
if (room) void wait();
