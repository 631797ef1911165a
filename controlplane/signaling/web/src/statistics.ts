// Figures of what is received and sent, from the browser's own statistics: rates are differences
// between two looks.

import type { Call } from './call.ts';
import { lineOf, worseOf, type Line } from './lines.ts';
import { Still } from './still.ts';
import type { RemoteTrack, Source } from './tracks.ts';

export interface TileFigures {
  participantId: string;
  source: Source;
  kind: 'audio' | 'video';
  direction: 'send' | 'receive';
  /** Consumer's or producer's id. */
  id: string;
  codec?: string;
  width?: number;
  height?: number;
  fps?: number;
  bitrateBps: number;
  layer?: string;
  lossPercent?: number;
  packetsLost?: number;
  roundTripMs?: number;
  jitterMs?: number;
  framesDecoded?: number;
  framesDropped?: number;
  freezeCount?: number;
  freezesS?: number;
  nackCount?: number;
  audioLevel?: number;
  totalAudioEnergy?: number;
}

interface Before {
  time: number;
  bytes: number;
  packets: number;
  lost: number;
}

// The browser's records have more fields than TypeScript knows.
type Record_ = Record<string, any>;

export class Statistics {
  private before = new Map<string, Before>();
  private still = new Map<string, Still>();
  private call: Call;

  constructor(call: Call) {
    this.call = call;
  }

  async tiles(): Promise<TileFigures[]> {
    const [roundTrip, received, sent] = await Promise.all([
      this.roundTripMs(),
      Promise.all([...this.call.consumers.values()].map((track) => this.received(track))),
      Promise.all([...this.call.local.keys()].map((source) => this.sent(source))),
    ]);
    const all = [...received, ...sent].filter((figures) => figures !== null);
    for (const figures of all) figures.roundTripMs ??= roundTrip;
    const ids = new Set(all.map(({ id }) => id));
    for (const id of this.before.keys()) if (!ids.has(id)) this.before.delete(id);
    for (const id of this.still.keys()) if (!ids.has(id)) this.still.delete(id);
    return all;
  }

  async roundTripMs(): Promise<number | undefined> {
    const transport = this.call.recvTransport ?? this.call.sendTransport;
    const direct = this.call.mode === 'p2p' ? this.call.direct : null;
    const source = direct?.pc ?? (transport?.closed ? null : transport);
    for (const record of (await source?.getStats())?.values() ?? []) {
      if (record.type === 'candidate-pair' && record.nominated && record.currentRoundTripTime !== undefined) {
        return record.currentRoundTripTime * 1000;
      }
    }
    return undefined;
  }

  private async received(track: RemoteTrack): Promise<TileFigures | null> {
    const { consumer } = track;
    if (consumer.closed) return null;
    const report = await consumer.getStats().catch(() => null);
    if (!report) return null;
    let stream: Record_ | undefined;
    for (const record of report.values()) if (record.type === 'inbound-rtp') stream = record;
    const rates = this.rates(consumer.id, stream, 'bytesReceived', 'packetsReceived', stream?.packetsLost ?? 0);
    const codec = stream?.codecId ? (report.get(stream.codecId) as Record_ | undefined) : undefined;
    return {
      participantId: track.participantId,
      source: track.source,
      kind: consumer.kind as 'audio' | 'video',
      direction: 'receive',
      id: consumer.id,
      codec: codec?.mimeType?.split('/')[1],
      width: stream?.frameWidth,
      height: stream?.frameHeight,
      fps: stream?.framesPerSecond,
      bitrateBps: rates.bitrateBps,
      layer: layerText(track),
      lossPercent: rates.lossPercent,
      packetsLost: stream?.packetsLost,
      jitterMs: stream?.jitter === undefined ? undefined : stream.jitter * 1000,
      framesDecoded: stream?.framesDecoded,
      framesDropped: stream?.framesDropped,
      freezeCount: this.freezes(track, stream),
      freezesS: stream?.totalFreezesDuration,
      nackCount: stream?.nackCount,
      audioLevel: stream?.audioLevel,
      totalAudioEnergy: stream?.totalAudioEnergy,
    };
  }

  /**
   * How often the picture stood still. The browser also counts a camera that was turned off and on
   * again, once it is on: that one is nobody's fault.
   */
  private freezes(track: RemoteTrack, stream: Record_ | undefined): number | undefined {
    if (stream?.freezeCount === undefined) return undefined;
    const still = this.still.get(track.consumer.id) ?? new Still();
    this.still.set(track.consumer.id, still);
    return still.count(stream.freezeCount, stream.framesDecoded ?? 0, track.producerPaused);
  }

  private async sent(source: Source): Promise<TileFigures | null> {
    const producer = this.call.producers.get(source);
    const isDirect = this.call.mode === 'p2p';
    const sender = isDirect ? this.call.direct?.sender(source) : producer?.closed ? undefined : producer;
    if (!sender?.track) return null;
    const id = isDirect ? `direct-${source}` : producer!.id;
    const report = await sender.getStats().catch(() => null);
    if (!report) return null;
    const streams: Record_[] = [];
    const remote: Record_[] = [];
    for (const record of report.values()) {
      if (record.type === 'outbound-rtp') streams.push(record);
      if (record.type === 'remote-inbound-rtp') remote.push(record);
    }
    const active = streams.filter((stream) => (stream.framesPerSecond ?? 1) > 0);
    const largest = active.sort((a, b) => (b.frameWidth ?? 0) - (a.frameWidth ?? 0))[0] ?? streams[0];
    const sum = (field: string) => streams.reduce((total, stream) => total + (stream[field] ?? 0), 0);
    const all = { timestamp: largest?.timestamp, bytesSent: sum('bytesSent'), packetsSent: sum('packetsSent') };
    const lost = remote.reduce((total, record) => total + (record.packetsLost ?? 0), 0);
    const rates = this.rates(id, largest ? all : undefined, 'bytesSent', 'packetsSent', lost);
    const roundTrip = remote.find((record) => record.roundTripTime !== undefined)?.roundTripTime;
    const codec = largest?.codecId ? (report.get(largest.codecId) as Record_ | undefined) : undefined;
    const layers = streams.filter((stream) => stream.kind === 'video').length;
    return {
      participantId: this.call.participantId,
      source,
      kind: sender.track.kind as 'audio' | 'video',
      direction: 'send',
      id,
      codec: codec?.mimeType?.split('/')[1],
      width: largest?.frameWidth,
      height: largest?.frameHeight,
      fps: largest?.framesPerSecond,
      bitrateBps: rates.bitrateBps,
      layer: layers > 1 ? `${active.length} of ${layers} layers` : undefined,
      lossPercent: rates.lossPercent,
      packetsLost: lost,
      roundTripMs: roundTrip === undefined ? undefined : roundTrip * 1000,
      nackCount: sum('nackCount'),
    };
  }

  private rates(id: string, record: Record_ | undefined, bytesField: string, packetsField: string, lost: number) {
    const now: Before = {
      time: record?.timestamp ?? performance.now(),
      bytes: record?.[bytesField] ?? 0,
      packets: record?.[packetsField] ?? 0,
      lost,
    };
    const before = this.before.get(id);
    if (!before || now.time > before.time) this.before.set(id, now);
    if (!before || now.time <= before.time) return { bitrateBps: 0, lossPercent: 0 };
    const seconds = (now.time - before.time) / 1000;
    const packets = Math.max(0, now.packets - before.packets);
    const newlyLost = Math.max(0, now.lost - before.lost);
    return {
      bitrateBps: Math.max(0, ((now.bytes - before.bytes) * 8) / seconds),
      lossPercent: packets + newlyLost > 0 ? (100 * newlyLost) / (packets + newlyLost) : 0,
    };
  }
}

export function layerText(track: RemoteTrack): string | undefined {
  if (track.consumer.kind !== 'video' || track.spatialLayers * track.temporalLayers === 1) return undefined;
  if (track.layers === undefined) return undefined;
  if (track.layers === null) return 'nothing is sent';
  const { spatialLayer, temporalLayer } = track.layers;
  const parts: string[] = [];
  if (track.spatialLayers > 1) parts.push(`size ${spatialLayer + 1} of ${track.spatialLayers}`);
  if (track.temporalLayers > 1 && temporalLayer !== undefined) {
    parts.push(`pace ${temporalLayer + 1} of ${track.temporalLayers}`);
  }
  return parts.join(', ');
}

/** How good everybody's connection looks at this moment, the own one too. */
export function linesNow(call: Call, figures: readonly TileFigures[]): Map<string, Line> {
  const lines = new Map<string, Line>([[call.participantId, lineOf({ interrupted: call.isInterrupted })]]);
  for (const id of call.participants.keys()) lines.set(id, 'good');
  for (const { id, participantId, direction, lossPercent, roundTripMs } of figures) {
    const isSelf = direction === 'send';
    const track = isSelf ? undefined : call.consumers.get(id);
    const before = lines.get(participantId);
    if (!before || track?.producerPaused) continue;
    // The way to the server is the own line; that to the other one is both's.
    const way = isSelf || track?.direct ? { roundTripMs } : {};
    const signs = { lossPercent, ...way, score: track?.score, producerScore: track?.producerScore, starved: track?.starved };
    lines.set(participantId, worseOf(before, lineOf(signs)));
  }
  return lines;
}

/** Everything at once, for tests and for a bug report. */
export async function everything(call: Call, statistics: Statistics): Promise<object> {
  const raw = async (transport: typeof call.sendTransport) =>
    transport && !transport.closed ? [...(await transport.getStats()).values()] : [];
  const [tiles, send, receive] = await Promise.all([
    statistics.tiles(),
    raw(call.sendTransport),
    raw(call.recvTransport),
  ]);
  return { time: performance.now(), tiles, send, receive };
}
