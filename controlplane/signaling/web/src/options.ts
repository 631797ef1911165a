// What the address says (`?room=...&name=...&autojoin=1&codec=VP8&width=960&height=540&fps=15`)
// and what the browser remembers of the last time.

import type { CodecName } from './encodings.ts';

export interface Options {
  room: string;
  name: string;
  autojoin: boolean;
  codec: CodecName;
  width: number;
  height: number;
  fps: number;
  simulcast: boolean;
  audio: boolean;
  video: boolean;
  stats: boolean;
}

const CODECS: CodecName[] = ['VP8', 'VP9', 'H264', 'AV1'];

function number(text: string | null, fallback: number, max: number): number {
  const value = Number(text);
  return text && Number.isFinite(value) && value > 0 ? Math.min(value, max) : fallback;
}

/** `?audio=0` is off; absent or anything else keeps the default. */
function flag(text: string | null, fallback: boolean): boolean {
  if (text === null) return fallback;
  return text !== '0' && text !== 'false';
}

export function readOptions(search: string): Options {
  const query = new URLSearchParams(search);
  const codec = query.get('codec')?.toUpperCase();
  return {
    room: cleanRoom(query.get('room') ?? ''),
    name: (query.get('name') ?? remembered('name')).slice(0, 64),
    autojoin: flag(query.get('autojoin'), false),
    codec: CODECS.find((known) => known === codec) ?? 'VP8',
    width: number(query.get('width'), 1280, 3840),
    height: number(query.get('height'), 720, 2160),
    fps: number(query.get('fps'), 30, 60),
    simulcast: flag(query.get('simulcast'), true),
    audio: flag(query.get('audio'), true),
    video: flag(query.get('video'), true),
    stats: flag(query.get('stats'), false),
  };
}

/** Room names become ids of the service: letters, digits, and a few signs. */
export function cleanRoom(text: string): string {
  return text
    .trim()
    .replace(/\s+/g, '-')
    .replace(/[^A-Za-z0-9._:-]/g, '')
    .slice(0, 64);
}

const ADJECTIVES = ['amber', 'brisk', 'calm', 'clear', 'copper', 'gentle', 'golden', 'lively', 'quiet', 'silver', 'sunny', 'swift'];
const NOUNS = ['anvil', 'bridge', 'canyon', 'ember', 'forge', 'harbor', 'lantern', 'meadow', 'river', 'signal', 'summit', 'willow'];

export function suggestRoom(): string {
  const pick = (words: string[]) => words[Math.floor(Math.random() * words.length)];
  return `${pick(ADJECTIVES)}-${pick(NOUNS)}-${Math.floor(100 + Math.random() * 900)}`;
}

export function remembered(key: string): string {
  try {
    return localStorage.getItem(`ironcast.${key}`) ?? '';
  } catch {
    return '';
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`ironcast.${key}`, value);
  } catch {
    // Private windows may refuse to store anything: nothing is lost but comfort.
  }
}
