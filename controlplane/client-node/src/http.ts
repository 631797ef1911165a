// One request over HTTP/1.1: connections that are kept, time limits, and errors by kind. Knows
// nothing of the API.

import http from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { IroncastError } from './errors.js';
import type { Settings } from './options.js';

/** So many calls are on their way at once; more wait. Event streams have connections of their own. */
const CONNECTIONS_MAX = 32;
/** Largest answer that is read: a page of a snapshot is the largest there is. */
const ANSWER_CHARACTERS_MAX = 256 * 2 ** 20;

export interface Request {
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: string | undefined;
  signal: AbortSignal;
}

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
}

/** An agent that reads the certificates' files for each connection. */
class TlsAgent extends https.Agent {
  constructor(private readonly settings: Settings, options: https.AgentOptions) {
    super(options);
  }

  override createConnection(options: object, done: (error: Error | null, socket?: Duplex) => void): Duplex | undefined {
    try {
      const inherited = https.Agent.prototype as unknown as { createConnection(options: object): Duplex };
      return inherited.createConnection.call(this, { ...options, ...this.settings.tls() });
    } catch (error) {
      done(new IroncastError('settings', `the certificates cannot be used: ${(error as Error).message}`, { cause: error }));
      return undefined;
    }
  }
}

export class Door {
  readonly #settings: Settings;
  readonly #calls: http.Agent;
  readonly #streams: http.Agent;

  constructor(settings: Settings) {
    this.#settings = settings;
    const make = (options: http.AgentOptions) =>
      settings.url.protocol === 'https:' ? new TlsAgent(settings, options) : new http.Agent(options);
    this.#calls = make({ keepAlive: true, maxSockets: CONNECTIONS_MAX, timeout: 30_000 });
    this.#streams = make({ keepAlive: false });
  }

  /** Sends a request and gives the answer with its body unread. */
  async open({ method, path, headers, body, signal }: Request, agent = this.#streams): Promise<http.IncomingMessage> {
    const { url, socketPath } = this.#settings;
    const authorization = await this.#settings.authorization();
    const sent: Record<string, string | number> = { ...headers };
    if (authorization) sent['authorization'] = authorization;
    if (body !== undefined) Object.assign(sent, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    return new Promise((resolve, reject) => {
      const send = url.protocol === 'https:' ? https.request : http.request;
      const request = send(new URL(path, url), { method, headers: sent, agent, signal, ...(socketPath ? { socketPath } : {}) });
      request.on('error', (error) => reject(kindOf(error, signal)));
      request.on('response', resolve);
      request.end(body);
    });
  }

  /** Sends a request and reads the whole answer. */
  async ask(request: Request): Promise<Answer> {
    const response = await this.open(request, this.#calls);
    const pieces: string[] = [];
    let length = 0;
    try {
      response.setEncoding('utf8');
      for await (const piece of response as AsyncIterable<string>) {
        length += piece.length;
        if (length > ANSWER_CHARACTERS_MAX) throw new IroncastError('answer', 'the answer is too large');
        pieces.push(piece);
      }
    } catch (error) {
      response.destroy();
      throw kindOf(error as Error, request.signal);
    }
    return { status: response.statusCode ?? 0, headers: response.headers, text: pieces.join('') };
  }

  close(): void {
    this.#calls.destroy();
    this.#streams.destroy();
  }
}

/** Which of our errors an error of Node's is. */
export function kindOf(error: Error, signal?: AbortSignal): IroncastError {
  if (error instanceof IroncastError) return error;
  const reason: unknown = signal?.aborted ? signal.reason : undefined;
  if (reason instanceof IroncastError) return reason;
  const { code = '' } = error as NodeJS.ErrnoException;
  const isCertificate = /CERT|ERR_TLS|ERR_SSL|UNABLE_TO|SELF_SIGNED/.test(code);
  const name = isCertificate ? 'untrusted' : code === 'ERR_INVALID_CHAR' ? 'settings' : 'unreachable';
  return new IroncastError(name, `the control plane cannot be reached: ${error.message || code}`, { cause: error });
}
