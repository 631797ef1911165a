// A direct connection to another person of a room, browser to browser: what is sent and received
// over it, told in the shapes of the call. Both may change what they send at any time; when both do
// so at once, the one who began the connection wins ("perfect negotiation").

import type { CodecName } from './encodings.ts';
import { fresh, type Received, type RemoteTrack, type Source } from './tracks.ts';

type Word = 'webrtc:offer' | 'webrtc:answer' | 'webrtc:ice-candidate';

interface Description {
  type: RTCSdpType;
  sdp: string;
  /** Media section to what it carries. */
  sources?: Record<string, Source>;
}

export interface DirectOptions {
  peerId: string;
  /** Makes the first offer. */
  initiator: boolean;
  iceServers: RTCIceServer[];
  codec: CodecName;
  /** Whether a source is to be seen or heard now, whatever its track is. */
  isOn: (source: Source) => boolean;
  say: (word: Word, payload: object) => Promise<void>;
  added: (track: RemoteTrack) => void;
  removed: (track: RemoteTrack) => void;
  changed: (track: RemoteTrack) => void;
  /** Media comes through, or does not any more. */
  connectionChanged: () => void;
  /** It could not be made, or not be restored. */
  lost: (reason: string) => void;
  step: (name: string, detail?: Record<string, unknown>) => void;
}

const CONNECT_MS_MAX = 8_000;
/** What a direct connection begins to send with. */
const START_KBPS = 1_000;
const RESTORE_MS_MAX = 6_000;
const SOURCES: Source[] = ['mic', 'camera', 'screen'];
const BITRATE_BPS = { mic: 64_000, camera: 1_500_000, screen: 2_500_000 };

/** What is on at its sender: told beside the media, as a track that is muted looks like any other. */
type Live = Partial<Record<Source, boolean>>;

export class Direct {
  readonly peerId: string;
  readonly initiator: boolean;
  readonly pc: RTCPeerConnection;
  /** What comes. */
  readonly tracks = new Map<Source, RemoteTrack>();
  closed = false;

  private options: DirectOptions;
  private senders = new Map<Source, RTCRtpSender>();
  private live: Live = {};
  private remoteLive: Live | null = null;
  private remoteSources: Record<string, Source> = {};
  private receivers = new Map<Source, RTCRtpTransceiver>();
  private channel: RTCDataChannel;
  /** The other has spoken: from now on both may offer. */
  private begun: boolean;
  private offering = false;
  private ignoring = false;
  private hearing: Promise<void> = Promise.resolve();
  private saying: Promise<void> = Promise.resolve();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: DirectOptions) {
    this.options = options;
    this.peerId = options.peerId;
    this.initiator = options.initiator;
    this.begun = options.initiator;
    this.pc = new RTCPeerConnection({ iceServers: options.iceServers, bundlePolicy: 'max-bundle' });
    this.channel = this.pc.createDataChannel('live', { negotiated: true, id: 0 });
    this.channel.onopen = () => this.tellLive();
    this.channel.onmessage = ({ data }) => this.heardLive(data);
    this.pc.onnegotiationneeded = () => {
      if (this.begun) void this.offer();
    };
    this.pc.onicecandidate = ({ candidate }) => this.say('webrtc:ice-candidate', { candidate });
    this.pc.ontrack = ({ transceiver }) => {
      const source = this.remoteSources[transceiver.mid ?? ''];
      if (!source) return;
      this.receivers.set(source, transceiver);
      this.sync();
    };
    this.pc.onconnectionstatechange = () => this.stateChanged();
    this.giveUpAfter(CONNECT_MS_MAX, 'the direct connection could not be made');
  }

  /** The other one said something. */
  hear(word: Word, payload: any): void {
    this.hearing = this.hearing.then(async () => {
      if (this.closed) return;
      try {
        if (word === 'webrtc:ice-candidate') await this.pc.addIceCandidate(payload.candidate ?? undefined);
        else await this.described(word === 'webrtc:offer' ? payload.offer : payload.answer);
      } catch (error) {
        if (!this.ignoring && !this.closed) this.options.step('directProblem', { word, message: String(error) });
      }
    });
  }

  private async described(description: Description): Promise<void> {
    const isOffer = description.type === 'offer';
    const collides = isOffer && (this.offering || this.pc.signalingState !== 'stable');
    this.ignoring = collides && this.initiator;
    if (this.ignoring) return;
    for (const [mid, source] of Object.entries(description.sources ?? {})) {
      if (SOURCES.includes(source)) this.remoteSources[mid] = source;
    }
    this.begun = true;
    await this.pc.setRemoteDescription({ type: description.type, sdp: withStartBitrate(description.sdp) });
    if (!isOffer) return;
    await this.pc.setLocalDescription();
    this.say('webrtc:answer', { answer: this.description() });
  }

  private async offer(): Promise<void> {
    try {
      this.offering = true;
      await this.pc.setLocalDescription();
      if (this.closed) return;
      this.say('webrtc:offer', { offer: this.description() });
    } catch (error) {
      if (!this.closed) this.options.step('directProblem', { message: String(error) });
    } finally {
      this.offering = false;
    }
  }

  private description(): Description {
    const { type, sdp } = this.pc.localDescription!;
    const sources: Record<string, Source> = {};
    for (const { mid, sender } of this.pc.getTransceivers()) {
      const source = [...this.senders].find(([, each]) => each === sender)?.[0];
      if (mid && source) sources[mid] = source;
    }
    return { type, sdp, sources };
  }

  /** One after the other, as they were said. */
  private say(word: Word, payload: object): void {
    this.saying = this.saying.then(async () => {
      if (!this.closed) await this.options.say(word, { to: this.peerId, ...payload });
    });
    this.saying.catch((error) => this.options.step('directProblem', { word, message: String(error) }));
    this.saying = this.saying.catch(() => {});
  }

  // ---- sending -----------------------------------------------------------------------------

  async setTrack(source: Source, track: MediaStreamTrack | null): Promise<void> {
    if (this.closed) return;
    const known = this.senders.get(source);
    if (known) {
      await known.replaceTrack(track);
    } else if (track) {
      const sender = this.pc.addTrack(track);
      this.senders.set(source, sender);
      this.prefer(sender);
      const parameters = sender.getParameters();
      for (const encoding of parameters.encodings) encoding.maxBitrate = BITRATE_BPS[source];
      await sender.setParameters(parameters).catch(() => {});
    }
    this.refresh(source);
  }

  /** On or off, as it is wanted at this moment. */
  refresh(source: Source): void {
    const isOn = this.options.isOn(source);
    if (this.closed || this.live[source] === isOn) return;
    this.live[source] = isOn;
    this.tellLive();
  }

  /** The codec of the call comes first. */
  private prefer(sender: RTCRtpSender): void {
    if (sender.track?.kind !== 'video') return;
    const transceiver = this.pc.getTransceivers().find((each) => each.sender === sender);
    const wanted = `video/${this.options.codec}`.toLowerCase();
    const codecs = RTCRtpReceiver.getCapabilities('video')?.codecs ?? [];
    const first = codecs.filter(({ mimeType }) => mimeType.toLowerCase() === wanted);
    try {
      transceiver?.setCodecPreferences([...first, ...codecs.filter((codec) => !first.includes(codec))]);
    } catch {
      // A browser that does not want to be told chooses by itself.
    }
  }

  sender(source: Source): RTCRtpSender | undefined {
    return this.senders.get(source);
  }

  private tellLive(): void {
    if (this.channel.readyState === 'open') this.channel.send(JSON.stringify(this.live));
  }

  // ---- receiving ---------------------------------------------------------------------------

  private heardLive(data: unknown): void {
    try {
      this.remoteLive = JSON.parse(String(data)) as Live;
    } catch {
      return;
    }
    this.sync();
  }

  /** Tells what is there now, and what is on. */
  private sync(): void {
    for (const [source, transceiver] of this.receivers) {
      // Not told yet: what is announced is on.
      const isOn = this.remoteLive ? this.remoteLive[source] === true : true;
      const track = this.tracks.get(source);
      if (!track && (isOn || source !== 'screen')) {
        const made = received(this.peerId, source, transceiver.receiver);
        made.producerPaused = !isOn;
        this.tracks.set(source, made);
        this.options.added(made);
      } else if (track && source === 'screen' && !isOn) {
        this.tracks.delete(source);
        this.options.removed(track);
      } else if (track && track.producerPaused === isOn) {
        track.producerPaused = !isOn;
        this.options.changed(track);
      }
    }
  }

  // ---- the connection ----------------------------------------------------------------------

  get isInterrupted(): boolean {
    return this.pc.connectionState === 'disconnected' || this.pc.connectionState === 'failed';
  }

  private stateChanged(): void {
    const { connectionState } = this.pc;
    this.options.step('direct', { state: connectionState, peerId: this.peerId });
    this.options.connectionChanged();
    if (connectionState === 'connected') clearTimeout(this.timer);
    if (connectionState !== 'disconnected' && connectionState !== 'failed') return;
    this.giveUpAfter(RESTORE_MS_MAX, 'the direct connection was lost');
    if (connectionState === 'failed') this.pc.restartIce();
  }

  private giveUpAfter(ms: number, reason: string): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (!this.closed && this.pc.connectionState !== 'connected') this.options.lost(reason);
    }, ms);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    for (const track of this.tracks.values()) track.consumer.close();
    this.pc.close();
  }
}

/**
 * Chromium begins to send with 300 kb/s and makes the picture smaller for that. Who talks directly has just
 * had more by the server, whose codecs say the same (`x-google-start-bitrate`).
 */
export function withStartBitrate(sdp: string): string {
  const parameter = `x-google-start-bitrate=${START_KBPS}`;
  const codecs = [...sdp.matchAll(/^a=rtpmap:(\d+) (?:VP8|VP9|H264|AV1)\/90000/gim)].map(([, type]) => type);
  return codecs.reduce((text, type) => {
    const known = new RegExp(`^(a=fmtp:${type} [^\r\n]*)`, 'm');
    if (known.test(text)) return text.replace(known, `$1;${parameter}`);
    return text.replace(new RegExp(`^(a=rtpmap:${type} [^\r\n]*)(\r?\n)`, 'm'), `$1$2a=fmtp:${type} ${parameter}$2`);
  }, sdp);
}

/** What comes over a direct connection, in the shape of what comes from the server. */
function received(participantId: string, source: Source, receiver: RTCRtpReceiver): RemoteTrack {
  const { track } = receiver;
  const consumer: Received = {
    id: `direct-${participantId}-${source}`,
    kind: track.kind as 'audio' | 'video',
    track,
    closed: false,
    rtpReceiver: receiver,
    getStats: () => receiver.getStats(),
    close: () => {
      consumer.closed = true;
    },
    pause: () => {
      track.enabled = false;
    },
    resume: () => {
      track.enabled = true;
    },
  };
  return { ...fresh({ consumer, producerId: consumer.id, participantId, source }), direct: true };
}
