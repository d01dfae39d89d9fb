/** A rate limit that two processes keep together in Redis; and what happens when Redis is gone. */
import { SharedPolicies } from "@millrace/core"
import { SharedPolicies as RedisPolicies } from "@millrace/node"
import { Console, Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { createServer } from "node:net"

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** A Redis of our own, which keeps nothing. */
const redisOn = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<() => void>((resume) => {
      const redis = spawn("redis-server", ["--port", `${port}`, "--bind", "127.0.0.1", "--save", ""], { cwd: "/tmp" })
      redis.stdout.on("data", (text: Buffer) => {
        if (text.includes("Ready to accept")) resume(Effect.succeed(() => redis.kill("SIGKILL")))
      })
    }),
    (kill) => Effect.sync(kill)
  )

/** As each of your processes would have it: a connection and a limit of that name. Here there are two in one. */
const limitOfAProcess = (port: number) =>
  Effect.gen(function* () {
    const policies = yield* RedisPolicies.makeRedis({ host: "127.0.0.1", port, timeout: "1 second" })
    return yield* SharedPolicies.rateLimit("geocoder", { limit: 5, interval: "1 minute", maxWait: 0 }).pipe(
      Effect.provideService(SharedPolicies.SharedPolicies, policies)
    )
  })

const program = Effect.gen(function* () {
  const port = yield* freePort
  const kill = yield* redisOn(port)
  const [a, b] = [yield* limitOfAProcess(port), yield* limitOfAProcess(port)]
  const burst = (limit: typeof a) =>
    Effect.map(
      Effect.partition([1, 2, 3, 4, 5, 6, 7, 8], () => limit.guard(Effect.void)),
      ([passed]) => passed.length
    )
  const together = yield* Effect.all([burst(a), burst(b)], { concurrency: 2 })
  yield* Console.log(`5 a minute, two processes with 8 requests each: ${together[0] + together[1]} pass`)

  yield* Console.log("Redis is killed:")
  kill()
  yield* Console.log(`each process keeps the limit for itself: ${yield* burst(a)} pass`)
})

const installed = spawnSync("redis-server", ["--version"]).status === 0
await Effect.runPromise(
  installed ? Effect.scoped(program) : Console.log("redis-server is not installed: nothing to share a limit in")
)
