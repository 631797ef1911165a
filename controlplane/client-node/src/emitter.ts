// An event emitter with typed events, as mediasoup's: `safeEmit` keeps a listener that throws away
// from whoever emits, and tells it as `listenererror`.

import { EventEmitter } from 'node:events';

export class Emitter<Events extends Record<keyof Events, unknown[]>> extends EventEmitter {
  constructor() {
    super();
    this.setMaxListeners(Infinity);
  }

  override on<Name extends keyof Events & string>(event: Name | 'listenererror', listener: (...args: Events[Name]) => void): this {
    return super.on(event, listener as (...args: unknown[]) => void);
  }

  override once<Name extends keyof Events & string>(event: Name | 'listenererror', listener: (...args: Events[Name]) => void): this {
    return super.once(event, listener as (...args: unknown[]) => void);
  }

  override off<Name extends keyof Events & string>(event: Name | 'listenererror', listener: (...args: Events[Name]) => void): this {
    return super.off(event, listener as (...args: unknown[]) => void);
  }

  override emit<Name extends keyof Events & string>(event: Name, ...args: Events[Name]): boolean {
    return super.emit(event, ...args);
  }

  safeEmit<Name extends keyof Events & string>(event: Name, ...args: Events[Name]): boolean {
    try {
      return super.emit(event, ...args);
    } catch (error) {
      try {
        super.emit('listenererror', event, error);
      } catch {
        // Whoever listens to that has nobody to be told by.
      }
      return true;
    }
  }
}
