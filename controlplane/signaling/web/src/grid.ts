// Where the tiles go: the arrangement that shows most picture, for any number of tiles in any
// area. Pure, so that it can be tested without a browser.

export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

const ASPECT_MAX = 16 / 9;

/** Beside a large tile a face may lose a little at its sides, and no more. */
const ASPECT_BESIDE_MIN = 4 / 3;

/** On a smaller tile nobody is known. */
const WIDTH_MIN = 104;
const HEIGHT_MIN = 72;

/** Of a tile among more than fit. */
const ASPECT_AMONG_MANY = 1.25;

/** A tile may be narrower than its picture, which is cut to fill it: most of all on phones. */
function aspectMin(count: number, area: Box): number {
  if (area.width >= area.height) return 1.6;
  return count <= 2 ? 0.75 : 1.15;
}

/** Equal tiles in rows; the last row is centred. */
export function gridBoxes(count: number, area: Box, gap: number, narrowest = aspectMin(count, area)): Box[] {
  if (count === 0) return [];
  let best = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (area.width - gap * (columns - 1)) / columns;
    const cellHeight = (area.height - gap * (rows - 1)) / rows;
    if (cellWidth <= 0 || cellHeight <= 0) continue;
    const aspect = Math.min(ASPECT_MAX, Math.max(narrowest, cellWidth / cellHeight));
    const width = Math.min(cellWidth, cellHeight * aspect);
    const height = Math.min(cellHeight, width / aspect);
    if (width * height > best.width * best.height) best = { columns, width, height };
  }
  const { columns, width, height } = best;
  const rows = Math.ceil(count / columns);
  const top = area.top + (area.height - rows * height - gap * (rows - 1)) / 2;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const rowWidth = inRow * width + gap * (inRow - 1);
    const left = area.left + (area.width - rowWidth) / 2;
    const column = index - row * columns;
    return { left: left + column * (width + gap), top: top + row * (height + gap), width, height };
  });
}

/** The same where tiles would be too small to know anybody: then they are higher than the area, which scrolls. */
export function roomyBoxes(count: number, area: Box, gap: number): Box[] {
  const boxes = gridBoxes(count, area, gap);
  const [first] = boxes;
  if (!first || area.width <= 0 || (first.width >= WIDTH_MIN && first.height >= HEIGHT_MIN)) return boxes;
  const columns = Math.max(2, Math.floor((area.width + gap) / (WIDTH_MIN + gap)));
  const rows = Math.ceil(count / columns);
  const width = (area.width - gap * (columns - 1)) / columns;
  const height = Math.max(HEIGHT_MIN, width / ASPECT_AMONG_MANY);
  return Array.from({ length: count }, (_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns];
    const missing = row === rows - 1 ? columns * rows - count : 0;
    const left = area.left + (column + missing / 2) * (width + gap);
    return { left, top: area.top + row * (height + gap), width, height };
  });
}

/**
 * One tile large (a shared screen, or one that was pinned), the others beside or below it. Below,
 * the large one is no higher than its picture needs: the rest is for the others.
 */
export function focusBoxes(
  others: number,
  area: Box,
  gap: number,
  aspect = ASPECT_MAX,
): { main: Box; others: Box[] } {
  if (others === 0) return { main: area, others: [] };
  const wide = area.width >= area.height * 1.1;
  const share = others > 8 ? 0.28 : others > 3 ? 0.24 : 0.2;
  if (wide) {
    const side = Math.max(150, area.width * share);
    const main = { ...area, width: area.width - side - gap };
    const strip = { ...area, left: area.left + main.width + gap, width: side };
    return { main, others: gridBoxes(others, strip, gap, ASPECT_BESIDE_MIN) };
  }
  const below = Math.max(110, area.height * (share + 0.05));
  const most = area.height - below - gap;
  // The large one stays the largest, however little its picture needs.
  const least = area.height * (others === 1 ? 0.5 : others === 2 ? 0.45 : 0.3);
  const height = Math.min(most, Math.max(area.width / aspect, least));
  const main = { ...area, height };
  const strip = { ...area, top: area.top + main.height + gap, height: area.height - height - gap };
  return { main, others: gridBoxes(others, strip, gap) };
}
