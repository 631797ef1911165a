// Cuts text into server-sent events (WHATWG HTML, section 9.2.6). Pure: text in, events out.

/** The largest events name the routers of a whole worker. */
const LINE_CHARACTERS_MAX = 4 * 2 ** 20;

export interface RawEvent {
  name: string;
  data: string;
}

export class Events {
  /** The newest `id:`, which may come without an event: a stream says from time to time where it is. */
  lastId: string | undefined;
  #rest = '';
  #name = '';
  #data: string[] = [];

  /** Takes the next piece and gives the events that end in it. Throws if a line does not end. */
  push(piece: string): RawEvent[] {
    const lines = (this.#rest + piece).split('\n');
    this.#rest = lines.pop()!;
    if (this.#rest.length > LINE_CHARACTERS_MAX) throw new Error('a line of the event stream is too long');
    const events: RawEvent[] = [];
    for (const line of lines) {
      const event = this.#take(line.endsWith('\r') ? line.slice(0, -1) : line);
      if (event) events.push(event);
    }
    return events;
  }

  #take(line: string): RawEvent | undefined {
    if (line === '') {
      const event = this.#data.length > 0 ? { name: this.#name, data: this.#data.join('\n') } : undefined;
      this.#name = '';
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    // A comment has an empty field name.
    if (field === 'event') this.#name = value;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'id') this.lastId = value;
    return undefined;
  }
}
