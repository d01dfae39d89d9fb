/** Millrace: a bare pool of eight slots, no policies. */
import { Pool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { type Contender, connections } from "../Work.ts"
import { byHttpClient } from "./Requests.ts"

export const contender: Contender = async (origin) => {
  const pool = await Effect.runPromise(
    Pool.make({ baseUrl: origin, size: connections }).pipe(
      Effect.provide(UndiciConnector.layer),
      Effect.provideService(Scope.Scope, Scope.makeUnsafe())
    )
  )
  return (work) => ({ _tag: "Effect", send: byHttpClient(pool.client, work.path, work) })
}
