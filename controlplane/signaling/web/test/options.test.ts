import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cleanRoom, readOptions, roomIdOf } from '../src/options.ts';

const ID = /^[A-Za-z0-9._:-]{1,64}$/;

test('every name leads everybody into the same room, and another into another', () => {
  const names = ['комната', '🚀', '会議室', 'Büro 3 / Team #1 🚀', 'Bro-3--Team-1-', 'Büro', 'Buro', 'غرفة', '👩‍🚀', 'x'.repeat(64), 'é'.repeat(64)];
  const ids = new Set<string>();
  for (const name of names) {
    const { room } = readOptions(`?room=${encodeURIComponent(name)}`);
    assert.equal(room, name);
    assert.equal(roomIdOf(room), roomIdOf(cleanRoom(`  ${name} `)));
    assert.match(roomIdOf(room), ID, name);
    ids.add(roomIdOf(room));
  }
  assert.equal(ids.size, names.length);
});

test('plain names are their own ids', () => {
  for (const name of ['r', 'sunny-lantern-783', 'a.b_c:d-E9']) assert.equal(roomIdOf(cleanRoom(name)), name);
  assert.equal(roomIdOf(cleanRoom('  team   one ')), 'team-one');
});

test('the same letters written in two ways are one name', () => {
  assert.equal(cleanRoom('Bu\u0308ro'), cleanRoom('B\u00fcro'));
  assert.equal(cleanRoom('a\u0000b\u200e'), 'a b');
  assert.equal(cleanRoom(' \u202e '), '');
});
