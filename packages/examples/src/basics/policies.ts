/** The standard stack, on by a few options, against a server that misbehaves: what each policy did, what the caller saw. */
import { Auth, Pool, type PoolEvent } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Duration, Effect, Redacted, Stream } from "effect"
import * as Http from "node:http"

/** What it does with the n-th request for a path. */
const behaviour = (path: string, n: number, token: string | undefined): { status: number; delay: number } => {
  if (path === "/revoked" && token === "Bearer token-1") return { status: 401, delay: 0 }
  if (path === "/flaky" && n <= 2) return { status: 503, delay: 0 }
  if (path === "/uneven" && n === 1) return { status: 200, delay: 400 }
  if (path === "/down" && n <= 4) return { status: 500, delay: 0 }
  return { status: 200, delay: 0 }
}

const asked = new Map<string, number>()

const moody = Effect.acquireRelease(
  Effect.callback<Http.Server>((resume) => {
    const server = Http.createServer(({ headers, url = "/" }, response) => {
      const n = (asked.get(url) ?? 0) + 1
      asked.set(url, n)
      const { delay, status } = behaviour(url, n, headers.authorization)
      setTimeout(() => response.writeHead(status).end(), delay)
    })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close().closeAllConnections())
)

const tell = (event: PoolEvent.PoolEvent): Effect.Effect<void> => {
  if (event._tag === "Retry") return Console.log(`  retry: once more in ${Math.round(event.millis)} ms`)
  if (event._tag === "Hedged") return Console.log(`  hedge: a second attempt after ${Math.round(event.millis)} ms`)
  if (event._tag === "Circuit") return Console.log(`  circuit breaker: ${event.from} → ${event.to}`)
  return Effect.void
}

const program = Effect.gen(function* () {
  const address = (yield* moody).address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  let tokens = 0
  const pool = yield* Pool.make({
    baseUrl: `http://127.0.0.1:${port}`,
    auth: yield* Auth.bearer(Effect.sync(() => Redacted.make(`token-${++tokens}`))),
    retry: { maxRetries: 2, initialDelay: "20 millis" },
    hedge: { delay: "50 millis" },
    rateLimit: { limit: 12, interval: "1 second" },
    circuitBreaker: { consecutiveFailures: 4, openFor: "150 millis" },
    bulkhead: { maxConcurrent: 4, maxWaiting: 8 }
  })
  yield* Effect.forkScoped(Stream.runForEach(pool.events, tell), { startImmediately: true })

  const get = (path: string) =>
    pool.client.get(path).pipe(
      Effect.map(({ status }) => `status ${status}`),
      Effect.catchTag(["CircuitOpen", "RetryExhausted"], ({ _tag }) => Effect.succeed(_tag)),
      Effect.timed,
      Effect.tap(([time, end]) =>
        Console.log(
          `${path}: ${end} after ${Math.round(Duration.toMillis(time))} ms, asked ${asked.get(path) ?? 0} times`
        )
      )
    )

  // Auth: the token was revoked, so there is another one, once.
  yield* get("/revoked")
  // Retry: two answers of 503 that the caller never sees.
  yield* get("/flaky")
  // Hedge: the first attempt is late, the second is not.
  yield* get("/uneven")
  // Circuit breaker: four failures in a row are enough for all callers, until a probe succeeds.
  yield* get("/down")
  yield* get("/down")
  yield* get("/down")
  yield* Effect.sleep("150 millis")
  yield* get("/down")
  // Rate limit: what is above it waits. Bulkhead: four at a time.
  const many = Effect.forEach(Array.from({ length: 12 }), () => pool.client.get("/many"), { concurrency: "unbounded" })
  const [time] = yield* Effect.timed(many)
  yield* Console.log(`/many: 12 requests after ${Math.round(Duration.toMillis(time))} ms`)
  const { failuresBy, hedges, requests, retries } = yield* pool.stats
  yield* Console.log({ requests, retries, hedges, failuresBy })
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
