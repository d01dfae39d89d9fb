/**
 * A CPU profile of this process, for the performance panel of Chromium's developer tools or an editor.
 *
 * What it promises: one profile at a time; a caller that leaves ends it; nothing stays attached.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Session } from "node:inspector"

/**
 * There is no profile: one is being taken, or the engine refused.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProfileError extends Data.TaggedError("ProfileError")<{
  readonly reason: "busy" | "refused"
  readonly cause?: unknown
}> {
  override get message(): string {
    return this.reason === "busy"
      ? "A CPU profile is being taken: try again when it has ended"
      : "The engine gave no CPU profile: see whether another profiler or debugger is attached"
  }
}

let busy = false

const post = (session: Session, method: string): Effect.Effect<unknown, ProfileError> =>
  Effect.callback((resume) => {
    session.post(method, (cause: Error | null, result?: object) => {
      resume(cause === null ? Effect.succeed(result) : Effect.fail(new ProfileError({ reason: "refused", cause })))
    })
  })

const attached = Effect.acquireRelease(
  Effect.suspend(() => {
    if (busy) return Effect.fail(new ProfileError({ reason: "busy" }))
    const session = new Session()
    session.connect()
    busy = true
    return Effect.succeed(session)
  }),
  (session) =>
    Effect.sync(() => {
      busy = false
      session.disconnect()
    })
)

const profileOf = (stopped: unknown): Effect.Effect<object, ProfileError> =>
  typeof stopped === "object" && stopped !== null && "profile" in stopped && typeof stopped.profile === "object"
    ? Effect.succeed(stopped.profile ?? {})
    : Effect.fail(new ProfileError({ reason: "refused" }))

/**
 * Records for a while; the text of a `.cpuprofile` file. The process goes on meanwhile, a little slower.
 *
 * ```ts
 * import * as CpuProfile from "@millrace/node/Admin/CpuProfile"
 * import { Effect } from "effect"
 * import { writeFileSync } from "node:fs"
 *
 * export const save = Effect.map(CpuProfile.record("5 seconds"), (text) => writeFileSync("my.cpuprofile", text))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const record = (time: Duration.Input): Effect.Effect<string, ProfileError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const session = yield* attached
      yield* post(session, "Profiler.enable")
      yield* post(session, "Profiler.start")
      yield* Effect.sleep(time)
      return JSON.stringify(yield* profileOf(yield* post(session, "Profiler.stop")))
    })
  )
