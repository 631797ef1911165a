// A plain transport: RTP without ICE and DTLS, in the clear or sealed with keys of the API, for FFmpeg, GStreamer and telephony.

import { Emitter } from './emitter.js';
import type { PlainConnectAnswer, SrtpCryptoSuite, SrtpParameters, TransportInfo, TransportStats, TransportTuple } from './openapi.js';
import type { ClosedReason } from './resource.js';
import type { Seq } from './seq.js';
import type { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import { Transport, type TransportEvents, type TransportObserverEvents } from './transport.js';
import type { AppData } from './types.js';

export interface PlainTransportOptions {
  id?: string;
  /** Whose it is. */
  participantId?: string;
  /** Our address, one of the host's (default 127.0.0.1). As in mediasoup, of `listenInfo` `ip` and `port` are taken. */
  listenIp?: string | { ip: string };
  listenInfo?: { ip: string; port?: number; protocol?: unknown; announcedAddress?: unknown };
  /** Our port for RTP; RTCP has the next one. One of `rtc.plain_ports` without it. */
  port?: number;
  /** RTCP on the port of RTP (default true). */
  rtcpMux?: boolean;
  /** The peer is where its packets come from (default false). */
  comedia?: boolean;
  enableSrtp?: boolean;
  srtpCryptoSuite?: SrtpCryptoSuite;
  appData?: AppData;
}

export interface PlainTransportEvents extends TransportEvents {
  /** The peer's address was learned. */
  tuple: [TransportTuple];
  rtcptuple: [TransportTuple];
}

export interface PlainTransportObserverEvents extends TransportObserverEvents {
  tuple: [TransportTuple];
  rtcptuple: [TransportTuple];
}

/** What the server tells of it. */
export type PlainTransportInfo = Extract<TransportInfo, { type: 'plain' }>;
/** Its figures. */
export type PlainTransportStat = Extract<TransportStats, { type: 'plain-rtp-transport' }>;

type News = Partial<Pick<PlainTransportInfo, 'tuple' | 'rtcpTuple' | 'srtpParameters'>>;

export class PlainTransport extends Transport<PlainTransportEvents, PlainTransportObserverEvents> {
  readonly #info: PlainTransportInfo;

  /** @internal */
  constructor(session: Session, info: PlainTransportInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info, appData, seq, onEnd);
    this.#info = { ...info };
  }

  get type(): 'plain' {
    return 'plain';
  }

  /** Our end, and the peer's once it is known. */
  get tuple(): TransportTuple {
    return this.#info.tuple;
  }

  /** The same of RTCP, without `rtcpMux`. */
  get rtcpTuple(): TransportTuple | undefined {
    return this.#info.rtcpTuple ?? undefined;
  }

  /** What our packets are sealed with, with `enableSrtp`. */
  get srtpParameters(): SrtpParameters | undefined {
    return this.#info.srtpParameters ?? undefined;
  }

  get rtcpMux(): boolean {
    return this.#info.rtcpMux;
  }

  get comedia(): boolean {
    return this.#info.comedia;
  }

  /** Where the peer takes packets (not with `comedia`), and what it seals with. */
  async connect(peer: { ip?: string; port?: number; rtcpPort?: number; srtpParameters?: SrtpParameters }): Promise<void> {
    const { ip, port, rtcpPort, srtpParameters } = peer;
    this.change(await this.call<PlainConnectAnswer>('POST', '/connect', { ip, port, rtcpPort, srtpParameters }));
  }

  /** What its consumers send, as SDP, for FFmpeg and GStreamer to receive it. */
  getSdp(): Promise<string> {
    return this.call('GET', '/sdp');
  }

  getStats(): Promise<PlainTransportStat[]> {
    return this.call('GET', '/stats');
  }

  /** @internal */
  receive({ name, data, seq }: ServerEvent): void {
    if (name === 'trace') this.traced(data.trace);
    else if (name === 'transport.closed') this.closedByServer(data.reason);
    else if (name === 'transport.tuple') this.update({ tuple: data.tuple }, seq);
    else if (name === 'transport.rtcptuple') this.update({ rtcpTuple: data.rtcpTuple }, seq);
  }

  protected change({ tuple, rtcpTuple, srtpParameters }: News): void {
    const info = this.#info;
    if (srtpParameters) info.srtpParameters = srtpParameters;
    if (tuple && JSON.stringify(tuple) !== JSON.stringify(info.tuple)) {
      info.tuple = tuple;
      this.#emitBoth('tuple', tuple);
    }
    if (rtcpTuple && JSON.stringify(rtcpTuple) !== JSON.stringify(info.rtcpTuple)) {
      info.rtcpTuple = rtcpTuple;
      this.#emitBoth('rtcptuple', rtcpTuple);
    }
  }

  #emitBoth(name: 'tuple' | 'rtcptuple', tuple: TransportTuple): void {
    this.safeEmit(name, tuple);
    (this.observer as Emitter<Pick<PlainTransportEvents, 'tuple' | 'rtcptuple'>>).safeEmit(name, tuple);
  }

  protected closedByServer(reason: ClosedReason): void {
    if (reason === 'router_closed') return this.routerClosed();
    this.end(() => this.safeEmit('close', reason));
  }
}
