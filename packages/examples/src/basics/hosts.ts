/** One pool for many hosts: each has its own slots, counters, policies and settings, which can change at run time. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Duration, Effect, Option } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const [a, b] = [yield* server, yield* server]
  const pool = yield* Pool.make({
    size: 2,
    responseHeaderTimeout: "50 millis",
    circuitBreaker: { consecutiveFailures: 2 },
    hosts: { [a]: { headers: { "x-tenant": "acme" }, requestTimeout: "2 seconds" } }
  })
  const get = (url: string) =>
    pool.client.get(url).pipe(
      Effect.flatMap((response) => response.json),
      Effect.catchTag(["TimeoutError", "CircuitOpen"], (error) => Effect.succeed(error._tag))
    )
  const circuit = (origin: string) =>
    Effect.map(pool.hostStats(origin), (stats) => Option.getOrUndefined(stats)?.circuit)

  yield* Console.log("a:", yield* get(`${a}/who`))
  yield* Console.log("b:", yield* get(`${b}/who`))

  // Each host has a circuit of its own.
  yield* Console.log("b:", yield* get(`${b}/slow`), yield* get(`${b}/slow`), yield* get(`${b}/who`))
  yield* Console.log("circuits: a", yield* circuit(a), "- b", yield* circuit(b))

  // What is given replaces that policy of the host, whatever state it had; what is not given is the pool's.
  yield* pool.configureHost(b, {
    headers: { "x-tenant": "other" },
    circuitBreaker: false,
    rateLimit: { limit: 10, interval: "1 second", burst: 1 }
  })
  const [time, answers] = yield* Effect.timed(Effect.forEach([1, 2, 3], () => get(`${b}/who`)))
  yield* Console.log("b:", answers[2])
  yield* Console.log(
    "b: 3 requests in",
    Math.round(Duration.toMillis(time) / 100) / 10,
    "s, circuit",
    yield* circuit(b)
  )

  const invalid = yield* Effect.flip(pool.configureHost(b, { retry: { maxRetries: -1, multiplier: 0 } }))
  yield* Console.log(invalid.message)
  yield* Console.log("b:", Option.getOrUndefined(yield* pool.hostStats(b))?.requests, "requests")
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
