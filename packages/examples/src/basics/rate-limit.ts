/** A rate limit around a client: requests above it wait in a line, or fail at once; a 429 pauses all of them. */
import { Pool } from "@millrace/core"
import * as RateLimit from "@millrace/core/policy/RateLimit"
import { UndiciConnector } from "@millrace/node"
import { Console, Duration, Effect } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: yield* server })

  // Ten a second, three of them at once.
  const limit = yield* RateLimit.make({ limit: 10, interval: "1 second", burst: 3 })
  const client = limit.wrap(pool.client)
  const [time] = yield* Effect.timed(
    Effect.forEach([1, 2, 3, 4, 5, 6], (id) => client.get(`/users/${id}`), { concurrency: "unbounded" })
  )
  yield* Console.log(`6 requests took ${Math.round(Duration.toMillis(time) / 100) / 10} s: 3 at once, 3 a tenth apart`)

  // The same limit is for anything else, too.
  const waited = yield* limit.acquire(2)
  yield* Console.log(`2 more tokens took ${Math.round(Duration.toMillis(waited) / 100) / 10} s`)

  // Whoever would wait too long is told so at once.
  const strict = yield* RateLimit.make({ limit: 1, interval: "1 minute", algorithm: "slidingWindow", maxWait: 0 })
  const strictClient = strict.wrap(pool.client)
  yield* strictClient.get("/first")
  yield* Console.log(
    yield* strictClient.get("/second").pipe(
      Effect.map((response) => `status ${response.status}`),
      Effect.catchTag("RateLimitExceeded", (error) =>
        Effect.succeed(`refused: free in ${Math.ceil(Duration.toSeconds(error.retryAfter))} s`)
      )
    )
  )
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
