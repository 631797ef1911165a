// A pipe transport: between two routers, of one host or of two. `router.pipeToRouter()` makes pairs of them by itself.

import type { PlainConnectAnswer, SrtpParameters, TransportInfo, TransportStats, TransportTuple } from './openapi.js';
import type { ClosedReason } from './resource.js';
import type { Seq } from './seq.js';
import type { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import { Transport, type TransportEvents, type TransportObserverEvents } from './transport.js';
import type { AppData } from './types.js';

export interface PipeTransportOptions {
  id?: string;
  /** Our address, one of the host's (default `pipes.listen`). As in mediasoup, of `listenInfo` `ip` and `port` are taken. */
  listenIp?: string | { ip: string };
  listenInfo?: { ip: string; port?: number; protocol?: unknown; announcedAddress?: unknown };
  port?: number;
  /** Repetitions have streams of their own. */
  enableRtx?: boolean;
  enableSrtp?: boolean;
  appData?: AppData;
}

/** What the server tells of it. */
export type PipeTransportInfo = Extract<TransportInfo, { type: 'pipe' }>;
/** Its figures. */
export type PipeTransportStat = Extract<TransportStats, { type: 'pipe-transport' }>;

type News = Partial<Pick<PipeTransportInfo, 'tuple' | 'srtpParameters'>>;

export class PipeTransport extends Transport<TransportEvents, TransportObserverEvents> {
  readonly #info: PipeTransportInfo;

  /** @internal */
  constructor(session: Session, info: PipeTransportInfo, appData: AppData, seq: Seq, onEnd: () => void) {
    super(session, info, appData, seq, onEnd);
    this.#info = { ...info };
  }

  get type(): 'pipe' {
    return 'pipe';
  }

  /** Our end, and the other one once it is known. */
  get tuple(): TransportTuple {
    return this.#info.tuple;
  }

  /** What our packets are sealed with, with `enableSrtp`. */
  get srtpParameters(): SrtpParameters | undefined {
    return this.#info.srtpParameters ?? undefined;
  }

  /** Where the other end is, and what it seals with. */
  async connect({ ip, port, srtpParameters }: { ip: string; port: number; srtpParameters?: SrtpParameters }): Promise<void> {
    this.change(await this.call<PlainConnectAnswer>('POST', '/connect', { ip, port, srtpParameters }));
  }

  getStats(): Promise<PipeTransportStat[]> {
    return this.call('GET', '/stats');
  }

  /** @internal */
  receive({ name, data }: ServerEvent): void {
    if (name === 'trace') this.traced(data.trace);
    else if (name === 'transport.closed') this.closedByServer(data.reason);
  }

  protected change({ tuple, srtpParameters }: News): void {
    if (tuple) this.#info.tuple = tuple;
    if (srtpParameters) this.#info.srtpParameters = srtpParameters;
  }

  protected closedByServer(reason: ClosedReason): void {
    if (reason === 'router_closed') return this.routerClosed();
    this.end(() => this.safeEmit('close', reason));
  }
}
