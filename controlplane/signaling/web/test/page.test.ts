// Parts of the page that need little of a browser.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Awake } from '../src/awake.ts';
import { Sounds } from '../src/sounds.ts';
import { settled } from './fakes.ts';

let page: EventTarget & { visibilityState: string };
let elements: any[];
let mayPlay: boolean;
let locks: { released: boolean }[];
let given: Promise<void>;

const put = (name: string, value: unknown) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

beforeEach(() => {
  [elements, mayPlay, locks, given] = [[], false, [], Promise.resolve()];
  const touched = new EventTarget();
  put('addEventListener', touched.addEventListener.bind(touched));
  put('removeEventListener', touched.removeEventListener.bind(touched));
  put('touch', () => touched.dispatchEvent(new Event('pointerdown')));
  put('MediaStream', class {});
  page = Object.assign(new EventTarget(), {
    visibilityState: 'visible',
    createElement: () => {
      const element: any = {
        playing: false,
        remove: () => {},
        play: async () => {
          if (!mayPlay) throw new DOMException('', 'NotAllowedError');
          element.playing = true;
        },
      };
      elements.push(element);
      return element;
    },
  });
  put('document', page);
  const request = async () => {
    const lock = { released: false, release: async () => void (lock.released = true) };
    await given;
    locks.push(lock);
    return lock;
  };
  put('navigator', { wakeLock: { request } });
});

test('a page that the browser keeps silent says so until it is heard', async () => {
  const sounds = new Sounds({ append: () => {} } as any, () => {});
  sounds.add('ada', {} as any, '');
  sounds.add('bob', {} as any, '');
  await settled();
  assert.ok(sounds.isSilent);
  // The button that did not help yet is still there.
  sounds.play();
  await settled();
  assert.ok(sounds.isSilent);
  mayPlay = true;
  (globalThis as any).touch();
  await settled();
  assert.ok(!sounds.isSilent && elements.every(({ playing }) => playing));
  mayPlay = false;
  sounds.add('eve', {} as any, '');
  await settled();
  assert.ok(sounds.isSilent);
  sounds.remove('eve');
  assert.ok(!sounds.isSilent);
});

test('the screen stays on while there is a call, and is asked for again when the page is shown', async () => {
  const show = (state: string) => {
    page.visibilityState = state;
    page.dispatchEvent(new Event('visibilitychange'));
  };
  const awake = new Awake();
  await settled();
  assert.equal(locks.length, 1);
  // A browser takes it back itself.
  locks[0].released = true;
  show('hidden');
  await settled();
  assert.equal(locks.length, 1);
  show('visible');
  show('visible');
  await settled();
  assert.equal(locks.length, 2);
  awake.close();
  show('visible');
  await settled();
  assert.deepEqual(locks.map(({ released }) => released), [true, true]);
});

test('a call that is over before the screen is kept on lets it go', async () => {
  let give = () => {};
  given = new Promise((resolve) => (give = resolve));
  const awake = new Awake();
  awake.close();
  give();
  await settled();
  assert.deepEqual(locks.map(({ released }) => released), [true]);
});
