// Short notices at the edge of the page. Errors stay a little longer; the same text is not shown
// twice at once.

import { icons } from './icons.ts';

const SHOWN_MAX = 4;

export function toast(text: string, kind: 'info' | 'error' = 'info', action?: { label: string; run: () => void }): void {
  const place = document.getElementById('toasts')!;
  for (const shown of place.children) {
    if ((shown as HTMLElement).dataset.text === text) return;
  }
  while (place.children.length >= SHOWN_MAX) place.firstElementChild!.remove();
  const element = document.createElement('div');
  element.className = `toast ${kind}`;
  element.dataset.text = text;
  element.innerHTML = kind === 'error' ? icons.alert : icons.check;
  const label = document.createElement('span');
  label.textContent = text;
  element.append(label);
  const close = () => {
    element.classList.add('going');
    setTimeout(() => element.remove(), 250);
  };
  if (action) {
    const button = document.createElement('button');
    button.textContent = action.label;
    button.onclick = () => {
      action.run();
      close();
    };
    element.append(button);
  }
  place.append(element);
  setTimeout(close, action ? 20_000 : kind === 'error' ? 7_000 : 3_500);
}
