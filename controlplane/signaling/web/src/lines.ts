// How good everybody's connection is, in three words. Pure: figures in, words out.

export type Line = 'good' | 'fair' | 'poor';

export interface Signs {
  /** Of what should have come in the last moment. */
  lossPercent?: number;
  roundTripMs?: number;
  /** Of the server, 0 to 10: what arrived here, and what arrived there of its sender. */
  score?: number | null;
  producerScore?: number | null;
  /** There is no room for the picture. */
  starved?: boolean;
  /** Nothing comes through at this moment. */
  interrupted?: boolean;
}

export const LINES: readonly Line[] = ['good', 'fair', 'poor'];
/** From here on it is fair, and poor. */
const LOSS_PERCENT = [3, 10];
const ROUND_TRIP_MS = [300, 600];
/** What the server gives at about those losses. */
const SCORE = [8, 6];

/** How bad one figure is: the index of a line. */
function grade(value: number | null | undefined, [fair, poor]: number[], sign = 1): number {
  if (value === null || value === undefined) return 0;
  return sign * value >= sign * poor ? 2 : sign * value >= sign * fair ? 1 : 0;
}

export function lineOf(signs: Signs): Line {
  if (signs.interrupted || signs.starved) return 'poor';
  const worst = Math.max(
    grade(signs.lossPercent, LOSS_PERCENT),
    grade(signs.roundTripMs, ROUND_TRIP_MS),
    grade(signs.score, SCORE, -1),
    grade(signs.producerScore, SCORE, -1),
  );
  return LINES[worst];
}

export function worseOf(one: Line, other: Line): Line {
  return LINES[Math.max(LINES.indexOf(one), LINES.indexOf(other))];
}

const LOOKS = 3;

/** One bad moment is not a bad line: the one in the middle of the last three looks counts. */
export class Lines {
  private seen = new Map<string, Line[]>();

  /** A look at everybody. Who is not in it is forgotten. */
  look(now: ReadonlyMap<string, Line>): Map<string, Line> {
    const shown = new Map<string, Line>();
    for (const id of this.seen.keys()) if (!now.has(id)) this.seen.delete(id);
    for (const [id, line] of now) {
      const looks = [...(this.seen.get(id) ?? []), line].slice(-LOOKS);
      this.seen.set(id, looks);
      const grades = looks.map((each) => LINES.indexOf(each)).sort();
      shown.set(id, LINES[grades[Math.floor((grades.length - 1) / 2)]]);
    }
    return shown;
  }
}
