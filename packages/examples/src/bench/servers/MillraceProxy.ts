/** Our proxy as a gateway has it: a server pool, and a client pool with the options for a proxy. */
import { Pool, Proxy } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { serve } from "./Pooled.ts"
import type { Subject } from "./Subject.ts"

export const subject: Subject = async (upstream) => {
  const handler = Effect.gen(function* () {
    const pool = yield* Pool.make({ ...Proxy.poolOptions, proxy: false, name: "upstream", baseUrl: upstream })
    return yield* Proxy.make(pool)
  }).pipe(Effect.provide(UndiciConnector.layer), Effect.provideService(Scope.Scope, Scope.makeUnsafe()))
  return serve(await Effect.runPromise(handler))
}
