import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lines, lineOf, worseOf, type Line } from '../src/lines.ts';
import { Spotlight } from '../src/spotlight.ts';
import { Voices } from '../src/voices.ts';

/** Levels, one each 50 ms; gives when somebody began and ended. */
function hear(levels: number[]): { begins: number[]; ends: number[] } {
  const voices = new Voices();
  const [begins, ends]: number[][] = [[], []];
  levels.forEach((level, index) => {
    if (!voices.hear('ada', level, index * 50)) return;
    (voices.speaking.includes('ada') ? begins : ends).push(index * 50);
  });
  return { begins, ends };
}

test('a voice begins after a moment, outlasts pauses between words, and ends', () => {
  const words = Array.from({ length: 60 }, (_, step) => (step % 5 === 0 ? 0 : 0.1));
  const { begins, ends } = hear([...words, ...Array(40).fill(0)]);
  assert.equal(begins.length, 1);
  assert.ok(begins[0] >= 300 && begins[0] <= 600, String(begins));
  assert.equal(ends.length, 1);
  assert.ok(ends[0] >= 3_400 && ends[0] <= 3_700, String(ends));
});

test('beeps, clicks and a quiet room are no speech', () => {
  const beeps = Array.from({ length: 200 }, (_, step) => (step % 10 === 0 ? 0.9 : 0));
  assert.deepEqual(hear(beeps), { begins: [], ends: [] });
  assert.deepEqual(hear(Array(100).fill(0.004)), { begins: [], ends: [] });
});

test('a page that slept did not hear a voice meanwhile', () => {
  const voices = new Voices();
  voices.hear('ada', 0.5, 0);
  assert.equal(voices.hear('ada', 0.5, 60_000), false);
});

test('the line is as good as its worst sign', () => {
  assert.equal(lineOf({}), 'good');
  assert.equal(lineOf({ lossPercent: 1, roundTripMs: 80, score: 10, producerScore: 9 }), 'good');
  assert.equal(lineOf({ lossPercent: 4, score: 9 }), 'fair');
  assert.equal(lineOf({ roundTripMs: 700 }), 'poor');
  assert.equal(lineOf({ score: 7 }), 'fair');
  assert.equal(lineOf({ score: 10, producerScore: 3 }), 'poor');
  assert.equal(lineOf({ score: null, producerScore: null }), 'good');
  assert.equal(lineOf({ starved: true }), 'poor');
  assert.equal(lineOf({ interrupted: true }), 'poor');
  assert.equal(worseOf('fair', 'good'), 'fair');
});

test('one bad moment is not a bad line', () => {
  const lines = new Lines();
  const shown = (line: Line) => lines.look(new Map([['ada', line]])).get('ada');
  assert.deepEqual((['good', 'poor', 'good', 'poor', 'poor', 'good', 'good'] as Line[]).map(shown), [
    'good', 'good', 'good', 'poor', 'poor', 'poor', 'good',
  ]);
  assert.equal(lines.look(new Map()).size, 0);
  assert.equal(shown('fair'), 'fair');
});

test('the spotlight stays until its speaker is silent and another one speaks', () => {
  const spotlight = new Spotlight();
  const others = ['ada', 'bob', 'eve'];
  assert.equal(spotlight.choose([], []), undefined);
  assert.equal(spotlight.choose([], others), 'ada');
  assert.equal(spotlight.choose(['bob'], others), 'bob');
  assert.equal(spotlight.choose(['eve', 'bob'], others), 'bob');
  assert.equal(spotlight.choose([], others), 'bob');
  assert.equal(spotlight.choose(['me', 'eve'], others), 'eve');
  assert.equal(spotlight.choose(['me'], others), 'eve');
  assert.equal(spotlight.choose([], ['ada', 'bob']), 'ada');
});
