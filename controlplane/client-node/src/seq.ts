// Where in the stream of events something is: `EPOCH-N`. The answers of calls carry it too, so that
// answers and events, which come over two connections, can be put in order.

export interface Seq {
  readonly epoch: bigint;
  readonly number: bigint;
}

/** Reads `1-42`; undefined for everything else. */
export function parseSeq(text: unknown): Seq | undefined {
  const found = typeof text === 'string' ? /^(\d{1,20})-(\d{1,20})$/.exec(text) : null;
  return found ? { epoch: BigInt(found[1]!), number: BigInt(found[2]!) } : undefined;
}

export const formatSeq = ({ epoch, number }: Seq): string => `${epoch}-${number}`;

/** Whether `a` comes behind `b`. A later epoch is greater. */
export const isAfter = (a: Seq, b: Seq): boolean =>
  a.epoch === b.epoch ? a.number > b.number : a.epoch > b.epoch;
