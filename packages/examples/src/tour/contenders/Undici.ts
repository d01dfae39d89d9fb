/**
 * What Node offers: undici's `Client`, which is one keep-alive connection, and undici's `RoundRobinPool`.
 */
import * as Effect from "effect/Effect"
import { Client, type Dispatcher, RoundRobinPool } from "undici"
import { type Contender, RequestFailed, type Target } from "./Contender.ts"

export const singleConnection: Contender = {
  key: "single",
  label: "one keep-alive client",
  open: (target) => open(target, () => new Client(target.url.origin, limits(target)))
}

export const roundRobinPool = (options: {
  readonly connections: number
  readonly clientTtl?: number | undefined
}): Contender => {
  const { clientTtl, connections } = options
  const ttl = clientTtl === undefined ? {} : { clientTtl }
  return {
    key: clientTtl === undefined ? "roundRobinPool" : "roundRobinPoolTtl",
    label: clientTtl === undefined ? `undici RoundRobinPool(${connections})` : `  with clientTtl ${clientTtl} ms`,
    open: (target) =>
      open(target, () => new RoundRobinPool(target.url.origin, { connections, ...ttl, ...limits(target) }))
  }
}

const limits = ({ timeout }: Target) => ({
  headersTimeout: timeout,
  bodyTimeout: timeout,
  connect: { timeout }
})

const open = Effect.fnUntraced(function* (target: Target, make: () => Dispatcher) {
  const dispatcher = yield* Effect.acquireRelease(Effect.sync(make), (dispatcher) =>
    Effect.promise(() => dispatcher.destroy())
  )
  let connections = 0
  dispatcher.on("connect", () => connections++)
  const path = target.url.pathname + target.url.search
  return {
    get: Effect.tryPromise({
      try: async (signal) => {
        const { body, headers, statusCode } = await dispatcher.request({ path, method: "GET", signal })
        for await (const _ of body) {
          // Read to the end: only then is the connection free again.
        }
        return { status: statusCode, header: (name: string) => headers[name]?.toString() }
      },
      catch: (cause) => new RequestFailed({ kind: kindOf(cause), cause })
    }),
    facts: Effect.sync(() => ({ connections, resent: 0 }))
  }
})

const kindOf = (cause: unknown): string => {
  if (!(cause instanceof Error)) return "unknown"
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.name
}
