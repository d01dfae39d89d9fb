/**
 * Millrace: a pool of single-connection slots, with the policies that an act wants.
 */
import { Pool, type PoolConfig, PoolError } from "@millrace/core"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type Answer, type Client, type Contender, RequestFailed } from "./Contender.ts"

export type Policies = Pick<PoolConfig.Options, "auth" | "circuitBreaker" | "rateLimit" | "retry">

export interface Millrace extends Client {
  /** Any request, its URL relative to the target's origin; the body of its answer read to the end. */
  readonly send: (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<Answer, RequestFailed>
  readonly pool: Pool.Pool
}

export const millrace = (options: {
  readonly slots: number
  readonly maxConnectionAge?: number | undefined
  readonly policies?: Policies | undefined
}): Contender<Millrace> => ({
  key: "millrace",
  label: `Millrace, ${options.slots} slot${options.slots === 1 ? "" : "s"}`,
  open: Effect.fnUntraced(function* ({ timeout, url }) {
    const pool = yield* Effect.orDie(
      Pool.make({
        ...options.policies,
        name: "tour",
        baseUrl: url.origin,
        size: options.slots,
        maxConnectionAge: options.maxConnectionAge,
        dialTimeout: timeout,
        tlsTimeout: timeout,
        responseHeaderTimeout: timeout,
        bodyIdleTimeout: timeout,
        requestTimeout: timeout,
        drainTimeout: 0
      })
    )
    const send: Millrace["send"] = (request) =>
      pool.client.execute(request).pipe(
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
      )
    return {
      pool,
      send,
      get: send(HttpClientRequest.get(url.pathname + url.search)),
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
