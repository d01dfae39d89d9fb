/** How one part of the service tells another that it is worth a look. Late, doubled and missing ones do no harm. */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import type { Hint } from "./TaskQueue.ts"

export interface Hints {
  /** Never waits for those who listen. */
  readonly tell: (hint: Hint) => Effect.Effect<void>
  readonly stream: Stream.Stream<Hint>
}

export const waiting: Hint = { _tag: "Waiting" }

/** From one part of this process to another. Who is slow to listen misses the oldest. */
export const inProcess: Effect.Effect<Hints> = Effect.map(PubSub.sliding<Hint>(1024), (hints) => ({
  tell: (hint) => Effect.asVoid(PubSub.publish(hints, hint)),
  stream: Stream.fromPubSub(hints)
}))
