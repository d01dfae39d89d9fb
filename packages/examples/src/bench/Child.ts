/**
 * Child processes that speak by messages: started within a scope and ended, by their handle, when it closes. A child
 * also ends by itself when its parent is gone, as each of ours listens to `disconnect`.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"

export class ChildError extends Data.TaggedError("ChildError")<{ readonly message: string }> {}

export interface Child {
  /** Sends a message and waits for the next one that comes. One question at a time. */
  readonly ask: <Reply>(question: object) => Effect.Effect<Reply, ChildError>
  /** Waits for the next message. */
  readonly next: <Reply>() => Effect.Effect<Reply, ChildError>
}

export interface Options {
  readonly args?: ReadonlyArray<string> | undefined
  readonly execArgv?: ReadonlyArray<string> | undefined
}

const gone = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

const receive = <Reply>(name: string, child: ChildProcess, begin: () => void): Effect.Effect<Reply, ChildError> =>
  Effect.callback<Reply, ChildError>((resume) => {
    const onMessage = (message: unknown) => {
      done()
      const failed = message as { readonly _tag?: unknown; readonly message?: string }
      if (failed._tag === "Failed") resume(Effect.fail(new ChildError({ message: `${name}: ${failed.message}` })))
      else resume(Effect.succeed(message as Reply))
    }
    const onExit = () => {
      done()
      const how = child.signalCode ?? `exit code ${child.exitCode}`
      resume(Effect.fail(new ChildError({ message: `${name} ended too early (${how})` })))
    }
    const done = () => {
      child.off("message", onMessage)
      child.off("exit", onExit)
    }
    if (gone(child)) return onExit()
    child.on("message", onMessage)
    child.on("exit", onExit)
    begin()
    return Effect.sync(done)
  })

const end = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (gone(child)) return resume(Effect.void)
    const hard = setTimeout(() => child.kill("SIGKILL"), 2000)
    child.once("exit", () => {
      clearTimeout(hard)
      resume(Effect.void)
    })
    child.kill("SIGTERM")
  })

/** Starts a module of ours as a child process. `name` is how errors call it. */
export const start = (name: string, module: URL, options?: Options): Effect.Effect<Child, ChildError, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        fork(fileURLToPath(module), options?.args ?? [], {
          execArgv: [...(options?.execArgv ?? [])],
          stdio: ["ignore", 2, 2, "ipc"]
        })
      ),
      end
    ),
    (child) => ({
      ask: <Reply>(question: object) => receive<Reply>(name, child, () => child.send(question)),
      next: <Reply>() => receive<Reply>(name, child, () => {})
    })
  )
