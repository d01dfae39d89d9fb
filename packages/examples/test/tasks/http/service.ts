/** The public listener of the service, on loopback, over tasks in memory. */
import { assert } from "@effect/vitest"
import { Handler, Pool, ServerPool } from "@millrace/core"
import * as NodeListener from "@millrace/node/NodeListener"
import * as UndiciConnector from "@millrace/node/UndiciConnector"
import { Clock, Context, Duration, Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import * as Client from "../../../src/tasks/http/Client.ts"
import { routes } from "../../../src/tasks/http/Routes.ts"
import { TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Memory from "../../../src/tasks/storage/Memory.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"

/** The ports of a storage whose time is the clock of the context. */
export const memory = Layer.build(Memory.layer)

type Store = Context.Service.Shape<typeof TaskStore>

/** Starts it; the result is its origin. What it logs goes to `log`. */
export const serve = (store: Store, log: (message: string) => void = () => {}) =>
  Effect.gen(function* () {
    const handlers = yield* Handler.fromRouter(routes).pipe(Effect.provideService(TaskStore, store))
    const pool = yield* ServerPool.make({ servers: [{ name: "public", bind: "127.0.0.1:0" }], handlers })
    yield* pool.start
    const address = (yield* pool.servers)[0]?.address
    assert.isDefined(address)
    return `http://127.0.0.1:${address.port}`
  }).pipe(Effect.provide(Layer.merge(NodeListener.layer, Logger.layer([Logger.map(Logger.formatLogFmt, log)]))))

/** The typed client over a pool that repeats nothing. */
export const clientOf = (url: string) =>
  Effect.map(
    Layer.build(
      Client.layer.pipe(
        Layer.provide(Pool.layerHttpClient({ baseUrl: url, retry: false })),
        Layer.provide(UndiciConnector.layer)
      )
    ),
    Context.get(Client.Client)
  )

/** Claims the oldest waiting task. */
export const claimed = (queue: Context.Service.Shape<typeof TaskQueue>) =>
  Effect.gen(function* () {
    const claims = yield* queue.claim({ worker: "test", limit: 1, lease: Duration.hours(1) })
    const claim = claims[0]
    assert.isDefined(claim)
    return claim
  })

/** A service with its client; `clock` is its time, and the storage's. */
export const service = Effect.gen(function* () {
  const clock = yield* TestClock.make()
  const onClock = Effect.provideService(Clock.Clock, clock)
  const ports = yield* onClock(memory)
  const store = Context.get(ports, TaskStore)
  const queue = Context.get(ports, TaskQueue)
  const url = yield* onClock(serve(store))
  const client = yield* clientOf(url)
  const onQueue = <A, E>(use: (queue: Context.Service.Shape<typeof TaskQueue>) => Effect.Effect<A, E>) =>
    onClock(use(queue))
  return { client: client.tasks, clock, onQueue, queue, store, url }
})

export interface Answer {
  readonly headers: Headers
  readonly json: unknown
  readonly status: number
  readonly text: string
  readonly type: string | null
}

/** What a program without this client sees. */
export const send = (url: string, init: RequestInit = {}): Effect.Effect<Answer> =>
  Effect.promise(async (signal) => {
    const response = await fetch(url, { redirect: "manual", signal, ...init })
    const text = await response.text()
    const type = response.headers.get("content-type")
    const json: unknown = type?.includes("json") === true && text !== "" ? JSON.parse(text) : undefined
    return { headers: response.headers, json, status: response.status, text, type }
  })

/** An id that no task has. */
export const nobody = "607b6a8c-ca0e-4d2a-b48b-1f7dd8926e00"
