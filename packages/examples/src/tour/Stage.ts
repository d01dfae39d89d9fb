/**
 * Where an act plays: instances behind a balancer, on ports of their own. Every contender gets a stage for itself, so
 * that none sees what another left behind.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Balancer from "./Balancer.ts"
import * as Cluster from "./Cluster.ts"
import { type Counts } from "./Counts.ts"
import { type ListenError } from "./Loopback.ts"

/** The four instances that every act begins with. */
export const instances: ReadonlyArray<string> = ["ash", "elm", "fir", "oak"]

export interface Stage {
  /** The balancer's address, all that a client knows. */
  readonly url: URL
  /** An instance dies. The balancer does not know it yet. */
  readonly kill: (name: string) => Effect.Effect<void>
  /** A health check has noticed a death: no new connections for that instance. */
  readonly notice: (name: string) => void
  /** An instance starts, and the balancer is told. */
  readonly join: (name: string) => Effect.Effect<void, ListenError>
  /** Connections given to each instance since the start. */
  readonly opened: () => Counts
  /** Connections that each instance holds. */
  readonly open: () => Counts
}

export const make = Effect.fnUntraced(function* (
  options?: Cluster.Options
): Effect.fn.Return<Stage, ListenError, Scope.Scope> {
  const cluster = yield* Cluster.make(options)
  const balancer = yield* Balancer.make
  const join: Stage["join"] = (name) => Effect.map(cluster.start(name), (port) => balancer.add(name, port))
  yield* Effect.forEach(instances, join, { discard: true })
  return {
    url: new URL(`http://127.0.0.1:${balancer.port}/`),
    kill: cluster.kill,
    notice: balancer.remove,
    join,
    opened: balancer.opened,
    open: balancer.open
  }
})
