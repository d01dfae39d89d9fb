/**
 * Faults between a pool and its connections, by rate and by seed: late answers, refused and broken connections, answers
 * that never come, statuses that are not the upstream's.
 *
 * What it promises:
 *
 * - A pool on it behaves as on a network that does these things: its slots, retries, breakers and limits see nothing else.
 * - Equal seeds and equal requests in equal order meet equal faults; changing one rate does not change whom late answers
 *   meet.
 * - Delays pass on the current clock, the `TestClock` in a test.
 *
 * What it never does: change a request, or invent a body.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { Connector } from "../client/Connector.ts"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import * as FaultOptions from "./internal/faultOptions.ts"
import { type Faults as Running, FaultyTransport } from "./internal/faultyTransport.ts"

/**
 * What happens to which share (0 to 1) of the requests. One request meets at most one of `refuse`, `silence`, `reset`,
 * `cut` and `status`, so their rates add up to 1 or less; `latency` comes on top.
 *
 * @category models
 * @since 0.1.0
 */
export interface Faults {
  /** Answers come late, by a random time from `min` (default 0) to `max` (default 1 second); `rate` is 1 by default. */
  readonly latency?:
    | {
        readonly rate?: number | undefined
        readonly min?: Duration.Input | undefined
        readonly max?: Duration.Input | undefined
      }
    | undefined
  /** The connection is refused; nothing is sent. */
  readonly refuse?: number | undefined
  /** The request is sent and never answered: some time limit must end it. */
  readonly silence?: number | undefined
  /** The upstream has the request; the connection breaks when its answer would begin. */
  readonly reset?: number | undefined
  /** The connection breaks in the middle of the body. A response without one is spared. */
  readonly cut?: number | undefined
  /** Something before the upstream answers with `status` (default 503); `rate` is 1 by default. */
  readonly status?: { readonly rate?: number | undefined; readonly status?: number | undefined } | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options extends Faults {
  /** A whole number; default 1. */
  readonly seed?: number | undefined
}

/**
 * How often each was done. `latency` counts together with others.
 *
 * @category models
 * @since 0.1.0
 */
export interface Injected {
  readonly latency: number
  readonly refuse: number
  readonly silence: number
  readonly reset: number
  readonly cut: number
  readonly status: number
  /** Requests that came by, harmed or not. */
  readonly requests: number
}

/**
 * @category models
 * @since 0.1.0
 */
export interface FaultInjection {
  /** The connector with the faults. */
  readonly connector: Connector
  readonly injected: Effect.Effect<Injected>
  /** From now on these faults and no others: `configure({})` ends an outage. */
  readonly configure: (faults: Faults) => Effect.Effect<void, ConfigError>
}

/**
 * The service tag.
 *
 * @category services
 * @since 0.1.0
 */
export const FaultInjection: Context.Service<FaultInjection, FaultInjection> = Context.Service(
  "@millrace/core/testing/FaultInjection"
)

/**
 * Puts faults before the current connector.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<FaultInjection, ConfigError, Connector> {
  const inner = yield* Connector
  const given = yield* check<FaultOptions.Given & { seed: number }>(FaultOptions.withSeed, options, FaultOptions.rules)
  const seeded = yield* Random.withSeed(Effect.context<never>(), given.seed ?? FaultOptions.withSeed.seed.default)
  const random = Context.get(seeded, Random.Random)
  const counts = { latency: 0, refuse: 0, silence: 0, reset: 0, cut: 0, status: 0, requests: 0 }
  let faults = FaultOptions.resolve(given)
  const running: Running = {
    next: () => {
      counts.requests++
      return FaultOptions.draw(faults, () => random.nextDoubleUnsafe())
    },
    injected: (what) => {
      counts[what]++
    }
  }
  return {
    connector: {
      open: (target) => new FaultyTransport(inner.open(target), target, running),
      decompress: inner.decompress,
      upgrade: inner.upgrade,
      afterTurn: inner.afterTurn
    },
    injected: Effect.sync(() => ({ ...counts })),
    configure: (changed) =>
      Effect.map(check<FaultOptions.Given>(FaultOptions.fields, changed, FaultOptions.rules), (valid) => {
        faults = FaultOptions.resolve(valid)
      })
  }
})

/**
 * A connector with faults, in the place of the one below it: a platform's, or that of a mock.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import { FaultInjection } from "@millrace/core/testing"
 * import { UndiciConnector } from "@millrace/node"
 * import { Layer } from "effect"
 *
 * export const rough = Pool.layer({ baseUrl: "http://localhost:8080" }).pipe(
 *   Layer.provideMerge(FaultInjection.layer({ seed: 7, reset: 0.05, latency: { rate: 0.2, max: "2 seconds" } })),
 *   Layer.provide(UndiciConnector.layer)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Connector | FaultInjection, ConfigError, Connector> =>
  Layer.effectContext(
    Effect.map(make(options), (faults) =>
      Context.add(Context.make(FaultInjection, faults), Connector, faults.connector)
    )
  )
