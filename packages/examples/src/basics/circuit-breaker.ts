/** An upstream that fails: the circuit opens, callers are refused at once, a probe finds it well, the circuit closes. */
import { CircuitBreaker, Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Duration, Effect, Stream } from "effect"
import { server } from "./server.ts"

const program = Effect.gen(function* () {
  const pool = yield* Pool.make({ baseUrl: yield* server, size: 1, responseHeaderTimeout: "50 millis" })
  const breaker = yield* CircuitBreaker.make({ consecutiveFailures: 2, openFor: "100 millis" })
  const client = breaker.wrap(pool.client)
  const told = Stream.runForEach(breaker.changes, ({ from, reason, to }) => Console.log(`  ${from} → ${to}: ${reason}`))
  yield* Effect.forkChild(told, { startImmediately: true })

  for (let i = 0; i < 2; i++) {
    const [time, error] = yield* Effect.timed(Effect.flip(client.get("/slow")))
    yield* Console.log(error._tag, `after ${Math.round(Duration.toMillis(time))} ms`)
  }
  const [time, refused] = yield* Effect.timed(Effect.flip(client.get("/who")))
  yield* Console.log(refused._tag, `after ${Math.round(Duration.toMillis(time))} ms -`, refused.message)

  yield* Effect.sleep("100 millis")
  yield* Console.log("the probe:", (yield* client.get("/who")).status)
  yield* Console.log("closed again:", yield* breaker.state)

  // Before a maintenance of the upstream, say.
  yield* breaker.isolate
  yield* Console.log("isolated:", (yield* Effect.flip(client.get("/who")))._tag)
  yield* breaker.close
  yield* Console.log("and back:", (yield* client.get("/who")).status, breaker.snapshot())
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer)))
