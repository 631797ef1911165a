// The event stream: opened, read, and opened again behind the last event when it breaks, for as long
// as it is not closed. What is gone meanwhile (410 `events_lost`) is left to the owner, who says where
// to go on.

import { setTimeout as delay } from 'node:timers/promises';
import { type Client, jittered } from './client.js';
import { closedError, IroncastError } from './errors.js';
import { kindOf } from './http.js';
import type { EventsByName } from './openapi.js';
import { formatSeq, parseSeq, type Seq } from './seq.js';
import { Events } from './sse.js';

const OPEN_MS_MAX = 10_000;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;

type EventData = Required<EventsByName>;

/** An event as the server tells it; `data` has `seq`, `time` and what belongs to the name. */
export type ServerEvent = {
  [Name in keyof EventData]: { name: Name; seq: Seq; data: EventData[Name] };
}[keyof EventData];

export interface StreamOwner {
  event(event: ServerEvent): void;
  /** Events are lost: looks at what there is, and gives the place that it has seen. */
  lost(): Promise<Seq>;
  /** The stream is open, at first or again. */
  up(): void;
  /** It broke; it is opened again. Told once until it is up. */
  down(error: IroncastError): void;
}

export class EventStream {
  readonly #client: Client;
  readonly #owner: StreamOwner;
  readonly #closing = new AbortController();
  #silence: Silence | undefined;
  #after: Seq | undefined;
  #isDown = false;

  constructor(client: Client, owner: StreamOwner) {
    this.#client = client;
    this.#owner = owner;
  }

  /** Resolves when the stream is open for the first time; from then on it keeps itself open. */
  async start(): Promise<void> {
    const end = performance.now() + this.#client.timeoutMs;
    for (let wait = RETRY_MS_MIN; ; wait = Math.min(wait * 2, RETRY_MS_MAX)) {
      try {
        const response = await this.#open();
        void this.#run(response);
        return;
      } catch (error) {
        const failed = error as IroncastError;
        const pause = jittered(wait);
        if (!failed.isTemporary || performance.now() + pause > end) throw failed;
        await delay(pause);
      }
    }
  }

  close(): void {
    this.#closing.abort();
    this.#silence?.abort(closedError('event stream'));
  }

  async #run(first: AsyncIterable<string>): Promise<void> {
    let response: AsyncIterable<string> | undefined = first;
    let wait = RETRY_MS_MIN;
    while (!this.#closing.signal.aborted) {
      try {
        response ??= await this.#open();
        if (this.#isDown) this.#owner.up();
        this.#isDown = false;
        wait = RETRY_MS_MIN;
        await this.#read(response);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        const failed = await this.#recover(kindOf(error as Error));
        if (this.#closing.signal.aborted) return;
        if (failed && !this.#isDown) this.#owner.down(failed);
        if (failed) {
          this.#isDown = true;
          await delay(jittered(Math.max(wait, (failed.retryAfter ?? 0) * 1_000)), undefined, { signal: this.#closing.signal }).catch(() => {});
          wait = Math.min(wait * 2, RETRY_MS_MAX);
        }
      }
      response = undefined;
    }
  }

  /** What is left of an error when it was looked after. */
  async #recover(error: IroncastError): Promise<IroncastError | undefined> {
    if (error.code !== 'events_lost') return error;
    try {
      this.#after = await this.#owner.lost();
      return undefined;
    } catch (again) {
      return kindOf(again as Error);
    }
  }

  async #open(): Promise<AsyncIterable<string>> {
    const headers: Record<string, string> = { accept: 'text/event-stream' };
    if (this.#after) headers['last-event-id'] = formatSeq(this.#after);
    const silence = new Silence();
    this.#silence = silence;
    silence.within(OPEN_MS_MAX);
    try {
      const response = await this.#client.stream('/events', headers, silence.signal);
      // Where a stream that began at "now" has to resume even if no event came.
      this.#after ??= parseSeq(response.headers['ironcast-seq']);
      response.setEncoding('utf8');
      return silence.watched(response, this.#client.silenceMs);
    } catch (error) {
      silence.end();
      throw kindOf(error as Error, silence.signal);
    }
  }

  async #read(pieces: AsyncIterable<string>): Promise<void> {
    const events = new Events();
    for await (const piece of pieces) {
      for (const { name, data } of events.push(piece)) this.#take(name, data);
      this.#after = parseSeq(events.lastId) ?? this.#after;
    }
    throw new IroncastError('unreachable', 'the server ended the event stream');
  }

  /** A newer server may have events that cannot be read: they are passed over. */
  #take(name: string, text: string): void {
    let data: { seq?: unknown };
    try {
      data = JSON.parse(text) as { seq?: unknown };
    } catch {
      return;
    }
    const seq = parseSeq(data?.seq);
    if (!seq) return;
    this.#after = seq;
    this.#owner.event({ name, seq, data } as ServerEvent);
  }
}

/** Aborts when nothing comes for too long, or when it is told to. */
class Silence {
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  within(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.abort(new IroncastError('unreachable', 'the event stream is silent')), ms);
  }

  abort(reason: IroncastError): void {
    this.end();
    this.#controller.abort(reason);
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  async *watched(response: AsyncIterable<string>, ms: number): AsyncGenerator<string> {
    try {
      this.within(ms);
      for await (const piece of response) {
        this.within(ms);
        yield piece;
      }
    } catch (error) {
      throw kindOf(error as Error, this.signal);
    } finally {
      this.end();
    }
  }
}
