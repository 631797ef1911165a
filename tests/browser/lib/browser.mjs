// Chromium with its fake devices, and participants in it: each a page of its own browser context,
// in a call through the page that everybody uses.

import { chromium } from 'playwright-core';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { patchCandidates } from './relay.mjs';
import { OUTPUT } from './servers.mjs';
import { watchFrames } from './frames.mjs';
import { until } from './until.mjs';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling',
  '--use-fake-device-for-media-stream=fps=15',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
];
const WITHOUT = ['WebRtcHideLocalIpsWithMdns'];
// A page of a folder comes from nowhere for Chromium, and may not ask a service on this host.
if (process.env.IRONCAST_PAGE_DIR) WITHOUT.push('LocalNetworkAccessChecks');
FLAGS.push(`--disable-features=${WITHOUT}`);

// Chromium takes no part in a call over loopback unless told, not even where there is nothing else.
const addresses = Object.values(os.networkInterfaces()).flat();
if (addresses.every(({ internal }) => internal)) FLAGS.push('--allow-loopback-in-peer-connection');

const OPTIONS = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: FLAGS,
  handleSIGINT: false,
};

export async function launch(flags = []) {
  const browser = await chromium.launch({ ...OPTIONS, args: [...FLAGS, ...flags] });
  if (process.env.IRONCAST_PAGE_DIR) servePage(browser, path.resolve(process.env.IRONCAST_PAGE_DIR));
  return browser;
}

/** The page of a folder instead of the one in the binary: a change of the page needs no other binary. */
function servePage(browser, folder) {
  const newContext = browser.newContext.bind(browser);
  browser.newContext = async (options) => {
    const context = await newContext(options);
    const fileOf = ({ pathname }) => path.join(folder, pathname === '/' ? 'index.html' : pathname);
    const isOurs = (url) => fileOf(url).startsWith(folder) && fs.existsSync(fileOf(url));
    await context.route(isOurs, async (route) => {
      const url = new URL(route.request().url());
      // What the page may load is as the service says.
      const { 'content-security-policy': policy } = (await route.fetch({ url: `${url.origin}/` })).headers();
      await route.fulfill({ path: fileOf(url), headers: { 'content-security-policy': policy } });
    });
    return context;
  };
}

/** A browser of its own that can be killed like a process. */
export async function launchMortal() {
  const server = await chromium.launchServer(OPTIONS);
  const browser = await chromium.connect(server.wsEndpoint());
  return { browser, kill: () => server.kill(), close: () => browser.close().then(() => server.close()) };
}

/** Below this share of idle time the cores count as full. */
export const FULL = 0.1;

/** Share of the time between two readings of `os.cpus()` that the cores had nothing to do. */
export function idleShare(before, after) {
  const sum = (cores, of) => cores.reduce((all, { times }) => all + of(times), 0);
  const between = (of) => sum(after, of) - sum(before, of);
  const all = between((times) => times.user + times.nice + times.sys + times.idle + times.irq);
  return all > 0 ? between((times) => times.idle) / all : 0;
}

/** Fields of the page's own hook; see the README beside the page. */
export class Participant {
  /**
   * Opens the page and joins. `relay`: media goes through it. `before`: runs
   * before the page is opened. `at`: where the page is, if not at the service. `opened`: is told of the participant before the join. `state`: which one is waited for.
   * `codec`, `width`, ...: of the page.
   */
  static async join(browser, servers, options) {
    const { opened = () => {}, name, room = 'test', state = 'connected', relay, before, at = servers.page, viewport = { width: 1280, height: 800 }, ...query } = options;
    const participant = new Participant();
    participant.name = name;
    participant.servers = servers;
    participant.console = [];
    participant.context = await browser.newContext({ viewport, colorScheme: 'dark' });
    participant.page = await participant.context.newPage();
    opened(participant);
    participant.page.on('console', (message) => participant.console.push(message.text()));
    participant.page.on('pageerror', (error) => participant.console.push(`uncaught: ${error.stack}`));
    participant.page.on('crash', () => participant.console.push('the page crashed'));
    await participant.page.addInitScript(watchFrames);
    if (relay) {
      await participant.context.exposeFunction('relayPortFor', (ip, port) => relay.portFor(ip, port));
      await participant.page.addInitScript(patchCandidates);
    }
    await before?.(participant.page);
    const address = new URL(at);
    const all = { room, name, autojoin: 1, codec: 'VP8', fps: 15, width: 960, height: 540, ...query };
    for (const [key, value] of Object.entries(all)) address.searchParams.set(key, value);
    participant.begun = os.cpus();
    await participant.page.goto(address.href);
    await participant.until(`is ${state}`, (state) => window.ironcast?.state === state, { argument: state, within: 20_000 });
    participant.id = await participant.evaluate(() => window.ironcast.participantId);
    return participant;
  }

  evaluate(code, argument) {
    return this.page.evaluate(code, argument);
  }

  /** Until the code, run in the page, is true. */
  until(what, code, { argument, ...options } = {}) {
    return until(`${this.name} ${what}`, () => this.evaluate(code, argument), options);
  }

  /** All records of the browser's statistics, `send` and `receive`. */
  stats() {
    return this.evaluate(async () => {
      const records = async (transport) =>
        transport && !transport.closed ? [...(await transport.getStats()).values()] : [];
      const { sendTransport, recvTransport } = window.ironcast;
      return { send: await records(sendTransport), receive: await records(recvTransport) };
    });
  }

  /** What arrives: one entry for each consumer, with the browser's record of it. */
  received() {
    return this.evaluate(async () => {
      const list = [];
      for (const track of window.ironcast.tracks.values()) {
        const { participantId, producerId, source, consumer, layers } = track;
        const report = consumer.closed ? new Map() : await consumer.getStats();
        const stream = [...report.values()].find((record) => record.type === 'inbound-rtp') ?? {};
        const codec = report.get(stream.codecId)?.mimeType;
        list.push({ participantId, producerId, source, consumerId: consumer.id, kind: consumer.kind, layers, codec, ...stream, id: consumer.id });
      }
      return list;
    });
  }

  /** The browser's record of one track of another participant. */
  async from(other, source = 'camera') {
    const list = await this.received();
    return list.find((track) => track.participantId === other.id && track.source === source);
  }

  /** What is sent: the outbound records of one source, small to large. */
  sent(source = 'camera') {
    return this.evaluate(async (source) => {
      const producer = window.ironcast.producers.get(source);
      if (!producer) return [];
      const streams = [...(await producer.getStats()).values()].filter((record) => record.type === 'outbound-rtp');
      return streams.sort((a, b) => (a.frameWidth ?? 0) - (b.frameWidth ?? 0));
    }, source);
  }

  /** Waits until the browser believes that it can send so much. */
  estimates(bitrateBps, within = 15_000) {
    return until(`${this.name} estimates ${bitrateBps} b/s`, async () => {
      const { send } = await this.stats();
      const now = Math.max(0, ...send.map((record) => record.availableOutgoingBitrate ?? 0));
      return now > bitrateBps || Promise.reject(new Error(`${now} b/s`));
    }, { within });
  }

  /** Waits until pictures (and sound) of all the others are decoded. */
  async sees(others, { within = 15_000, frames = 1 } = {}) {
    for (const other of others) {
      await until(`${this.name} decodes ${other.name}`, async () => {
        const [video, audio] = await Promise.all([this.from(other), this.from(other, 'mic')]);
        return video?.framesDecoded >= frames && audio?.totalSamplesReceived > 0;
      }, { within });
    }
  }

  /** Milliseconds from pressing "join" to the first picture of anybody on the screen. */
  async joinMs() {
    return this.evaluate(() => {
      const { events } = window.ironcast;
      const first = events.find(({ name }) => name === 'firstFrame');
      const begin = events.find(({ name }) => name === 'joinStarted');
      return first && begin ? first.time - begin.time : null;
    });
  }

  /**
   * Milliseconds that a call within this very page takes, from nothing to the first decoded picture, without any
   * server: what browser and machine need for themselves, with everything that runs on it just now.
   */
  async ownMs() {
    return this.page.evaluate(async () => {
      const begin = performance.now();
      const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
      from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate);
      to.onicecandidate = ({ candidate }) => candidate && from.addIceCandidate(candidate);
      const media = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 180 } });
      for (const track of media.getTracks()) from.addTrack(track, media);
      await from.setLocalDescription();
      await to.setRemoteDescription(from.localDescription);
      await to.setLocalDescription();
      await from.setRemoteDescription(to.localDescription);
      const decoded = async () => {
        const stats = await to.getStats();
        return [...stats.values()].some(({ type, framesDecoded }) => type === 'inbound-rtp' && framesDecoded > 0);
      };
      while (!(await decoded()) && performance.now() - begin < 5_000) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      const took = performance.now() - begin;
      for (const track of media.getTracks()) track.stop();
      from.close();
      to.close();
      return took;
    });
  }

  /**
   * How long this join may take: `limitMs` on a machine that keeps up. Where its cores had nothing left meanwhile, or
   * the browser alone needs a good part of that for a call with itself, four times as long.
   */
  async joinLimitMs(limitMs) {
    const idle = idleShare(this.begun, os.cpus());
    return Math.max(limitMs * (idle < FULL ? 4 : 1), Math.round(4 * (await this.ownMs())));
  }

  leave() {
    return this.evaluate(() => window.ironcast.leave());
  }

  /** For whoever looks at a failure: figures, what the page said, a picture. */
  async dump(label) {
    const file = path.join(OUTPUT, `${label}.${this.name}`);
    fs.mkdirSync(OUTPUT, { recursive: true });
    const gather = async () => ({
      console: this.console,
      stats: await this.stats(),
      received: await this.received(),
      events: await this.evaluate(() => window.ironcast?.events),
    });
    const late = new Promise((resolve) => setTimeout(() => resolve({ console: this.console, late: true }), 5_000).unref());
    const gathered = await Promise.race([gather(), late]).catch((error) => ({ console: this.console, error: String(error) }));
    fs.writeFileSync(`${file}.json`, JSON.stringify(gathered, null, 1));
    await this.page.screenshot({ path: `${file}.png`, timeout: 5_000 }).catch(() => {});
  }

  async close() {
    await this.context.close().catch(() => {});
  }
}
