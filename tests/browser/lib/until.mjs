// Waiting for conditions, with deadlines: no test sleeps for a fixed time and hopes.

export const delay = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks until the answer is true-ish and returns it; tells what was seen last when time is up. */
export async function until(what, ask, { within = 10_000, every = 50 } = {}) {
  const end = performance.now() + within;
  let last;
  for (;;) {
    try {
      last = await ask();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) {
      const seen = last instanceof Error ? last.message : JSON.stringify(last);
      throw new Error(`${what}: not within ${within} ms (last: ${seen})`);
    }
    await delay(every);
  }
}
