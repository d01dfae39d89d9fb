/** What a server has from the pool that it is in. */
import type * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Timers } from "../../model/Timers.ts"
import type { Handler, Listener } from "../Listener.ts"
import type { ServerEvent } from "../ServerEvent.ts"
import type { Refused } from "./refused.ts"

export interface Home {
  readonly listener: Listener
  readonly timers: Timers
  readonly announce: (event: ServerEvent) => Effect.Effect<void>
  /** The one that the key stands for now. */
  readonly handler: (key: string) => Handler | undefined
  /** The pool was started, and not stopped since: what comes into it is started. */
  readonly started: () => boolean
  /** Runs beside whatever else happens; the pool's scope waits for it. */
  readonly background: (effect: Effect.Effect<void>) => Effect.Effect<Fiber.Fiber<void>>
  /** Fails when the pool's scope ends. */
  readonly closing: Deferred.Deferred<never, Refused>
}
