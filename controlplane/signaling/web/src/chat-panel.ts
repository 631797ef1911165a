// The chat beside the tiles: messages of one person in a row are one block, what is not kept yet is
// pale, and who reads further up is not moved. Texts are set as text, never as markup.

import { byteLength, BYTES_MAX, parts, type Chat, type Message, type Pending } from './chat.ts';
import { icons } from './icons.ts';
import { hueOf } from './lobby.ts';

/** Within so long the next message of somebody belongs to the one before. */
const BLOCK_MS = 180_000;
/** So near the end counts as the end. */
const AT_END_PX = 48;
/** From here on it is told how much room is left. */
const TELL_BYTES = BYTES_MAX - 512;

export class ChatPanel {
  readonly element = document.createElement('aside');
  /** Messages that came while the panel was closed. */
  unread = 0;
  private chat: Chat;
  private list: HTMLOListElement;
  private input: HTMLTextAreaElement;
  private sendButton: HTMLButtonElement;
  private room: HTMLElement;
  private below: HTMLButtonElement;
  private olderButton: HTMLButtonElement;
  private toggled: () => void;
  private shown = '';

  constructor(chat: Chat, toggled: () => void) {
    this.chat = chat;
    this.toggled = toggled;
    this.element.className = 'side chat';
    this.element.id = 'chat';
    this.element.hidden = true;
    this.element.setAttribute('aria-label', 'Chat');
    this.element.innerHTML = `
      <header><h2>Chat</h2><button class="small" data-close title="Close (Esc)" aria-label="Close the chat">${icons.close}</button></header>
      <div class="messages" tabindex="0" aria-label="Messages, scrollable">
        <button class="older" hidden>Show older messages</button>
        <div role="log" aria-live="polite" aria-relevant="additions" aria-label="Messages"><ol></ol></div>
        <p class="nothing">Nobody has written yet.<br>Messages are seen by everybody in this room, and by who joins later.</p>
      </div>
      <button class="below" hidden>New messages ${icons.down}</button>
      <form>
        <textarea rows="1" placeholder="Write a message" aria-label="Write a message" enterkeyhint="send" autocomplete="off"></textarea>
        <button class="send" disabled title="Send (Enter)" aria-label="Send">${icons.send}</button>
        <p class="room-left" role="status" hidden></p>
      </form>`;
    const find = <E extends Element>(selector: string) => this.element.querySelector<E>(selector)!;
    this.list = find('ol');
    this.input = find('textarea');
    this.sendButton = find('.send');
    this.room = find('.room-left');
    this.below = find('.below');
    this.olderButton = find('.older');
    find<HTMLButtonElement>('[data-close]').onclick = () => this.toggle(false);
    find<HTMLFormElement>('form').onsubmit = (event) => {
      event.preventDefault();
      this.send();
    };
    this.input.oninput = () => this.measure();
    this.input.onkeydown = (event) => {
      // While an input method composes, Enter is its own.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    };
    this.element.onkeydown = (event) => {
      if (event.key === 'Escape') this.toggle(false);
    };
    this.olderButton.onclick = () => void this.older();
    this.below.onclick = () => {
      this.toEnd();
      this.input.focus();
    };
    this.scroller.onscroll = () => {
      if (this.isAtEnd()) this.below.hidden = true;
    };
    chat.changed = () => this.show();
    this.show();
  }

  private get scroller(): HTMLElement {
    return this.list.closest<HTMLElement>('.messages')!;
  }

  get isOpen(): boolean {
    return !this.element.hidden;
  }

  toggle(open = !this.isOpen): void {
    if (open === this.isOpen) return;
    this.element.hidden = !open;
    if (open) {
      this.unread = 0;
      this.toEnd();
      this.measure();
      this.input.focus();
    }
    this.toggled();
  }

  /** Somebody wrote something. */
  arrived(): void {
    if (this.isOpen) {
      if (!this.isAtEnd()) this.below.hidden = false;
      return;
    }
    this.unread += 1;
    this.toggled();
  }

  private send(): void {
    const text = this.input.value;
    if (this.sendButton.disabled) return;
    this.input.value = '';
    this.measure();
    this.chat.send(text);
    this.toEnd();
    this.input.focus();
  }

  /** As high as its text, up to a limit; and whether it can be sent. */
  private measure(): void {
    const text = this.input.value.trim();
    const bytes = byteLength(text);
    this.sendButton.disabled = bytes === 0 || bytes > BYTES_MAX;
    this.room.hidden = bytes < TELL_BYTES;
    const over = bytes - BYTES_MAX;
    this.room.textContent = over > 0 ? `Too long by ${over} characters` : `${-over} characters left`;
    this.room.classList.toggle('over', over > 0);
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight + 2, 140)}px`;
  }

  private isAtEnd(): boolean {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    return scrollTop + clientHeight >= scrollHeight - AT_END_PX;
  }

  private toEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.below.hidden = true;
  }

  private async older(): Promise<void> {
    this.olderButton.disabled = true;
    const fromEnd = this.scroller.scrollHeight - this.scroller.scrollTop;
    await this.chat.older().catch(() => {});
    // What was read stays where it was.
    this.scroller.scrollTop = this.scroller.scrollHeight - fromEnd;
    this.olderButton.disabled = false;
    if (this.olderButton.hidden) this.scroller.focus();
  }

  /** Brings the list in step; what is shown already is left alone, so that it is read out once. */
  private show(): void {
    const wasAtEnd = this.isAtEnd();
    const { messages, pending, hasOlder } = this.chat;
    this.olderButton.hidden = !hasOlder;
    this.element.querySelector<HTMLElement>('.nothing')!.hidden = messages.length + pending.length > 0;
    const wanted = new Map<string, () => HTMLElement>();
    messages.forEach((message, index) => {
      const goesOn = isOneBlock(messages[index - 1], message);
      wanted.set(`${message.id}${goesOn ? '+' : ''}`, () => this.item(message, goesOn));
    });
    for (const each of pending) wanted.set(`${each.clientId} ${each.failed}`, () => this.waiting(each));
    const there = new Map([...this.list.children].map((item) => [(item as HTMLElement).dataset.key!, item]));
    const shown = [...wanted.keys()].join();
    if (shown === this.shown) return;
    this.shown = shown;
    for (const [key, item] of there) if (!wanted.has(key)) item.remove();
    let next = this.list.firstElementChild;
    for (const [key, make] of wanted) {
      const known = there.get(key);
      if (known && known === next) {
        next = next.nextElementSibling;
        continue;
      }
      const item = known ?? make();
      (item as HTMLElement).dataset.key = key;
      this.list.insertBefore(item, next);
    }
    if (wasAtEnd) this.toEnd();
  }

  private item(message: Message, goesOn: boolean): HTMLElement {
    const item = document.createElement('li');
    const isOwn = this.chat.isOwn(message);
    item.classList.toggle('own', isOwn);
    item.style.setProperty('--hue', String(hueOf(message.name)));
    const head = document.createElement('p');
    head.className = 'by';
    const who = document.createElement('b');
    who.textContent = isOwn ? 'You' : message.name;
    const when = new Date(message.timestamp);
    const time = document.createElement('time');
    time.dateTime = when.toISOString();
    time.textContent = inShort(when);
    time.title = when.toLocaleString();
    head.append(who, time);
    // The eye sees one block; who listens hears the name each time.
    if (goesOn) head.classList.add('heard-only');
    item.append(head, written(message.content));
    return item;
  }

  private waiting(pending: Pending): HTMLElement {
    const item = document.createElement('li');
    item.className = `own waiting${pending.failed ? ' failed' : ''}`;
    const note = document.createElement('p');
    note.className = 'note';
    note.textContent = pending.failed ? `Not sent: ${pending.failed}` : 'Sending…';
    item.append(written(pending.content), note);
    if (pending.failed) {
      const button = (text: string, run: () => void) => {
        const made = document.createElement('button');
        made.textContent = text;
        made.onclick = run;
        note.append(' ', made);
      };
      button('Try again', () => {
        this.chat.forget(pending);
        this.chat.send(pending.content);
      });
      button('Discard', () => this.chat.forget(pending));
    }
    return item;
  }
}

function isOneBlock(before: Message | undefined, message: Message): boolean {
  return before?.senderId === message.senderId && message.timestamp - before.timestamp < BLOCK_MS;
}

function inShort(when: Date): string {
  const isToday = when.toDateString() === new Date().toDateString();
  const time = when.toLocaleTimeString([], { timeStyle: 'short' });
  return isToday ? time : `${when.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${time}`;
}

function written(content: string): HTMLElement {
  const paragraph = document.createElement('p');
  paragraph.className = 'text';
  paragraph.dir = 'auto';
  for (const { text, href } of parts(content)) {
    if (!href) {
      paragraph.append(text);
      continue;
    }
    const link = document.createElement('a');
    Object.assign(link, { href, textContent: text, target: '_blank', rel: 'noopener noreferrer' });
    paragraph.append(link);
  }
  return paragraph;
}
