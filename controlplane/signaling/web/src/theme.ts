// Light or dark: as the system says, until somebody says otherwise here.

import { remember, remembered } from './options.ts';

export type Theme = 'light' | 'dark';

const light = matchMedia('(prefers-color-scheme: light)');

export function theme(): Theme {
  const chosen = remembered('theme');
  if (chosen === 'light' || chosen === 'dark') return chosen;
  return light.matches ? 'light' : 'dark';
}

/** The style sheet has both; this names one. */
export function showTheme(): void {
  const now = theme();
  document.documentElement.dataset.theme = now;
  const background = getComputedStyle(document.documentElement).backgroundColor;
  document.querySelector('meta[name=theme-color]')?.setAttribute('content', background);
}

export function toggleTheme(): void {
  const other: Theme = theme() === 'dark' ? 'light' : 'dark';
  // What the system says anyway need not be remembered: then the page goes on to follow it.
  remember('theme', other === (light.matches ? 'light' : 'dark') ? '' : other);
  showTheme();
}

light.addEventListener('change', showTheme);
