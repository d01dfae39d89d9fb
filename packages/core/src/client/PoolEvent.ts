/**
 * What happens in a pool, apart from requests: for logs, alerts and tests. Published only when it happens, so nothing
 * of it is on the way of a request.
 *
 * @since 0.1.0
 */

import type { ConnectPhase } from "../model/PoolError.ts"
import type { State } from "../policy/CircuitBreaker.ts"

type CircuitState = State["_tag"]

interface OfSlot {
  readonly origin: string
  readonly slot: number
}

/**
 * One event. `millis` are milliseconds.
 *
 * - `ConnectionOpened`: a slot connected; `millis` is how long it took, TLS included.
 * - `ConnectionFailed`: it could not; `reason` is the error's code, or `timeout`.
 * - `ConnectionClosed`: its connection is gone; `reason` is `retired`, `idle`, `aborted`, `closed`, or the error's code.
 * - `StaleRetry`: a kept-alive connection died under a request before the first byte of a response; it is sent again.
 * - `SlotEjected`, `SlotRestored`: a slot that fails to connect rests for `millis`, and is back.
 * - `BodyAbandoned`: the garbage collector found a response whose body nobody had read.
 * - `Saturated`: a request found no place, or its time was up while it waited for one; at most one a second.
 * - `Retry`: a try has failed and there will be another after `millis`; `Hedged`: there is a second one beside the first,
 *   which has taken `millis`.
 * - `Circuit`: the circuit of a host went from one state to another.
 * - `Paused`: the server asked for a pause, and the rate limit keeps it.
 * - `HostAdded`, `HostEvicted`: an origin was seen for the first time; an idle one made room.
 * - `Closing`, `Closed`: the pool's scope ends; `aborted` requests did not finish within `drainTimeout`.
 *
 * @category models
 * @since 0.1.0
 */
export type PoolEvent =
  | (OfSlot & { readonly _tag: "ConnectionOpened"; readonly address: string | undefined; readonly millis: number })
  | (OfSlot & {
      readonly _tag: "ConnectionFailed"
      readonly address: string | undefined
      readonly millis: number
      readonly phase: ConnectPhase | "dial"
      readonly reason: string
    })
  | (OfSlot & { readonly _tag: "ConnectionClosed"; readonly reason: string })
  | (OfSlot & { readonly _tag: "StaleRetry" })
  | (OfSlot & { readonly _tag: "SlotEjected"; readonly millis: number; readonly reason: string })
  | (OfSlot & { readonly _tag: "SlotRestored" })
  | (OfSlot & { readonly _tag: "BodyAbandoned" })
  | { readonly _tag: "Saturated"; readonly origin: string; readonly reason: string }
  | { readonly _tag: "Retry"; readonly origin: string; readonly attempt: number; readonly millis: number }
  | { readonly _tag: "Hedged"; readonly origin: string; readonly millis: number }
  | { readonly _tag: "Circuit"; readonly origin: string; readonly from: CircuitState; readonly to: CircuitState }
  | { readonly _tag: "Paused"; readonly origin: string; readonly millis: number }
  | { readonly _tag: "HostAdded"; readonly origin: string }
  | { readonly _tag: "HostEvicted"; readonly origin: string }
  | { readonly _tag: "Closing"; readonly active: number }
  | { readonly _tag: "Closed"; readonly aborted: number }
