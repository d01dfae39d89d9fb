/**
 * `npm run load`: 10 000 tasks of 50 ms through 16 permits, on a PostgreSQL; how the API answers meanwhile; what a claim
 * costs; and how it all is with a million tasks in the table.
 *
 *   npm run load -- --postgres postgres://user:password@host:port/database --tasks 10000
 *
 * It makes the database `tasks_load` there, and drops it. It takes about a minute, and ends by itself.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Console, Duration, Effect, Fiber, Layer, Schedule } from "effect"
import type * as SqlClient from "effect/sql/SqlClient"
import { parseArgs } from "node:util"
import { machine } from "../../bench/Machine.ts"
import { quantile } from "../../bench/Statistics.ts"
import * as Client from "../http/Client.ts"
import { TaskQueue } from "../queue/TaskQueue.ts"
import * as Postgres from "../storage/Postgres.ts"
import * as Database from "./Database.ts"
import * as Service from "./Service.ts"

const permits = 16
const work = 50
const million = 1_000_000

const { values } = parseArgs({
  options: {
    postgres: { type: "string", default: "postgres://postgres@127.0.0.1:5432/postgres" },
    tasks: { type: "string", default: "10000" }
  }
})
const count = Number(values.tasks)
if (!Number.isInteger(count) || count < 1 || count > 1_000_000) {
  process.stderr.write("--tasks must be a whole number from 1 to 1000000\n")
  process.exit(2)
}

/** Milliseconds of each of so many, one after the other. */
const timed = <E, R>(times: number, effect: Effect.Effect<unknown, E, R>) =>
  Effect.replicateEffect(
    Effect.map(Effect.timed(effect), ([took]) => Duration.toMillis(took)),
    times
  )

const row = (what: string, ...figures: ReadonlyArray<string>) => Console.log(`| ${[what, ...figures].join(" | ")} |`)

const ms = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)} ms`

const latency = (what: string, took: ReadonlyArray<number>) =>
  row(what, `median ${ms(quantile(took, 0.5))}, p99 ${ms(quantile(took, 0.99))}`)

const page = (limit: number, cursor?: number) =>
  Effect.flatMap(Client.Client, ({ tasks }) =>
    tasks.list({ query: cursor === undefined ? { limit } : { limit, cursor } })
  )

const create = Effect.flatMap(Client.Client, ({ tasks }) => tasks.create({ headers: {} }))

/** Twenty requests a second of each kind, as clients come: not one after the other. */
const pace = <E, R>(effect: Effect.Effect<unknown, E, R>) => {
  const took: Array<number> = []
  const one = Effect.tap(Effect.timed(effect), ([time]) => Effect.sync(() => took.push(Duration.toMillis(time))))
  return Effect.as(Effect.repeat(Effect.forkChild(one), Schedule.fixed("50 millis")), took).pipe(
    Effect.timeoutOption("20 seconds"),
    Effect.as(took)
  )
}

const throughput = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const meanwhile = yield* Effect.forkChild(Effect.all([pace(create), pace(page(100))], { concurrency: 2 }))
  const { seconds } = yield* Effect.repeat(Database.progress(sql, count), {
    schedule: Schedule.spaced("500 millis"),
    until: ({ left }) => left === 0
  })
  const [posts, gets] = yield* Fiber.join(meanwhile)
  const ideal = (count * work) / 1000 / permits
  yield* row(
    `${count} tasks of ${work} ms, ${permits} permits`,
    `${(count / seconds).toFixed(0)} tasks/s, ${(ideal / seconds).toFixed(2)} of the ideal ${(count / ideal).toFixed(0)}`
  )
  yield* latency("`POST /task` meanwhile, 20/s", posts)
  yield* latency("`GET /task` meanwhile, 20/s, a page of 100", gets)
})

/** What it costs to take tasks, and to give them back, which the figure does not hold. */
const claims = Effect.fnUntraced(function* (what: string, location: Database.Location) {
  const figures = Effect.gen(function* () {
    const queue = yield* TaskQueue
    for (const limit of [1, permits]) {
      const took: Array<number> = []
      for (let turn = 0; turn < 200; turn++) {
        const [time, claimed] = yield* Effect.timed(queue.claim({ worker: "load", limit, lease: Duration.minutes(1) }))
        took.push(Duration.toMillis(time))
        yield* queue.release(claimed)
      }
      yield* latency(`claim of ${limit}, ${what}`, took)
    }
  })
  yield* Effect.provide(figures, Postgres.layer({ ...location, maxConnections: 1, migrate: false }))
})

const pages = Effect.fnUntraced(function* (what: string) {
  yield* latency(`\`GET /task\`, newest 100 of ${what}`, yield* timed(200, page(100)))
  yield* latency(`\`GET /task\`, 100 from the middle of ${what}`, yield* timed(200, page(100, million / 2)))
})

/** With a service of its own, which is stopped at the end. */
const served = <A, E>(location: Database.Location, use: Effect.Effect<A, E, Client.Client>) =>
  Effect.gen(function* () {
    const api = yield* Service.start(location, { permits, work })
    const client = Client.layer.pipe(
      Layer.provide(Pool.layerHttpClient({ baseUrl: api, size: 16 })),
      Layer.provide(UndiciConnector.layer)
    )
    return yield* Effect.provide(use, client)
  }).pipe(Effect.scoped)

const program = Effect.gen(function* () {
  const { cores, cpu, date, node } = machine()
  yield* Console.log(
    `${date.slice(0, 10)}, ${cpu}, ${cores} cores, Node ${node}; database, service and load share them.\n`
  )
  const { location, sql } = yield* Database.fresh(Database.locate(new URL(values.postgres)))
  yield* row("What", "Figure")
  yield* row("---", "---")
  yield* Database.addWaiting(sql, count)
  yield* claims(`${count} waiting`, location)
  yield* served(location, Effect.andThen(throughput(sql), pages(`${count}`)))
  yield* Database.addCompleted(sql, million)
  yield* served(location, pages("a million"))
  yield* Database.addWaiting(sql, count)
  yield* claims(`${count} waiting behind a million`, location)
})

NodeRuntime.runMain(Effect.scoped(program))
