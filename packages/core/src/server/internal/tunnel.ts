/**
 * Two connections as one: what comes from either goes to the other.
 *
 * - A piece is read when the one before it was taken, so a slow side slows the other.
 * - The end of a direction is passed on; the other direction has a while to end, too.
 * - It ends well when both directions have ended, and fails when one cannot go on, or when nothing has moved for too long.
 *   Then whoever has the connections closes both.
 */
import type * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { RawConnection, RawConnectionError } from "../../model/RawConnection.ts"

/** Nothing has moved for that long. */
export class TunnelIdle extends Data.TaggedError("TunnelIdle")<{ readonly millis: number }> {
  override get message(): string {
    return `Nothing came over the tunnel for ${this.millis} ms`
  }
}

/** How long one direction may be silent when the other has ended: who has ended a WebSocket has nothing to wait for. */
const closing = 10_000

class Tunnel {
  readonly #clock: Clock.Clock
  readonly #ended = Deferred.makeUnsafe<void>()
  #movedAt: number

  constructor(clock: Clock.Clock) {
    this.#clock = clock
    this.#movedAt = clock.currentTimeMillisUnsafe()
  }

  run(one: RawConnection, other: RawConnection, idle: number): Effect.Effect<void, RawConnectionError | TunnelIdle> {
    const both = Effect.all([this.#pass(one, other), this.#pass(other, one)], {
      concurrency: "unbounded",
      discard: true
    })
    const limit = Effect.raceFirst(
      this.#silence(idle),
      Effect.andThen(Deferred.await(this.#ended), this.#silence(Math.min(idle, closing)))
    )
    return Effect.raceFirst(both, limit)
  }

  #pass(from: RawConnection, to: RawConnection): Effect.Effect<void, RawConnectionError> {
    return Effect.gen({ self: this }, function* () {
      for (;;) {
        const bytes = yield* from.read
        this.#moved()
        if (bytes === undefined) break
        yield* to.write(bytes)
        this.#moved()
      }
      yield* to.end
      yield* Deferred.succeed(this.#ended, undefined)
    })
  }

  #moved(): void {
    this.#movedAt = this.#clock.currentTimeMillisUnsafe()
  }

  #silence(limit: number): Effect.Effect<never, TunnelIdle> {
    if (limit === Infinity) return Effect.never
    return Effect.gen({ self: this }, function* () {
      for (;;) {
        const left = this.#movedAt + limit - this.#clock.currentTimeMillisUnsafe()
        if (left <= 0) return yield* new TunnelIdle({ millis: limit })
        yield* Effect.sleep(Duration.millis(left))
      }
    })
  }
}

/** `idle` in milliseconds. */
export const tunnel = (
  one: RawConnection,
  other: RawConnection,
  idle: number
): Effect.Effect<void, RawConnectionError | TunnelIdle> =>
  Effect.clockWith((clock) => new Tunnel(clock).run(one, other, idle))
