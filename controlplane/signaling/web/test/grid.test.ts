import assert from 'node:assert/strict';
import { test } from 'node:test';
import { focusBoxes, gridBoxes, roomyBoxes, type Box } from '../src/grid.ts';

const AREAS: Box[] = [
  { left: 0, top: 0, width: 1280, height: 640 },
  { left: 8, top: 60, width: 374, height: 640 },
  { left: 0, top: 0, width: 820, height: 300 },
];

function overlap(a: Box, b: Box): boolean {
  const slack = 0.01;
  return (
    a.left + a.width > b.left + slack &&
    b.left + b.width > a.left + slack &&
    a.top + a.height > b.top + slack &&
    b.top + b.height > a.top + slack
  );
}

function inside(box: Box, area: Box): boolean {
  const slack = 0.01;
  return (
    box.left >= area.left - slack &&
    box.top >= area.top - slack &&
    box.left + box.width <= area.left + area.width + slack &&
    box.top + box.height <= area.top + area.height + slack
  );
}

test('1 to 25 tiles lie inside, apart, and use the space', () => {
  for (const area of AREAS) {
    for (let count = 1; count <= 25; count++) {
      const boxes = gridBoxes(count, area, 8);
      assert.equal(boxes.length, count);
      for (const [index, box] of boxes.entries()) {
        assert.ok(inside(box, area), `${count} tiles: ${JSON.stringify(box)}`);
        for (const other of boxes.slice(index + 1)) assert.ok(!overlap(box, other));
      }
      const used = boxes.reduce((sum, box) => sum + box.width * box.height, 0);
      assert.ok(used > 0.45 * area.width * area.height, `${count} tiles use ${used}`);
    }
  }
});

test('two people beside each other lose little of their pictures', () => {
  for (const box of gridBoxes(2, { left: 0, top: 0, width: 1252, height: 650 }, 10)) {
    assert.ok(box.width / box.height >= 1.6, `${box.width}×${box.height}`);
  }
});

test('tiles beside a large one are no portraits', () => {
  for (let others = 1; others <= 12; others++) {
    for (const box of focusBoxes(others, AREAS[0], 10).others) {
      assert.ok(box.width / box.height > 1.3, `${others}: ${box.width}×${box.height}`);
    }
  }
});

test('a shared screen on a phone leaves its blank rest to the others', () => {
  const area = { left: 0, top: 0, width: 374, height: 640 };
  const { main, others } = focusBoxes(3, area, 10, 16 / 9);
  assert.ok(main.height < area.height / 2);
  assert.ok(others.every((box) => box.width > 100 && box.height > 90));
});

test('a focused tile is the largest and nothing overlaps', () => {
  for (const area of AREAS) {
    for (let others = 0; others <= 24; others++) {
      const { main, others: boxes } = focusBoxes(others, area, 8);
      assert.equal(boxes.length, others);
      for (const [index, box] of [main, ...boxes].entries()) {
        assert.ok(inside(box, area));
        for (const other of boxes.slice(index)) {
          if (other !== box) assert.ok(!overlap(box, other));
        }
        assert.ok(box.width * box.height <= main.width * main.height);
      }
    }
  }
});

test('among many on a phone everybody is known: there is more than fits', () => {
  const phone = { left: 0, top: 0, width: 344, height: 470 };
  for (const count of [1, 2, 5, 12]) assert.deepEqual(roomyBoxes(count, phone, 10), gridBoxes(count, phone, 10));
  for (const area of [phone, { left: 0, top: 0, width: 624, height: 230 }, { left: 0, top: 0, width: 304, height: 400 }]) {
    for (const count of [30, 31, 100]) {
      const boxes = roomyBoxes(count, area, 10);
      assert.equal(boxes.length, count);
      boxes.forEach((box, index) => {
        assert.ok(box.width >= 104 && box.height >= 72, `${count} in ${area.width}: ${box.width} x ${box.height}`);
        assert.ok(box.left >= 0 && box.left + box.width <= area.width + 0.01 && box.top >= 0);
        boxes.slice(index + 1).forEach((other) => assert.ok(!overlap(box, other)));
      });
    }
  }
});
