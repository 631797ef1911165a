// The calls of the API, by method and path: repeated where a connection breaks or the server asks to
// come again (every call of the API is safe to repeat), with errors by code. The objects are built on
// it, and what they do not have can be called here.

import { setTimeout as delay } from 'node:timers/promises';
import type http from 'node:http';
import { closedError, IroncastError, refusal } from './errors.js';
import { Door, kindOf } from './http.js';
import { type ClientOptions, settingsOf } from './options.js';
import { parseSeq, type Seq } from './seq.js';

/** A call that the server has no room for now is repeated so often, if it says to wait no longer than this. */
const BUSY_REPEATS_MAX = 2;
const BUSY_WAIT_MS_MAX = 2_000;
const BACKOFF_MS_MIN = 50;
const BACKOFF_MS_MAX = 1_000;

export interface Called<T> {
  value: T;
  /** The last event that the answer includes. */
  seq: Seq | undefined;
}

/** Between half of it and all of it: clients that were cut off together do not come back together. */
export const jittered = (ms: number): number => ms * (0.5 + Math.random() / 2);

export class Client {
  readonly timeoutMs: number;
  readonly silenceMs: number;
  readonly #door: Door;
  readonly #running = new Set<AbortController>();
  #closed = false;

  constructor(options: ClientOptions = {}) {
    const settings = settingsOf(options);
    this.timeoutMs = settings.timeoutMs;
    this.silenceMs = settings.silenceMs;
    this.#door = new Door(settings);
  }

  /**
   * `call('POST', '/routers', { id: 'room-7' })`: the answer's JSON. Throws `IroncastError`. Give ids
   * to what it creates, so that a repetition is recognised.
   */
  async call<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    return (await this.called<T>(method, path, body)).value;
  }

  /** The same with the place in the stream of events. */
  async called<T>(method: string, path: string, body?: unknown): Promise<Called<T>> {
    const text = body === undefined ? undefined : jsonOf(body);
    const end = performance.now() + this.timeoutMs;
    let busyRepeats = BUSY_REPEATS_MAX;
    let backoff = BACKOFF_MS_MIN;
    for (;;) {
      let wait: number;
      let failed: IroncastError;
      try {
        return await this.#once<T>(method, path, text, end);
      } catch (error) {
        failed = error as IroncastError;
        const isBusy = (failed.status === 429 || failed.status === 503) && failed.retryAfter !== undefined;
        if (isBusy && busyRepeats > 0 && failed.retryAfter! * 1_000 <= BUSY_WAIT_MS_MAX) {
          busyRepeats -= 1;
          wait = failed.retryAfter! * 1_000;
        } else if (failed.code === 'unreachable' || (failed.code === 'timeout' && failed.status === undefined)) {
          wait = jittered(backoff);
          backoff = Math.min(backoff * 2, BACKOFF_MS_MAX);
        } else {
          throw failed;
        }
      }
      if (this.#closed || performance.now() + wait >= end) throw failed;
      await delay(wait);
    }
  }

  /** Half of the time for one try: an answer may never come over a connection whose other end is gone. */
  async #once<T>(method: string, path: string, body: string | undefined, end: number): Promise<Called<T>> {
    const limit = Math.max(1, Math.min(end - performance.now(), this.timeoutMs / 2));
    const late = new IroncastError('timeout', `${method} ${path}: no answer within ${Math.round(limit)} ms`);
    const controller = new AbortController();
    const { signal } = controller;
    const timeout = setTimeout(() => controller.abort(late), limit);
    this.#running.add(controller);
    try {
      if (this.#closed) throw closedError('client');
      const { status, headers, text } = await this.#door.ask({ method, path: `/v1${path}`, body, signal });
      if (status < 200 || status > 299) throw refusal(`${method} ${path}`, status, text);
      // An SDP is text.
      const isJson = headers['content-type']?.includes('json') ?? true;
      const value = text === '' ? undefined : isJson ? JSON.parse(text) : text;
      return { value: value as T, seq: parseSeq(headers['ironcast-seq']) };
    } catch (error) {
      if (error instanceof SyntaxError) throw new IroncastError('answer', `${method} ${path}: ${error.message}`);
      throw kindOf(error as Error, signal);
    } finally {
      clearTimeout(timeout);
      this.#running.delete(controller);
    }
  }

  /** Opens a stream: an answer whose body is read as it comes. For `EventStream`. @internal */
  async stream(path: string, headers: Record<string, string>, signal: AbortSignal): Promise<http.IncomingMessage> {
    const response = await this.#door.open({ method: 'GET', path: `/v1${path}`, headers, signal });
    const status = response.statusCode ?? 0;
    if (status === 200) return response;
    let text = '';
    response.setEncoding('utf8');
    for await (const piece of response as AsyncIterable<string>) {
      text += piece;
      if (text.length > 2 ** 20) break;
    }
    throw refusal(`GET ${path}`, status, text);
  }

  /** Ends its connections; calls that wait fail. */
  close(): void {
    this.#closed = true;
    for (const controller of this.#running) controller.abort(closedError('client'));
    this.#door.close();
  }
}

function jsonOf(body: unknown): string {
  try {
    return JSON.stringify(body);
  } catch (error) {
    const why = `what is sent is written as JSON, appData too: ${(error as Error).message}`;
    throw new IroncastError('invalid_request', why, { cause: error });
  }
}
