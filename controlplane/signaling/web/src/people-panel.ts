// Everybody in the room, in a list beside the tiles: who speaks, whose microphone and camera are off,
// and how good each connection is. Also for those whose tiles are small.

import { icons } from './icons.ts';
import type { Line } from './lines.ts';
import { hueOf, initials } from './lobby.ts';

export interface Person {
  id: string;
  name: string;
  isSelf: boolean;
  speaks: boolean;
  hasMic: boolean;
  hasCamera: boolean;
  hasScreen: boolean;
  line: Line;
  isPinned: boolean;
}

const LINE_WORDS: Record<Line, string> = {
  good: 'Good connection',
  fair: 'Weak connection',
  poor: 'Bad connection',
};

/** Three bars of which as many are full as the line is good. */
export function showLine(element: HTMLElement, line: Line, who: string): void {
  if (element.dataset.line === line) return;
  element.dataset.line = line;
  element.innerHTML = icons.bars;
  element.setAttribute('role', 'img');
  element.setAttribute('aria-label', LINE_WORDS[line]);
  element.title = who ? `${who}: ${LINE_WORDS[line].toLowerCase()}` : LINE_WORDS[line];
}

export class PeoplePanel {
  readonly element = document.createElement('aside');
  private list: HTMLUListElement;
  private rows = new Map<string, HTMLLIElement>();
  private toggled: () => void;
  private pin: (id: string) => void;

  constructor(actions: { toggled: () => void; pin: (id: string) => void; invite: () => void }) {
    this.toggled = actions.toggled;
    this.pin = actions.pin;
    this.element.className = 'side people-list';
    this.element.id = 'people';
    this.element.hidden = true;
    this.element.setAttribute('aria-label', 'People');
    this.element.innerHTML = `
      <header><h2>People</h2><button class="small" data-close title="Close (Esc)" aria-label="Close the list">${icons.close}</button></header>
      <ul tabindex="0" aria-label="People in this room"></ul>
      <footer><button class="secondary">${icons.link}<span>Copy invite link</span></button></footer>`;
    this.list = this.element.querySelector('ul')!;
    this.element.querySelector<HTMLButtonElement>('[data-close]')!.onclick = () => this.toggle(false);
    this.element.querySelector<HTMLButtonElement>('footer button')!.onclick = actions.invite;
    this.element.onkeydown = (event) => {
      if (event.key === 'Escape') this.toggle(false);
    };
  }

  get isOpen(): boolean {
    return !this.element.hidden;
  }

  toggle(open = !this.isOpen): void {
    if (open === this.isOpen) return;
    this.element.hidden = !open;
    if (open) this.element.querySelector<HTMLElement>('[data-close]')!.focus();
    this.toggled();
  }

  /** Brings the list in step; rows stay, so that the focus does. */
  show(people: readonly Person[]): void {
    this.element.querySelector('h2')!.textContent = `People (${people.length})`;
    for (const [id, row] of this.rows) {
      if (people.some((person) => person.id === id)) continue;
      row.remove();
      this.rows.delete(id);
    }
    people.forEach((person, index) => {
      const row = this.rows.get(person.id) ?? this.row(person.id);
      this.fill(row, person);
      if (this.list.children[index] !== row) this.list.insertBefore(row, this.list.children[index] ?? null);
    });
  }

  private row(id: string): HTMLLIElement {
    const row = document.createElement('li');
    row.innerHTML = `
      <span class="avatar" aria-hidden="true"></span>
      <span class="name"></span>
      <span class="signs"></span>
      <span class="line"></span>
      <button class="small" data-pin>${icons.pin}</button>`;
    row.querySelector('button')!.onclick = () => this.pin(id);
    this.rows.set(id, row);
    return row;
  }

  private fill(row: HTMLLIElement, person: Person): void {
    const { name, isSelf, speaks, hasMic, hasCamera, hasScreen, line, isPinned } = person;
    const set = (selector: string, text: string) => {
      const element = row.querySelector(selector)!;
      if (element.textContent !== text) element.textContent = text;
    };
    row.style.setProperty('--hue', String(hueOf(name)));
    row.classList.toggle('speaking', speaks);
    set('.avatar', initials(name));
    set('.name', isSelf ? `${name} (you)` : name);
    const signs = row.querySelector<HTMLElement>('.signs')!;
    const shown = [speaks && 'speaks', hasScreen && 'shares', !hasCamera && 'no camera', !hasMic && 'muted'].filter(Boolean).join();
    if (signs.dataset.shown !== shown) {
      signs.dataset.shown = shown;
      const sign = (icon: string, text: string) => `<i role="img" aria-label="${text}" title="${text}">${icon}</i>`;
      signs.innerHTML = [
        speaks ? sign(icons.sound, 'Speaks') : '',
        hasScreen ? sign(icons.screen, 'Shares a screen') : '',
        hasCamera ? '' : sign(icons.cameraOff, 'Camera off'),
        hasMic ? '' : sign(icons.micOff, 'Microphone off'),
      ].join('');
    }
    showLine(row.querySelector('.line')!, line, '');
    const pin = row.querySelector<HTMLButtonElement>('[data-pin]')!;
    const label = isPinned ? `Unpin ${name}` : `Pin ${name}`;
    pin.classList.toggle('active', isPinned);
    pin.setAttribute('aria-label', label);
    pin.title = label;
  }
}
