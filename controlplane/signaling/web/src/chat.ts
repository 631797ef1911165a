// What people write in a room, in the order of the server. What is written here is sent until it is
// kept, also over a reconnect: under an id of its own, so that it appears once. Knows nothing of the
// screen.

import { patiently, Refused } from './signaling.ts';

export interface Message {
  id: string;
  senderId: string;
  name: string;
  content: string;
  timestamp: number;
}

/** Written here, and not known to be kept yet. */
export interface Pending {
  clientId: string;
  content: string;
  /** Why it will not be sent. */
  failed: string;
}

type Ask = (event: string, payload: object) => Promise<any>;

const PAGE = 50;
/** After a reconnect what was missed is read; what is further back only when somebody scrolls there. */
const PAGES_MISSED_MAX = 4;
/** The server's limit, in bytes of UTF-8. */
export const BYTES_MAX = 4096;

export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

const number = (message: Message) => Number(message.id);

export class Chat {
  /** Oldest first. */
  messages: Message[] = [];
  pending: Pending[] = [];
  /** There are older ones at the server. */
  hasOlder = false;
  changed: () => void = () => {};
  /** Somebody else wrote something just now. */
  arrived: (message: Message) => void = () => {};

  private ask: Ask;
  private isWanted: () => boolean;
  private own = new Set<string>();
  private sending: Promise<void> = Promise.resolve();
  private reading: Promise<void> | null = null;
  /** Counts the joins: what an older one was to read, the newest reads. */
  private joins = 0;
  /** The last message before what is being caught up with. */
  private behind: Message | undefined;

  constructor(ask: Ask, isWanted: () => boolean) {
    this.ask = ask;
    this.isWanted = isWanted;
  }

  /** Whether it was written here: also under an id of before a reconnect. */
  isOwn(message: Message): boolean {
    return this.own.has(message.id);
  }

  /** The server tells a message. `clientId`: it is one of ours. */
  received({ clientId, ...message }: Message & { clientId?: string }): void {
    const isOurs = clientId !== undefined && this.settle(clientId, message.id);
    if (isOurs) this.own.add(message.id);
    const isNew = this.add([message]);
    this.changed();
    if (isNew && !isOurs) this.arrived(message);
  }

  /** The room was joined, for the first time or again: what was missed is read. */
  async catchUp(): Promise<void> {
    const join = ++this.joins;
    const isNewest = () => join === this.joins;
    const last = (this.behind ??= this.messages.at(-1));
    let before: string | undefined;
    for (let pages = 0; pages < PAGES_MISSED_MAX; pages++) {
      const page = await this.page(before, isNewest);
      if (!isNewest()) return;
      // What is older than a page that is full begins at the server.
      if (!last) this.hasOlder = page.length === PAGE;
      this.add(page);
      if (!last || page.length < PAGE || number(page[0]) <= number(last) + 1) break;
      before = page[0].id;
    }
    this.behind = undefined;
    this.changed();
  }

  /** One page further back. */
  older(): Promise<void> {
    this.reading ??= (async () => {
      const page = await this.page(this.messages[0]?.id);
      this.hasOlder = page.length === PAGE;
      this.add(page);
      this.changed();
    })().finally(() => {
      this.reading = null;
    });
    return this.reading;
  }

  private async page(before?: string, isWanted = () => true): Promise<Message[]> {
    const payload = { limit: PAGE, ...(before ? { before } : {}) };
    const { messages } = await this.patiently('listMessages', payload, isWanted);
    return messages;
  }

  /** Sends it after those before it; fails never, but is marked when the server refuses it. */
  send(content: string): void {
    const text = content.trim();
    if (!text) return;
    const pending: Pending = { clientId: crypto.randomUUID(), content: text, failed: '' };
    this.pending.push(pending);
    this.changed();
    this.sending = this.sending.then(() => this.deliver(pending));
  }

  private async deliver(pending: Pending): Promise<void> {
    const { clientId, content } = pending;
    try {
      const { id } = await this.patiently('chat_message', { content, clientId });
      this.own.add(id);
      this.settle(clientId, id);
    } catch (error) {
      pending.failed = (error as Error).message;
    }
    this.changed();
  }

  /** While the socket is away, or is back and the room is not joined yet, it is tried again. */
  private patiently(event: string, payload: object, isWanted = () => true): Promise<any> {
    const attempt = () =>
      this.ask(event, payload).catch((error) => {
        if (error instanceof Refused && error.code === 'not_in_room') throw new Refused('offline', error.message);
        throw error;
      });
    return patiently(attempt, () => this.isWanted() && isWanted());
  }

  forget(pending: Pending): void {
    this.pending = this.pending.filter((each) => each !== pending);
    this.changed();
  }

  /** It is kept: gives whether it was waiting. It may be told before it is answered, or after. */
  private settle(clientId: string, id: string): boolean {
    const waiting = this.pending.find((each) => each.clientId === clientId);
    if (!waiting) return this.own.has(id);
    this.pending = this.pending.filter((each) => each !== waiting);
    return true;
  }

  /** In their order, each once; gives whether there is a new one. */
  private add(messages: Message[]): boolean {
    const known = new Set(this.messages.map(({ id }) => id));
    const fresh = messages.filter(({ id }) => !known.has(id));
    if (fresh.length === 0) return false;
    this.messages = [...this.messages, ...fresh].sort((one, other) => number(one) - number(other));
    return true;
  }
}

/** Addresses in a text: what is one may become a link, the rest stays text. */
export function parts(text: string): { text: string; href?: string }[] {
  const found: { text: string; href?: string }[] = [];
  let end = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"]+/gi)) {
    // A sentence's end is not the address's.
    const address = match[0].replace(/[.,;:!?)\]}'’]+$/, '');
    if (!URL.canParse(address)) continue;
    if (match.index > end) found.push({ text: text.slice(end, match.index) });
    found.push({ text: address, href: new URL(address).href });
    end = match.index + address.length;
  }
  if (end < text.length) found.push({ text: text.slice(end) });
  return found;
}
