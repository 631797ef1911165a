// Ties the two screens together and offers `window.ironcast`, a hook for tests and debugging
// (documented in README.md beside this folder).

import { Call } from './call.ts';
import { lobby } from './lobby.ts';
import { icons } from './icons.ts';
import { readOptions } from './options.ts';
import { Room } from './room.ts';
import { everything, Statistics } from './statistics.ts';
import { showTheme } from './theme.ts';

const app = document.getElementById('app')!;

async function run(): Promise<void> {
  const options = readOptions(location.search);
  const ready = await lobby(app, options);
  document.title = `${options.room} · Ironcast`;
  const address = new URL(location.href);
  address.searchParams.set('room', options.room);
  history.replaceState(null, '', address);

  const call = new Call(options);
  call.micMuted = ready.micMuted;
  if (ready.mic) {
    ready.mic.enabled = !ready.micMuted;
    call.local.set('mic', ready.mic);
  }
  if (ready.camera) call.local.set('camera', ready.camera);
  const room = new Room(app, call, options, (problem) => {
    const wasIn = call.participantId !== '';
    const titles = wasIn ? ['You left the call', 'You are no longer in the call'] : ['You did not join', 'That did not work'];
    goodbye(titles[problem ? 1 : 0], problem || `Room ${options.room}`);
  });
  addEventListener('pagehide', () => call.goodbye());
  expose(call, room);
  try {
    await call.start();
  } catch (error) {
    await room.leave(error instanceof Error ? error.message : String(error));
  }
}

function goodbye(title: string, text: string): void {
  document.title = 'Ironcast';
  app.innerHTML = `
    <main class="lobby over">
      <header class="brand">${icons.logo}<span>Ironcast</span></header>
      <section class="card">
        <h1></h1><p class="hint"></p>
        <button class="primary">Join again</button>
      </section>
    </main>`;
  app.querySelector('h1')!.textContent = title;
  app.querySelector('.hint')!.textContent = text;
  const button = app.querySelector('button')!;
  button.onclick = () => {
    const address = new URL(location.href);
    address.searchParams.delete('autojoin');
    location.assign(address);
  };
  button.focus();
}

/** The public debugging hook: stable names that the browser tests use too. */
function expose(call: Call, room: Room): void {
  const statistics = new Statistics(call);
  const consumers = new Map();
  const hook = {
    call,
    get state() {
      return call.state;
    },
    get device() {
      return call.device;
    },
    get sendTransport() {
      return call.sendTransport;
    },
    get recvTransport() {
      return call.recvTransport;
    },
    /** `p2p` or `sfu`. */
    get mode() {
      return call.mode;
    },
    /** The direct connection, if there is one: `pc` is the browser's. */
    get direct() {
      return call.direct;
    },
    get participantId() {
      return call.participantId;
    },
    get participants() {
      return call.participants;
    },
    /** Ids of those who speak. */
    get speaking() {
      return call.speaking;
    },
    /** Source (`mic`, `camera`, `screen`) to mediasoup-client's Producer. */
    get producers() {
      return call.producers;
    },
    /** Consumer id to mediasoup-client's Consumer. */
    get consumers() {
      consumers.clear();
      for (const [id, track] of call.consumers) consumers.set(id, track.consumer);
      return consumers;
    },
    /** Consumer id to what the page knows about it (participant, source, layers, score). */
    get tracks() {
      return call.consumers;
    },
    socket: call.signaling.socket,
    events: call.steps,
    stats: () => everything(call, statistics),
    setPreferredLayers: (consumerId: string, spatialLayer: number, temporalLayer?: number) => {
      room.layersWereSet(consumerId, spatialLayer);
      return call.setPreferredLayers(consumerId, spatialLayer, temporalLayer);
    },
    pauseConsumer: (consumerId: string) => call.pauseConsumer(consumerId),
    resumeConsumer: (consumerId: string) => call.resumeConsumer(consumerId),
    pauseProducer: (source: 'mic' | 'camera' | 'screen') => call.served.hold(source, true),
    resumeProducer: (source: 'mic' | 'camera' | 'screen') => call.served.hold(source, false),
    setMicMuted: (muted: boolean) => call.setMicMuted(muted),
    /** Sends a track as camera, microphone or screen; null stops. */
    setTrack: (source: 'mic' | 'camera' | 'screen', track: MediaStreamTrack | null) => call.setTrack(source, track),
    restartIce: async () => {
      await Promise.all([call.served.restartIce(call.sendTransport), call.served.restartIce(call.recvTransport)]);
    },
    leave: () => room.leave(),
  };
  (window as unknown as { ironcast: typeof hook }).ironcast = hook;
}

showTheme();
void run();
