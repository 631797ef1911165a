// A foreign client and Chromium in a room: each publishes and each watches the other, with a codec. Then
// packets are lost, each asks for a key frame, the client's address changes, and it goes.

import assert from 'node:assert/strict';
import os from 'node:os';
import { after, before, test } from 'node:test';
import { launch } from './browser.mjs';
import { Client } from './client.mjs';
import { Relay } from './relay.mjs';
import { atLeast, atMost, note } from './report.mjs';
import { Room } from './room.mjs';
import { publish, watch } from './sdp.mjs';
import { Servers } from './servers.mjs';
import { allIsFreed, over } from './stage.mjs';
import { until } from './until.mjs';

const CHECK_MS_MAX = 60_000;
const FPS = 15;
const SECONDS = 2;
/** Not every client takes loopback for a network. */
const outward = Object.values(os.networkInterfaces()).flat().find(({ family, internal }) => family === 'IPv4' && !internal);
const OUTWARD = outward ? { 'rtc.announced_address': outward.address } : {};
/** Of the client's picture, and of Chromium's. */
const [CLIENTS, CHROMIUMS] = [{ width: 320, height: 240 }, { width: 480, height: 270 }];

/** Of the records of that type, or of all. */
const sum = (records, field, type) =>
  records.filter((record) => !type || record.type === type).reduce((all, record) => all + (record[field] ?? 0), 0);

class Pair {
  constructor(name, room, chromium, client, relay) {
    Object.assign(this, { name, room, chromium, client, relay });
  }

  /** What the client sends, as Chromium has it. */
  async clientPublishes({ codec, role, iceConsentTimeout }) {
    const { name, room, chromium, client, relay } = this;
    this.sending = await room.router.createWebRtcTransport({ iceConsentTimeout });
    this.producers = await publish(client, { router: room.router, transport: this.sending, relay, codec, role, ...CLIENTS });
    // The first key frame is over when Chromium comes: the client has to make another one.
    await until('the client sends', async () => sum(await this.producers.video.getStats(), 'packetCount') > 20);
    const begun = performance.now();
    await chromium.step('watch', { producerIds: Object.values(this.producers).map(({ id }) => id) });
    await until('Chromium has a picture', async () => (await this.atChromium('video')).framesDecoded > 0);
    note(name, 'first picture', performance.now() - begun, 'ms');
  }

  async atChromium(kind) {
    return (await this.chromium.step('received'))[kind] ?? {};
  }

  async chromiumSees({ codec }) {
    const { name } = this;
    const { first, last, seconds } = await over(SECONDS, () => this.chromium.step('received'));
    const gained = (kind, field) => last[kind][field] - first[kind][field];
    atLeast(name, 'frames/s at Chromium', gained('video', 'framesDecoded') / seconds, FPS * 0.8);
    atMost(name, 'freezes at Chromium', gained('video', 'freezeCount'), 0);
    const { video, audio } = last;
    assert.deepEqual([video.frameWidth, video.frameHeight, video.codec], [CLIENTS.width, CLIENTS.height, `video/${codec}`]);
    assert.equal(audio.codec, 'audio/opus');
    assert.ok(gained('audio', 'totalAudioEnergy') > 0, 'the tone is heard');
    atLeast(name, 'sound of its time at Chromium', gained('audio', 'jitterBufferEmittedCount') / 480 / seconds, 90, '%');
  }

  /** What Chromium sends, as the client has it. */
  async clientWatches({ codec, layers }) {
    const { room, chromium, client, relay } = this;
    const producers = await chromium.step('publish', { codec, layers, ...CHROMIUMS });
    this.receiving = await room.router.createWebRtcTransport();
    this.consumers = await watch(client, { router: room.router, transport: this.receiving, relay, producers, codec });
    await until('the client has the whole picture', async () => {
      const { video } = await client.ask('received');
      const whole = video.width === CHROMIUMS.width && video.height === CHROMIUMS.height;
      return whole || Promise.reject(new Error(JSON.stringify(video)));
    }, { within: 20_000 });
  }

  async clientSees() {
    const { name, client } = this;
    const { first, last, seconds } = await over(SECONDS, () => client.ask('received'));
    atLeast(name, 'frames/s at the client', (last.video.frames - first.video.frames) / seconds, FPS * 0.8);
    atLeast(name, 'sound of its time at the client', (last.audio.samples - first.audio.samples) / 480 / seconds, 90, '%');
  }

  async clientAsksForKeyFrames() {
    const keyFrames = async () => sum(await this.chromium.step('sent'), 'keyFramesEncoded');
    const asked = async () => {
      const stats = await this.consumers.video.getStats();
      return sum(stats, 'pliCount', 'outbound-rtp') + sum(stats, 'firCount', 'outbound-rtp');
    };
    const [made, before] = [await keyFrames(), await asked()];
    await this.client.ask('askKeyFrame');
    await until('the server hears of it', async () => (await asked()) > before);
    await until('Chromium makes one', async () => (await keyFrames()) > made);
  }

  /** Both ways packets of the video are lost: they are asked for again, and come. */
  async repairs() {
    const { name, relay, producers, consumers } = this;
    const counts = async () => {
      const [ofClient, toClient] = [await producers.video.getStats(), await consumers.video.getStats()];
      return {
        askedOfClient: sum(ofClient, 'nackPacketCount', 'inbound-rtp'),
        repairedByClient: sum(ofClient, 'packetsRepaired', 'inbound-rtp'),
        askedByClient: sum(toClient, 'nackPacketCount', 'outbound-rtp'),
        repairedForClient: sum(toClient, 'packetsRetransmitted', 'outbound-rtp'),
      };
    };
    const first = await counts();
    const gained = await until('both are asked again and sent again', async () => {
      const now = await counts();
      const gained = Object.entries(now).map(([what, value]) => [what, value - first[what]]);
      if (gained.every(([, value]) => value > 0)) return gained;
      // Not every loss is asked for: some may send RTCP only now and then (RFC 4585, 3.5).
      for (const { video } of [producers, consumers]) relay.marked.add(video.rtpParameters.encodings[0].ssrc);
      throw new Error(JSON.stringify(gained));
    }, { every: 300 });
    relay.marked.clear();
    note(name, 'packets of video lost', gained.map(([what, value]) => `${what} ${value}`).join(', '));
    await this.goesOn();
  }

  /** More frames come, both ways. */
  async goesOn() {
    const counts = async () => [(await this.atChromium('video')).framesDecoded, (await this.client.ask('received')).video.frames];
    const first = await counts();
    await until('frames come both ways', async () => {
      const now = await counts();
      return now.every((frames, index) => frames > first[index] + 5) || Promise.reject(new Error(`${first}, then ${now}`));
    });
  }

  /** As when a NAT forgets: the client's packets come from other ports, and it notices nothing. */
  async clientMoves() {
    const { name, relay, sending, receiving } = this;
    const places = () => [sending, receiving].map(({ iceSelectedTuple }) => iceSelectedTuple.remotePort);
    const old = places();
    await relay.rebind();
    const begun = performance.now();
    await until('the server has both new places', () => places().every((port, index) => port !== old[index]), { within: 12_000 });
    note(name, 'new ports known after', performance.now() - begun, 'ms');
    await this.goesOn();
  }

  /** `silently`: without a word, as if the network were gone; else DTLS tells. */
  async clientGoes({ silently }) {
    const { client, sending, receiving } = this;
    const transports = [sending, receiving];
    assert.deepEqual(transports.map(({ iceState }) => iceState), ['completed', 'completed']);
    const reasons = [];
    for (const transport of transports) transport.once('close', (reason) => reasons.push(reason));
    await client.ask('close');
    if (silently) return Promise.all(transports.map((transport) => transport.close()));
    await until('the server knows', () => reasons.length === 2);
    return assert.deepEqual(reasons, ['dtls_closed', 'dtls_closed']);
  }
}

/** One check for each of `calls`, `{codec, layers, role, moves, silently, iceConsentTimeout}`. `name`: of the client. */
export function bothWays(name, calls) {
  let servers;
  let browser;
  before(async () => {
    servers = await Servers.start(name, OUTWARD, [], ['dataplane', 'controlplane']);
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    const panics = servers?.panics() ?? [];
    await servers?.stop();
    assert.deepEqual(panics, []);
  });
  for (const call of calls) {
    test(`${name} and Chromium, ${call.codec}`, { timeout: CHECK_MS_MAX }, async () => {
      const open = [];
      const keep = (thing) => open.unshift(thing) && thing;
      try {
        const room = keep(await Room.open(servers));
        const relay = keep(new Relay({ seed: 21 }));
        const client = keep(new Client(name));
        const chromium = keep(await room.browser(browser));
        const pair = new Pair(`13 ${name} ${call.codec}`, room, chromium, client, relay);
        await pair.clientPublishes(call);
        await pair.chromiumSees(call);
        await pair.clientWatches(call);
        await pair.clientSees(call);
        await pair.clientAsksForKeyFrames();
        await pair.repairs();
        if (call.moves) await pair.clientMoves();
        await pair.clientGoes(call);
      } catch (error) {
        servers.keepLogs();
        throw new Error(`${error.message}\n${open.find((one) => one instanceof Client)?.problems}`, { cause: error });
      } finally {
        for (const thing of open) await thing.close();
      }
      await allIsFreed(servers);
    });
  }
}
