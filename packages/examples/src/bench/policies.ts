/**
 * Measures what one policy adds to a request that it lets pass at once: the same requests through a pool without policies
 * and through one with only this, in turn, on a connector without sockets. A child process of its own.
 */
import { Connector, Pool, type PoolConfig } from "@millrace/core"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as FakeConnector from "./FakeConnector.ts"
import * as Stack from "./Stack.ts"
import { median } from "./Statistics.ts"

export interface PolicyArguments {
  readonly policy: Stack.PolicyName
  readonly rounds: number
}

export interface PolicyResult {
  readonly micros: number
}

const callers = 8
const requests = 20_000
const warmUp = 3

/** Does a round of requests, and gives the microseconds of processor time for one of them. */
const rounds = (options: PoolConfig.Options): Effect.Effect<Effect.Effect<number>, unknown> =>
  Effect.map(
    Pool.make({ baseUrl: "http://upstream.test", size: callers, ...options }).pipe(
      Effect.provideService(Connector.Connector, FakeConnector.make(true)),
      Effect.provideService(Scope.Scope, Scope.makeUnsafe())
    ),
    ({ client }) => {
      const request = Effect.flatMap(client.get("/small"), (response) => response.text)
      const caller = Effect.repeat(Effect.orDie(request), { times: requests / callers - 1 })
      const all = Effect.all(
        Array.from({ length: callers }, () => caller),
        { concurrency: "unbounded", discard: true }
      )
      return Effect.suspend(() => {
        const before = process.cpuUsage()
        return Effect.map(all, () => {
          const used = process.cpuUsage(before)
          return (used.user + used.system) / requests
        })
      })
    }
  )

const run = (args: PolicyArguments): Effect.Effect<PolicyResult, unknown> =>
  Effect.gen(function* () {
    const without = yield* rounds(Stack.nothing)
    const withIt = yield* rounds(Stack.only(args.policy))
    const differences: Array<number> = []
    for (let round = 0; round < args.rounds + warmUp; round++) {
      const bare = yield* without
      const difference = (yield* withIt) - bare
      if (round >= warmUp) differences.push(difference)
    }
    return { micros: median(differences) }
  })

process.on("disconnect", () => process.exit())
Effect.runPromise(run(JSON.parse(process.argv[2] ?? "{}") as PolicyArguments)).then(
  (result) => process.send?.({ _tag: "Measured", result }),
  (error: unknown) => process.send?.({ _tag: "Failed", message: String(error) })
)
