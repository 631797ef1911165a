// The buttons below the tiles, the menu of what is needed less often, and the keyboard. It says what
// is wanted; the room does it.

import { isDialogOpen } from './dialog.ts';
import { icons } from './icons.ts';
import { actionOf, keyOf, type Action } from './keys.ts';

const BUTTONS: readonly Action[] = ['mic', 'camera', 'screen', 'chat', 'people', 'more', 'leave'];
const MENU: readonly Action[] = ['flip', 'layout', 'broadcast', 'record', 'stats', 'invite', 'devices', 'theme', 'help'];

export interface Look {
  icon: string;
  /** What it does when it is pressed now. */
  label: string;
  /** What it stands for is on. */
  on?: boolean;
  count?: number;
}

export interface ToolActions {
  run: (action: Action) => void;
  /** The key for talking is held down, or not any more. */
  talk: (on: boolean) => void;
  escape: () => void;
  /** Enter on a tile. */
  enter: (tile: HTMLElement) => void;
}

export class Tools {
  readonly element = document.createElement('nav');
  private menu = document.createElement('div');
  private actions: ToolActions;
  private talks = false;
  private onKeyDown = (event: KeyboardEvent) => this.down(event);
  private onKeyUp = (event: KeyboardEvent) => {
    if (event.key === ' ') this.talk(false);
  };
  private onBlur = () => this.talk(false);

  constructor(actions: ToolActions) {
    this.actions = actions;
    this.element.className = 'tools';
    this.element.setAttribute('aria-label', 'Call');
    this.menu.className = 'menu';
    this.menu.id = 'more';
    this.menu.popover = 'auto';
    this.menu.setAttribute('role', 'group');
    this.menu.setAttribute('aria-label', 'More');
    for (const action of BUTTONS) this.element.append(this.button(action, 'round'));
    for (const action of MENU) this.menu.append(this.button(action, 'item'));
    this.element.append(this.menu);
    this.find('chat').setAttribute('aria-controls', 'chat');
    this.find('people').setAttribute('aria-controls', 'people');
    this.find('more').popoverTargetElement = this.menu;
    this.find('leave').classList.add('danger');
    this.show('more', { icon: icons.more, label: 'More' });
    this.show('leave', { icon: icons.leave, label: 'Leave the call' });
    this.show('flip', { icon: icons.flip, label: 'Other camera' });
    this.show('invite', { icon: icons.link, label: 'Copy invite link' });
    this.show('devices', { icon: icons.devices, label: 'Choose devices' });
    this.show('theme', { icon: icons.theme, label: 'Light or dark' });
    this.show('help', { icon: icons.help, label: 'Keyboard shortcuts' });
    document.addEventListener('keydown', this.onKeyDown);
    document.addEventListener('keyup', this.onKeyUp);
    addEventListener('blur', this.onBlur);
  }

  private button(action: Action, kind: string): HTMLButtonElement {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = kind;
    button.dataset.do = action;
    if (action === 'more') return button;
    button.onclick = () => {
      this.menu.hidePopover();
      this.actions.run(action);
    };
    return button;
  }

  find(action: Action): HTMLButtonElement {
    return this.element.querySelector<HTMLButtonElement>(`[data-do=${action}]`)!;
  }

  show(action: Action, { icon, label, on, count = 0 }: Look): void {
    const button = this.find(action);
    const key = keyOf(action);
    const shown = `${icon}${label}${on}${count}`;
    if (button.dataset.shown === shown) return;
    button.dataset.shown = shown;
    if (on !== undefined) button.dataset.on = String(on);
    if (key) button.setAttribute('aria-keyshortcuts', key === '?' ? 'Shift+?' : key);
    if (button.matches('.item')) {
      button.innerHTML = `${icon}<span></span>${key ? `<kbd aria-hidden="true">${key}</kbd>` : ''}`;
      button.querySelector('span')!.textContent = label;
      return;
    }
    button.innerHTML = icon + (count ? `<i class="badge">${count > 99 ? '99+' : count}</i>` : '');
    button.setAttribute('aria-label', label);
    button.title = key ? `${label} (${key})` : label;
  }

  setOpen(action: 'chat' | 'people', isOpen: boolean): void {
    const button = this.find(action);
    button.setAttribute('aria-expanded', String(isOpen));
    button.classList.toggle('active', isOpen);
  }

  private down(event: KeyboardEvent): void {
    const { target, key } = event;
    if (!(target instanceof HTMLElement) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest('input, select, textarea')) return;
    // Of a dialog only the help has its key, which also closes it.
    if (isDialogOpen() && key !== '?') return;
    if (key === ' ' && (target === document.body || target.matches('.tile'))) {
      if (!event.repeat) this.talk(true);
      // Nothing scrolls.
      return event.preventDefault();
    }
    if (event.repeat) return;
    if (key === 'Escape') return this.actions.escape();
    if (key === 'Enter' && target.matches('.tile')) return this.actions.enter(target);
    const action = actionOf(key);
    if (!action) return;
    // The key that opens the chat is not its first letter.
    event.preventDefault();
    this.menu.hidePopover();
    this.actions.run(action);
  }

  private talk(on: boolean): void {
    if (this.talks === on) return;
    this.talks = on;
    this.actions.talk(on);
  }

  close(): void {
    document.removeEventListener('keydown', this.onKeyDown);
    document.removeEventListener('keyup', this.onKeyUp);
    removeEventListener('blur', this.onBlur);
  }
}
