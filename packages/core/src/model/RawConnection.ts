/**
 * A connection that speaks HTTP no more: bytes both ways, as a WebSocket has them.
 *
 * - Nothing is read that nobody has asked for, and `write` waits while the other side does not take it: what is in memory is
 *   what the sockets buffer.
 * - Each direction ends by itself. The scope that a connection was got in closes both, whatever they are at.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"

/**
 * Both ends are used by one fiber each, at most.
 *
 * @category models
 * @since 0.1.0
 */
export interface RawConnection {
  /** What has come, not empty; `undefined` when the other side has said that nothing more will. */
  readonly read: Effect.Effect<Uint8Array | undefined, RawConnectionError>
  /** Completes when there is room for more. */
  readonly write: (bytes: Uint8Array) => Effect.Effect<void, RawConnectionError>
  /** Says that nothing more will come from here, after what was written. */
  readonly end: Effect.Effect<void>
}

/**
 * The connection broke, or could not be had.
 *
 * @category errors
 * @since 0.1.0
 */
export class RawConnectionError extends Data.TaggedError("RawConnectionError")<{
  readonly reason: string
  readonly cause?: unknown
}> {
  override get message(): string {
    return `The connection cannot be used: ${this.reason}`
  }
}
