import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byteLength, Chat, parts, type Message } from '../src/chat.ts';
import { Refused } from '../src/signaling.ts';

const message = (id: number, content = `m${id}`): Message => ({ id: String(id), senderId: 'ada', name: 'Ada', content, timestamp: id });
const contents = (chat: Chat) => chat.messages.map(({ content }) => content);

/** A server with so many messages; `lose`: the first answers that do not arrive. */
function served(count: number, lose = 0) {
  const kept = Array.from({ length: count }, (_, index) => message(index + 1));
  const byClient = new Map<string, Message>();
  const asked: string[] = [];
  const ask = async (event: string, payload: any) => {
    asked.push(event);
    if (event === 'listMessages') {
      const older = payload.before ? kept.filter(({ id }) => Number(id) < Number(payload.before)) : kept;
      return { messages: older.slice(-payload.limit) };
    }
    let there = byClient.get(payload.clientId);
    if (!there) {
      there = message(kept.length + 1, payload.content);
      kept.push(there);
      byClient.set(payload.clientId, there);
    }
    if (lose-- > 0) throw new Refused('timeout', 'The server does not answer.');
    return { id: there.id, timestamp: there.timestamp };
  };
  return { kept, asked, byClient, chat: new Chat(ask, () => true) };
}

test('a page is read at first, and further back on wish', async () => {
  const { chat } = served(120);
  await chat.catchUp();
  assert.deepEqual([contents(chat)[0], chat.messages.length, chat.hasOlder], ['m71', 50, true]);
  await chat.older();
  await Promise.all([chat.older(), chat.older()]);
  assert.deepEqual([contents(chat)[0], chat.messages.length, chat.hasOlder], ['m1', 120, false]);
});

test('what was missed is read after a reconnect, in its place', async () => {
  const { chat, kept } = served(3);
  await chat.catchUp();
  for (let id = 4; id <= 130; id++) kept.push(message(id));
  // Told before the list was asked for.
  chat.received(message(130));
  await chat.catchUp();
  assert.deepEqual(contents(chat).at(-1), 'm130');
});

test('a gap is closed page by page', async () => {
  const { chat, kept } = served(3);
  await chat.catchUp();
  for (let id = 4; id <= 130; id++) kept.push(message(id));
  await chat.catchUp();
  assert.deepEqual(chat.messages.map(({ id }) => Number(id)), kept.map(({ id }) => Number(id)));
});

test('each join reads anew, and the one before reads no more', async () => {
  let [isAway, asked] = [true, 0];
  const chat = new Chat(async () => {
    asked += 1;
    if (isAway) throw new Refused('store_unavailable', 'this could not be kept; try again');
    return { messages: [message(1)] };
  }, () => true);
  const joins = [1, 2, 3].map(() => chat.catchUp().then(() => 'read', () => 'given up'));
  isAway = false;
  assert.deepEqual(await Promise.all(joins), ['given up', 'given up', 'read']);
  assert.deepEqual([asked, contents(chat)], [4, ['m1']]);
});

test('a gap that one join could not close is closed by the next', async () => {
  const { chat, kept } = served(3);
  await chat.catchUp();
  for (let id = 4; id <= 130; id++) kept.push(message(id));
  const first = chat.catchUp();
  await new Promise((resolve) => setImmediate(resolve));
  await Promise.all([first, chat.catchUp()]);
  assert.equal(chat.messages.length, 130);
});

test('what is sent again after a lost answer appears once', async () => {
  const { chat, kept, byClient } = served(0, 1);
  const arrived: Message[] = [];
  chat.arrived = (one) => arrived.push(one);
  const done = new Promise<void>((resolve) => {
    chat.changed = () => chat.pending.length === 0 && chat.messages.length > 0 && resolve();
  });
  chat.send('  hello ');
  assert.deepEqual(chat.pending.map(({ content }) => content), ['hello']);
  await new Promise((resolve) => setTimeout(resolve));
  const [[clientId, told]] = byClient;
  chat.received({ ...told, clientId });
  await done;
  assert.deepEqual([kept.length, contents(chat), arrived], [1, ['hello'], []]);
  assert.ok(chat.isOwn(chat.messages[0]));
});

test('what the server refuses is marked, and the next is sent', async () => {
  const answers = [new Refused('invalid_request', 'too long'), null];
  const chat = new Chat(
    async () => {
      const refused = answers.shift();
      if (refused) throw refused;
      return { id: '1', timestamp: 1 };
    },
    () => true,
  );
  chat.send('one');
  chat.send('two');
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(chat.pending.map(({ content, failed }) => [content, failed]), [['one', 'too long']]);
  chat.forget(chat.pending[0]);
  assert.equal(chat.pending.length, 0);
});

test('messages that overtake each other are shown in their order', () => {
  const { chat } = served(0);
  for (const id of [2, 1, 3, 2]) chat.received(message(id));
  assert.deepEqual(contents(chat), ['m1', 'm2', 'm3']);
});

test('addresses become links, and nothing else does', () => {
  assert.deepEqual(parts('see https://a.org/x?y=1, or (http://b.org).'), [
    { text: 'see ' },
    { text: 'https://a.org/x?y=1', href: 'https://a.org/x?y=1' },
    { text: ', or (' },
    { text: 'http://b.org', href: 'http://b.org/' },
    { text: ').' },
  ]);
  for (const text of ['javascript:alert(1)', '<b>x</b>', 'data:text/html,x', 'https://']) {
    assert.ok(parts(text).every(({ href }) => !href), text);
  }
  assert.equal(byteLength('ä😀'), 6);
});
