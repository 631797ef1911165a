// Every error that this package throws: an `IroncastError` with a stable `code`, either the server's
// own (a problem document) or one of ours. Those for which mediasoup has a class have the same here.

import type { ErrorCode, Problem } from './openapi.js';

/**
 * The server's codes (`not_found`, `unsupported`, `rate_limited`, ...), and ours:
 * `unreachable` no connection, or it broke; `untrusted` the server's certificate is not trusted;
 * `closed` the object was closed; `settings` the options are wrong; `answer` what came cannot be read.
 * `timeout` may be either: no answer came in time, and the call may have been carried out.
 */
export type Code = ErrorCode | 'unreachable' | 'untrusted' | 'closed' | 'settings' | 'answer';

export interface ErrorDetails {
  status?: number;
  pointer?: string;
  retryAfter?: number;
  cause?: unknown;
}

export class IroncastError extends Error {
  readonly code: Code;
  /** HTTP status, if the server said no. */
  readonly status?: number;
  /** JSON pointer to the field that is wrong, if it is one. */
  readonly pointer?: string;
  /** Seconds until it makes sense to ask again, if the server said so. */
  readonly retryAfter?: number;

  constructor(code: Code, message: string, { cause, ...details }: ErrorDetails = {}) {
    super(message, { cause });
    this.name = new.target.name;
    this.code = code;
    Object.assign(this, details);
  }

  /** Whether the same call may succeed later with nothing changed. */
  get isTemporary(): boolean {
    return TEMPORARY.has(this.code);
  }
}

const TEMPORARY = new Set<Code>([
  'unreachable', 'timeout', 'rate_limited', 'no_capacity', 'dataplane_unavailable', 'internal',
]);

/** mediasoup's name: the codecs, or something that this version of the server does not have. */
export class UnsupportedError extends IroncastError {}

/** mediasoup's name: the object is not there any more. */
export class NotFoundError extends IroncastError {}

/** mediasoup's name: the call came after `close()`, of the object or of something above it. */
export class WorkerClosedError extends IroncastError {}

/** What this version of the server does not have. */
export const unsupported = (what: string): UnsupportedError =>
  new UnsupportedError('unsupported', `this version of Ironcast does not have ${what}`);

export const closedError = (what: string): WorkerClosedError =>
  new WorkerClosedError('closed', `the ${what} is closed`);

/** What the server said when it did not do it. */
export function refusal(call: string, status: number, body: string): IroncastError {
  let problem: Partial<Problem>;
  try {
    problem = JSON.parse(body) as Partial<Problem>;
  } catch {
    problem = {};
  }
  if (typeof problem?.code !== 'string') {
    return new IroncastError('answer', `${call}: status ${status} without a problem document`, { status });
  }
  const details: ErrorDetails = { status };
  if (problem.pointer) details.pointer = problem.pointer;
  if (problem.retryAfter != null) details.retryAfter = problem.retryAfter;
  const message = `${call}: ${problem.detail ?? problem.title}${problem.pointer ? ` (${problem.pointer})` : ''}`;
  const Kind = { unsupported: UnsupportedError, not_found: NotFoundError }[problem.code as string] ?? IroncastError;
  return new Kind(problem.code, message, details);
}
