/** One thing done to many servers at once: those that fail do not keep it from the others. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Server } from "../Server.ts"
import { type Failed, type Reason, ServerPoolError } from "../ServerError.ts"

type Named = Pick<Server, "name" | "bind">

export const failed = ({ bind, name }: Named, cause: unknown): Failed => ({ name, bind, cause })

export const poolError = (reason: Reason, server: Named, cause: unknown): ServerPoolError =>
  new ServerPoolError({ reason, servers: [failed(server, cause)] })

export interface Outcome<S, A> {
  readonly done: ReadonlyArray<readonly [S, A]>
  readonly failures: ReadonlyArray<Failed>
}

/** All of them, and who failed with what. */
export const attempt = <S extends Named, A>(
  servers: ReadonlyArray<S>,
  act: (server: S) => Effect.Effect<A, unknown>
): Effect.Effect<Outcome<S, A>> =>
  Effect.map(
    Effect.forEach(servers, (server) => Effect.exit(act(server)), { concurrency: "unbounded" }),
    (exits) => {
      const done: Array<readonly [S, A]> = []
      const failures: Array<Failed> = []
      exits.forEach((exit, index) => {
        const server = servers[index]!
        if (Exit.isSuccess(exit)) done.push([server, exit.value])
        else failures.push(failed(server, Cause.squash(exit.cause)))
      })
      return { done, failures }
    }
  )

/** All of them; fails with every server that failed. */
export const together = <S extends Named, A>(
  reason: Reason,
  servers: ReadonlyArray<S>,
  act: (server: S) => Effect.Effect<A, unknown>
): Effect.Effect<ReadonlyArray<A>, ServerPoolError> =>
  Effect.flatMap(attempt(servers, act), ({ done, failures }) =>
    failures.length === 0
      ? Effect.succeed(done.map(([, value]) => value))
      : Effect.fail(new ServerPoolError({ reason, servers: failures }))
  )

/** Of several steps, why they failed. */
export const whyFailed = (exits: ReadonlyArray<Exit.Exit<unknown>>): unknown => {
  const errors = exits.filter((exit) => Exit.isFailure(exit)).map(({ cause }) => Cause.squash(cause))
  if (errors.length === 1) return errors[0]
  return new AggregateError(errors, errors.map((error) => (error instanceof Error ? error.message : error)).join("; "))
}
