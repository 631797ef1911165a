// The socket to the signaling service: one promise for each request, reconnecting by itself.

import { io, type Socket } from 'socket.io-client';

/**
 * Longer than the service works on a request (15 s, `REQUEST_TIME_MAX` in `gateway.rs`): its late answer
 * is heard. Where the socket ends, nobody waits for so long.
 */
const ANSWER_TIME_MS_MAX = 20_000;
const HEARTBEAT_MS = 10_000;
const AGAIN_MS_FIRST = 300;
const AGAIN_MS_MAX = 8_000;

/** What may work a moment later: nothing was wrong with the request itself. */
const PASSING = new Set([
  'offline',
  'timeout',
  'rate_limited',
  'media_unavailable',
  'dataplane_unavailable',
  'store_unavailable',
]);

/** A refused request: `code` is stable, `message` is for people. */
export class Refused extends Error {
  code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Whether the same request may work a moment later. */
export function isPassing(error: unknown): boolean {
  return error instanceof Refused && PASSING.has(error.code);
}

/** Whether there is no room for what was asked for; there may be when something else has ended. */
export function hasNoRoom(error: unknown): boolean {
  return error instanceof Refused && error.code === 'no_capacity';
}

const sleep = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));

/**
 * Does something again and again while it fails for a passing reason and is still wanted, more and
 * more slowly. What fails for another reason fails here too. `pause`: waits so long, or shorter.
 */
export async function patiently<T>(
  attempt: () => Promise<T>,
  isWanted: () => boolean,
  failed: (error: unknown, times: number) => void = () => {},
  pause: (ms: number) => Promise<void> = sleep,
): Promise<T> {
  let wait = AGAIN_MS_FIRST;
  for (let times = 1; ; times++) {
    try {
      return await attempt();
    } catch (error) {
      if (!isPassing(error) || !isWanted()) throw error;
      failed(error, times);
      // Not all at the same moment: what failed for one failed for many.
      await pause(wait * (0.75 + Math.random() / 2));
      if (!isWanted()) throw error;
      wait = Math.min(wait * 2, AGAIN_MS_MAX);
    }
  }
}

export class Signaling {
  readonly socket: Socket;
  private heartbeat: ReturnType<typeof setInterval>;

  constructor() {
    this.socket = io({
      transports: ['websocket'],
      autoConnect: false,
      reconnectionDelay: 250,
      reconnectionDelayMax: 2_000,
    });
    this.heartbeat = setInterval(() => {
      if (this.socket.connected) this.socket.emit('heartbeat', {}, () => {});
    }, HEARTBEAT_MS);
  }

  /** Asks and waits for the acknowledgement. */
  async request(event: string, payload: object = {}): Promise<any> {
    // Otherwise it would be sent after the reconnect, before the room was joined again.
    if (!this.socket.connected) throw new Refused('offline', 'You are offline for a moment.');
    let answer;
    try {
      answer = await this.socket.timeout(ANSWER_TIME_MS_MAX).emitWithAck(event, payload);
    } catch {
      throw new Refused('timeout', 'The server does not answer.');
    }
    if (answer?.error) throw new Refused(answer.error.code, answer.error.message);
    return answer;
  }

  close(): void {
    clearInterval(this.heartbeat);
    this.socket.disconnect();
  }
}
