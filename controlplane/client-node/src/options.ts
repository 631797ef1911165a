// Where the server is, what is trusted there, what is shown to it. Files are read again for each new
// connection: certificates and tokens change while a process runs.

import fs from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { IroncastError } from './errors.js';

export interface ClientOptions {
  /**
   * `https://host:port`, or `http://...` for the plain door of a loopback address. Without it
   * `IRONCAST_CONTROL` of the environment, else `https://127.0.0.1:7443`.
   */
  url?: string;
  /** The plain door at a unix socket. */
  socketPath?: string;
  /** What is trusted at the server, PEM; without it (and `caFile`) what Node trusts. */
  ca?: string | Buffer;
  /** The same as a file, without it `IRONCAST_CA` of the environment. */
  caFile?: string;
  /** A client certificate and its private key, PEM. */
  cert?: string | Buffer;
  key?: string | Buffer;
  /** The same as files. */
  certFile?: string;
  keyFile?: string;
  /** The bearer token, or who gives it, for each request; without it `IRONCAST_TOKEN` of the environment. */
  token?: string | (() => string | Promise<string>);
  /** Longest time for one call, milliseconds, with all its repetitions (default 10,000). */
  timeoutMs?: number;
  /** An event stream that is silent for so long is opened anew (default 40,000; the server writes every 15 s). */
  silenceMs?: number;
}

export interface Settings {
  url: URL;
  socketPath: string | undefined;
  timeoutMs: number;
  silenceMs: number;
  tls(): Pick<ConnectionOptions, 'ca' | 'cert' | 'key'>;
  authorization(): Promise<string | undefined>;
}

export function settingsOf(options: ClientOptions): Settings {
  const env = process.env;
  const address = options.url ?? env['IRONCAST_CONTROL'] ?? 'https://127.0.0.1:7443';
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new IroncastError('settings', 'url begins with https:// or, for the plain door, with http://');
  }
  const timeoutMs = options.timeoutMs ?? 10_000;
  const silenceMs = options.silenceMs ?? 40_000;
  if (!(timeoutMs > 0 && silenceMs > 0)) throw new IroncastError('settings', 'timeoutMs and silenceMs are more than 0');
  const caFile = options.caFile ?? (options.ca ? undefined : env['IRONCAST_CA']);
  const token = options.token ?? env['IRONCAST_TOKEN'];
  return {
    url,
    socketPath: options.socketPath,
    timeoutMs,
    silenceMs,
    tls: () => {
      const read = (text: string | Buffer | undefined, file: string | undefined) => text ?? (file ? fs.readFileSync(file) : undefined);
      const pem = { ca: read(options.ca, caFile), cert: read(options.cert, options.certFile), key: read(options.key, options.keyFile) };
      return Object.fromEntries(Object.entries(pem).filter(([, value]) => value !== undefined));
    },
    authorization: async () => {
      const text = typeof token === 'function' ? await token() : token;
      return text ? `Bearer ${text}` : undefined;
    },
  };
}
