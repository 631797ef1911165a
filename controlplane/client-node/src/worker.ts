// What stands where mediasoup's worker stood: a host with its event stream. It makes routers, tells
// what happens to the host, and outlives the control plane's restarts.

import { Client } from './client.js';
import { Emitter } from './emitter.js';
import { closedError, type IroncastError, unsupported } from './errors.js';
import type { CreateRouter, DrainStatus, Health, Placement, RouterInfo, RtpCodecCapability, WorkerInfo } from './openapi.js';
import type { ClientOptions } from './options.js';
import { Router } from './router.js';
import type { Seq } from './seq.js';
import { Session } from './session.js';
import type { ServerEvent } from './stream.js';
import type { AppData } from './types.js';

export interface CreateWorkerOptions extends ClientOptions {
  appData?: AppData;
}

export interface RouterOptions {
  id?: string;
  /** Without them the host's default set: Opus, VP8, VP9, H264, AV1. */
  mediaCodecs?: RtpCodecCapability[];
  /** On this worker of the host, and no other. */
  workerId?: string;
  placement?: Placement;
  /** With `hash`: routers with the same key go to the same worker. Without it the router's id. */
  placementKey?: string;
  /** The videos of so many who spoke last are forwarded; without it all. */
  lastN?: number;
  /** So many voices are forwarded, the loudest; without it all. */
  loudestN?: number;
  appData?: AppData;
}

export interface WorkerEvents {
  /** The event stream broke; it is opened again. Calls still work if the server is there. */
  disconnected: [IroncastError];
  /** It is open again, and every object is as the server has it. */
  connected: [];
  /** One of the host's workers died, and its routers with it: they have had `workerclose`. */
  workerdied: [{ workerId: string; routerIds: string[]; reason: string }];
  workerrestarted: [{ workerId: string; routerIds: string[]; reason: string }];
  /** The host takes no new routers; with a deadline those that are there end then. */
  draining: [{ deadline?: number }];
  drained: [];
  undrained: [];
  capacityexhausted: [{ workerIds: string[] }];
  capacityavailable: [{ workerIds: string[] }];
}

export interface WorkerObserverEvents {
  close: [];
  newrouter: [Router];
}

/** mediasoup's observer of the whole module. */
export const observer = new Emitter<{ newworker: [Worker] }>();

/** Connects to a host. Rejects if it does not answer, or does not let us in. */
export async function connect(options: CreateWorkerOptions = {}): Promise<Worker> {
  const worker = new Worker(options);
  await worker.start();
  observer.safeEmit('newworker', worker);
  return worker;
}

export class Worker extends Emitter<WorkerEvents> {
  /** For calls that have no method here. */
  readonly client: Client;
  readonly observer = new Emitter<WorkerObserverEvents>();
  appData: AppData;
  readonly #session: Session;
  readonly #routers = new Map<string, Router>();
  #closed = false;

  /** @internal */
  constructor({ appData = {}, ...options }: CreateWorkerOptions) {
    super();
    this.appData = appData;
    this.client = new Client(options);
    this.#session = new Session(this.client, {
      hostEvent: (event) => this.#take(event),
      connected: () => this.safeEmit('connected'),
      disconnected: (error) => this.safeEmit('disconnected', error),
    });
  }

  /** @internal */
  async start(): Promise<void> {
    try {
      await this.#session.start();
    } catch (error) {
      await this.#session.close();
      throw error;
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Always false: a host that is gone for a time is `disconnected`. */
  get died(): boolean {
    return false;
  }

  /** The routers that this process knows. */
  get routers(): Router[] {
    return [...this.#routers.values()];
  }

  async createRouter(options: RouterOptions = {}): Promise<Router> {
    if (this.#closed) throw closedError('worker');
    const { id, mediaCodecs, workerId, placement, placementKey, lastN, loudestN, appData = {} } = options;
    const body: CreateRouter = { id, mediaCodecs, workerId, placement, placementKey, lastN, loudestN, appData };
    const make = (info: RouterInfo, seq: Seq) => this.#add(info, appData, seq);
    const router = await this.#session.create('router', '/routers', body, make);
    this.observer.safeEmit('newrouter', router);
    return router;
  }

  /** A router that another process made, or this one before it was started again, with all that is in it. */
  async findRouter(id: string): Promise<Router> {
    if (this.#closed) throw closedError('worker');
    let isNew = false;
    const router = await this.#session.adopt(id, (found, seq) => {
      isNew = true;
      const router = this.#add(found, found.appData ?? {}, seq);
      this.#session.add(router);
      router.adopt(found, seq);
      return router;
    });
    if (isNew) this.observer.safeEmit('newrouter', router);
    return router;
  }

  /** Closes the routers of this process, at the server too, and ends the connection. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const all = [...this.#routers.values()].map((router) => router.workerClosed());
    this.observer.safeEmit('close');
    const closing = this.#session.close();
    await Promise.all(all);
    await closing;
  }

  /** Ends the connection and leaves the rooms as they are: `findRouter` takes them up again. */
  async disconnect(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const router of this.#routers.values()) router.leftAlone();
    this.observer.safeEmit('close');
    await this.#session.close();
  }

  /** The routers of this process, and the host's workers with their load. */
  async dump(): Promise<{ webRtcServerIds: string[]; routerIds: string[]; workers: WorkerInfo[] }> {
    const workers = await this.client.call<WorkerInfo[]>('GET', '/workers');
    return { webRtcServerIds: [], routerIds: [...this.#routers.keys()], workers };
  }

  health(): Promise<Health> {
    return this.client.call('GET', '/health');
  }

  /** Whether the host drains, and what is left. */
  drainStatus(): Promise<DrainStatus> {
    return this.client.call('GET', '/admin/drain');
  }

  /** Not in this version: the server's ports are its configuration. */
  async createWebRtcServer(_options?: object): Promise<never> {
    throw unsupported('WebRTC servers: its ports are its configuration (rtc.ports, rtc.single_port)');
  }

  /** Not here: the host's configuration, and `POST /admin/reload`. */
  async updateSettings(_settings?: object): Promise<never> {
    throw unsupported('settings by this call: they are its configuration');
  }

  /** Not here: `dump()` has the workers with their load. */
  async getResourceUsage(): Promise<never> {
    throw unsupported('resource usage of a process: dump() has the workers with their load');
  }

  #add(info: RouterInfo, appData: AppData, seq: Seq): Router {
    if (this.#closed) throw closedError('worker');
    const router = new Router(this.#session, info, appData, seq, () => this.#routers.delete(info.id));
    this.#routers.set(info.id, router);
    return router;
  }

  #take({ name, data }: ServerEvent): void {
    if (name === 'worker.died') this.safeEmit('workerdied', data);
    else if (name === 'worker.restarted') this.safeEmit('workerrestarted', data);
    else if (name === 'host.draining') this.safeEmit('draining', data.deadline == null ? {} : { deadline: data.deadline });
    else if (name === 'host.drained') this.safeEmit('drained');
    else if (name === 'host.undrained') this.safeEmit('undrained');
    else if (name === 'capacity.exhausted') this.safeEmit('capacityexhausted', data);
    else if (name === 'capacity.available') this.safeEmit('capacityavailable', data);
  }
}
