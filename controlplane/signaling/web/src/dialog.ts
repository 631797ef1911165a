// A window over the page: the browser keeps the focus in it, closes it with Escape, and gives the focus
// back to where it was.

import { icons } from './icons.ts';

/** Opens one; `closed` runs when it is gone. Gives its content's place. */
export function openDialog(title: string, closed: () => void = () => {}): { body: HTMLElement; close: () => void } {
  const dialog = document.createElement('dialog');
  dialog.setAttribute('aria-label', title);
  dialog.innerHTML = `
    <header><h2></h2><button class="small" aria-label="Close" title="Close (Esc)">${icons.close}</button></header>
    <div class="body"></div>`;
  dialog.querySelector('h2')!.textContent = title;
  const close = () => dialog.close();
  dialog.querySelector('button')!.onclick = close;
  // Beside it.
  dialog.onclick = (event) => {
    if (event.target === dialog) close();
  };
  dialog.onclose = () => {
    dialog.remove();
    closed();
  };
  document.body.append(dialog);
  dialog.showModal();
  return { body: dialog.querySelector('.body')!, close };
}

export function closeDialogs(): void {
  for (const dialog of document.querySelectorAll('dialog')) dialog.close();
}

export function isDialogOpen(): boolean {
  return document.querySelector('dialog[open]') !== null;
}
