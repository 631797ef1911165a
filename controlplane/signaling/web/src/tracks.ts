// What is sent and received, in one shape for both ways of a call: by the media server, and directly.

export type Source = 'mic' | 'camera' | 'screen';

/** From the server (mediasoup-client's Consumer), or directly from another browser. */
export interface Received {
  id: string;
  kind: 'audio' | 'video';
  track: MediaStreamTrack;
  closed: boolean;
  rtpReceiver?: RTCRtpReceiver;
  getStats: () => Promise<RTCStatsReport>;
  close: () => void;
  pause: () => void;
  resume: () => void;
}

export interface RemoteTrack {
  consumer: Received;
  producerId: string;
  participantId: string;
  source: Source;
  /** Not by the server. */
  direct?: boolean;
  producerPaused: boolean;
  spatialLayers: number;
  temporalLayers: number;
  /** Width of the whole picture that is sent, as its sender said; 0 when he did not. */
  width: number;
  /** As the server reported last; null while it sends none, undefined before it said anything. */
  layers: { spatialLayer: number; temporalLayer?: number } | null | undefined;
  /** Nothing is sent, because this browser's line has no room for it. */
  starved: boolean;
  /** Its room shows the videos of those who spoke last, and this is none of them. */
  leftOut: boolean;
  /** 0 to 10: what arrives here; null before the server said anything. */
  score: number | null;
  /** What arrives at the server of its sender. */
  producerScore: number | null;
}

/** What is known of a track before anything came. */
export function fresh(track: Pick<RemoteTrack, 'consumer' | 'producerId' | 'participantId' | 'source'>): RemoteTrack {
  return {
    ...track,
    producerPaused: false,
    spatialLayers: 1,
    temporalLayers: 1,
    width: 0,
    layers: undefined,
    starved: false,
    leftOut: false,
    score: null,
    producerScore: null,
  };
}

/** What the server says of how well a track comes: with its answer, then whenever that changes. */
export function scores(said?: { score?: number; producerScore?: number } | null): Pick<RemoteTrack, 'score' | 'producerScore'> {
  // None: nothing came of it lately, as of a picture that is paused.
  return { score: said?.score ?? null, producerScore: said?.producerScore || null };
}

/** The browser's record of what comes. */
export async function inbound(track: RemoteTrack): Promise<Record<string, any> | undefined> {
  const report = track.consumer.closed ? null : await track.consumer.getStats().catch(() => null);
  for (const record of report?.values() ?? []) if (record.type === 'inbound-rtp') return record;
  return undefined;
}

/** As people call it. */
export function nameOf(source: Source): string {
  return source === 'mic' ? 'microphone' : source;
}
