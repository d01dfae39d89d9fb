/** Effect's own server. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Http from "node:http"
import { handler } from "./Answer.ts"
import { portOf } from "./Listening.ts"
import type { Subject } from "./Subject.ts"

export const subject: Subject = async () => {
  const node = Http.createServer()
  await Effect.runPromise(
    Effect.gen(function* () {
      const server = yield* NodeHttpServer.make(() => node, { host: "127.0.0.1", port: 0 })
      yield* server.serve(handler)
    }).pipe(Effect.provideService(Scope.Scope, Scope.makeUnsafe()))
  )
  return { port: portOf(node) }
}
