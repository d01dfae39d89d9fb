/**
 * Millrace: a pool of single-connection slots.
 */
import { Pool, PoolError } from "@millrace/core"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type Contender, RequestFailed } from "./Contender.ts"

export const millrace = (options: {
  readonly slots: number
  readonly maxConnectionAge?: number | undefined
}): Contender => ({
  key: "millrace",
  label: `Millrace, ${options.slots} slot${options.slots === 1 ? "" : "s"}`,
  open: Effect.fnUntraced(function* ({ timeout, url }) {
    const pool = yield* Effect.orDie(
      Pool.make({
        name: "tour",
        baseUrl: url.origin,
        size: options.slots,
        maxConnectionAge: options.maxConnectionAge,
        dialTimeout: timeout,
        tlsTimeout: timeout,
        responseHeaderTimeout: timeout,
        bodyIdleTimeout: timeout,
        drainTimeout: 0
      })
    )
    const path = url.pathname + url.search
    return {
      get: pool.client.get(path).pipe(
        Effect.tap((response) => Stream.runDrain(response.stream)),
        Effect.map((response) => ({
          status: response.status,
          header: (name: string): string | undefined => response.headers[name]
        })),
        Effect.catch((error) => {
          const known = PoolError.isPoolError(error)
            ? error
            : Option.getOrUndefined(PoolError.fromHttpClientError(error))
          return Effect.fail(
            new RequestFailed({ kind: known === undefined ? error._tag : kindOf(known), cause: error })
          )
        })
      ),
      facts: Effect.map(pool.stats, (stats) => ({
        connections: stats.connectionsOpened,
        resent: stats.staleRetries
      }))
    }
  })
})

const kindOf = (error: PoolError.PoolError): string => {
  switch (error._tag) {
    case "ConnectError":
    case "TimeoutError":
      return `${error._tag}(${error.phase})`
    default:
      return error._tag
  }
}
