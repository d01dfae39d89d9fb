/** Publishes what happens in a server pool. A listener that falls behind misses the oldest. */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import type { ServerEvent } from "../ServerEvent.ts"

/** How many events a slow listener may be behind. */
const buffer = 1024

export interface ServerAnnouncer {
  readonly announce: (event: ServerEvent) => Effect.Effect<void>
  /** What happens from now on, to the end. */
  readonly stream: Stream.Stream<ServerEvent>
}

export const make: Effect.Effect<ServerAnnouncer> = Effect.map(PubSub.sliding<ServerEvent>(buffer), (pubsub) => {
  let ended = false
  return {
    announce: (event) =>
      Effect.suspend(() => {
        // A server that was taken out may stop after its pool.
        if (ended) return Effect.void
        ended = event._tag === "Closed"
        return Effect.asVoid(PubSub.publish(pubsub, event))
      }),
    stream: Stream.suspend(() =>
      ended ? Stream.empty : Stream.takeUntil(Stream.fromPubSub(pubsub), (event) => event._tag === "Closed")
    )
  }
})
