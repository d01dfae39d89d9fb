/**
 * The end of a turn of Node's event loop: `setImmediate` comes after all connections that had something have been read, and
 * before any timer. Of the module and not of the global object, where a test's fake timers would stop every pool.
 *
 * @since 0.1.0
 */
import { setImmediate } from "node:timers"

/** @internal */
export const afterTurn = (f: () => void): void => {
  setImmediate(f)
}
