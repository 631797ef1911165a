// Figures of the checks: each measured value with its limit, printed as a table at the end.

import fs from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';
import { OUTPUT } from './servers.mjs';

const FILE = path.join(OUTPUT, 'figures.jsonl');

/** Notes a value. */
export function note(check, what, value, limit = '') {
  fs.mkdirSync(OUTPUT, { recursive: true });
  const shown = typeof value === 'number' ? Math.round(value * 10) / 10 : value;
  fs.appendFileSync(FILE, `${JSON.stringify({ check, what, value: shown, limit })}\n`);
}

export function atMost(check, what, value, limit, unit = '') {
  note(check, what, value, `<= ${limit} ${unit}`.trim());
  assert.ok(value <= limit, `${check}: ${what} is ${value}, expected at most ${limit} ${unit}`);
}

export function atLeast(check, what, value, limit, unit = '') {
  note(check, what, value, `>= ${limit} ${unit}`.trim());
  assert.ok(value >= limit, `${check}: ${what} is ${value}, expected at least ${limit} ${unit}`);
}

export function table() {
  if (!fs.existsSync(FILE)) return 'no figures';
  const rows = fs.readFileSync(FILE, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
  const cells = rows.map(({ check, what, value, limit }) => [check, what, String(value), limit]);
  const all = [['check', 'figure', 'value', 'limit'], ...cells];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((row) => row[column].length)));
  return all.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd()).join('\n');
}

export function clear() {
  fs.rmSync(OUTPUT, { recursive: true, force: true });
  fs.mkdirSync(OUTPUT, { recursive: true });
}
