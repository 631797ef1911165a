// The first screen, with elements that only keep what is written into them.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { readOptions } from '../src/options.ts';
import { settled } from './fakes.ts';

const put = (name: string, value: unknown) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

put('HTMLMediaElement', class {});
put('Option', class {});
put('matchMedia', () => new EventTarget());
// It looks at the browser when it is loaded.
const { lobby } = await import('../src/lobby.ts');

let elements: Map<string, any>;
let app: any;

beforeEach(() => {
  elements = new Map();
  const nothing = () => {};
  const element = () => ({
    value: '', textContent: '', innerHTML: '', hidden: false, disabled: false, style: {}, classList: { toggle: nothing },
    setAttribute: nothing, replaceChildren: nothing, append: nothing, focus: nothing, setCustomValidity: nothing,
  });
  app = {
    innerHTML: '',
    querySelector: (selector: string) => {
      if (!elements.has(selector)) elements.set(selector, element());
      return elements.get(selector);
    },
  };
  const mediaDevices = {
    addEventListener: nothing,
    removeEventListener: nothing,
    enumerateDevices: async () => [],
  };
  put('navigator', { mediaDevices });
  put('RTCPeerConnection', class {
    addTransceiver() {}
    async createOffer() {}
    close() {}
  });
});

const enter = (more = '') => lobby(app, readOptions(`?room=test&name=Ada&audio=0&video=0${more}`));
const submit = () => elements.get('form').onsubmit({ preventDefault: () => {} });

test('who has a browser that lists no devices joins', async () => {
  navigator.mediaDevices.enumerateDevices = async () => {
    throw new DOMException('', 'NotAllowedError');
  };
  const ready = enter();
  submit();
  assert.deepEqual(await ready, { camera: null, mic: null, micMuted: false });
});

test('a browser whose WebRTC fails to begin keeps nobody in the lobby', async () => {
  put('RTCPeerConnection', class {
    constructor() {
      throw new DOMException('', 'UnknownError');
    }
  });
  await enter('&autojoin=1');
});

test('who has a browser without WebRTC reads what to do', async () => {
  put('RTCPeerConnection', undefined);
  let isIn = false;
  void enter('&autojoin=1&audio=1&video=1').then(() => (isIn = true));
  await settled();
  const [trouble, button] = ['.trouble', '.primary'].map((selector) => elements.get(selector));
  assert.deepEqual([isIn, trouble.hidden, button.disabled], [false, false, true]);
  assert.match(trouble.textContent, /cannot make calls.*come back with a current/);
});
