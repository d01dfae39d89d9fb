/** A server of a server pool. */
import { type Listener, ServerPool } from "@millrace/core"
import * as NodeListener from "@millrace/node/NodeListener"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { handler } from "./Answer.ts"
import type { Running, Subject } from "./Subject.ts"

/** A pool of one server, for as long as the process lives. */
export const serve = (answer: Listener.Handler): Promise<Running> =>
  Effect.gen(function* () {
    const pool = yield* ServerPool.make({
      servers: [{ name: "bench", bind: "127.0.0.1:0" }],
      handlers: { default: answer }
    })
    yield* pool.start
    const [server] = yield* pool.servers
    return { port: Number(new URL(server?.expose ?? "").port) }
  }).pipe(Effect.provide(NodeListener.layer), Effect.provideService(Scope.Scope, Scope.makeUnsafe()), Effect.runPromise)

export const subject: Subject = () => serve(handler)
