// The socket to the signaling service: one promise for each request, reconnecting by itself.

import { io, type Socket } from 'socket.io-client';

const ANSWER_TIME_MS_MAX = 10_000;
const HEARTBEAT_MS = 10_000;

/** A refused request: `code` is stable, `message` is for people. */
export class Refused extends Error {
  code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
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
