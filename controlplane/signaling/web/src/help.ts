// The keys, for who asks for them.

import { openDialog } from './dialog.ts';
import { OTHER_KEYS, SHORTCUTS } from './keys.ts';

let close: (() => void) | null = null;

export function toggleHelp(): void {
  if (close) return close();
  const opened = openDialog('Keyboard shortcuts', () => (close = null));
  ({ close } = opened);
  const list = document.createElement('dl');
  list.className = 'shortcuts';
  for (const { key, text } of [...SHORTCUTS, ...OTHER_KEYS]) {
    const row = document.createElement('div');
    const term = document.createElement('dt');
    const cap = document.createElement('kbd');
    cap.textContent = key;
    term.append(cap);
    const meaning = document.createElement('dd');
    meaning.textContent = text;
    row.append(term, meaning);
    list.append(row);
  }
  const hint = document.createElement('p');
  hint.className = 'hint';
  hint.textContent = 'While you write, letters are letters.';
  // On a phone it is scrolled, also by keyboard.
  Object.assign(opened.body, { tabIndex: 0, role: 'group', ariaLabel: 'Shortcuts' });
  opened.body.append(list, hint);
}
