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
  /** Two people may talk directly. */
  p2p: boolean;
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
    p2p: flag(query.get('p2p'), true),
  };
}

const ROOM_CHARACTERS_MAX = 64;
const SLUG_CHARACTERS_MAX = 30;

/** A room's name as people read it: any writing, without blanks and signs that nobody sees. */
export function cleanRoom(text: string): string {
  const seen = text.normalize('NFC').replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, (sign) => (sign === '\u200d' ? sign : ' '));
  return [...seen.trim().replace(/\s+/g, ' ')].slice(0, ROOM_CHARACTERS_MAX).join('').trim();
}

/**
 * The service's id of a room. Ids have letters, digits and a few signs: a name of these is its own
 * id (with hyphens for blanks). Any other gets what is left of it, to be recognised in a log, and
 * a number that is the same for everybody who has this name.
 */
export function roomIdOf(name: string): string {
  const plain = name.replace(/ /g, '-');
  if (/^[A-Za-z0-9._:-]+$/.test(plain)) return plain;
  const slug = plain.replace(/[^A-Za-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, SLUG_CHARACTERS_MAX);
  return `${slug || 'room'}:${hash(name, 1)}${hash(name, 2)}`;
}

/** 53 bits in 14 hexadecimal digits: not secret, only hard to hit by chance. */
function hash(text: string, seed: number): string {
  let a = 0xdeadbeef ^ seed;
  let b = 0x41c6ce57 ^ seed;
  for (const byte of new TextEncoder().encode(text)) {
    a = Math.imul(a ^ byte, 0x9e3779b1);
    b = Math.imul(b ^ byte, 0x5f356495);
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  const number = 0x100000000 * (b & 0x1fffff) + (a >>> 0);
  return number.toString(16).padStart(14, '0');
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
