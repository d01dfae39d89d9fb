/** Reads the files that settings name; all that cannot be read is reported at once, by the names of their settings. */
import { ConfigError } from "@millrace/core/model/ConfigError"
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import * as Result from "effect/Result"
import { readFile } from "node:fs/promises"

const reason = (cause: unknown): string =>
  hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : "it is no file"

/** The texts of those that are named. */
export const read = <const K extends string>(
  files: Readonly<Record<K, string | undefined>>
): Effect.Effect<{ readonly [_ in K]?: string }, ConfigError> =>
  Effect.gen(function* () {
    const texts: { [_ in K]?: string } = {}
    const problems: Array<{ readonly path: string; readonly message: string }> = []
    for (const key in files) {
      const file = files[key]
      if (file === undefined) continue
      const text = yield* Effect.result(
        Effect.tryPromise({ try: (signal) => readFile(file, { encoding: "utf8", signal }), catch: reason })
      )
      if (Result.isSuccess(text)) texts[key] = text.success
      else problems.push({ path: key, message: `${file} cannot be read: ${text.failure}` })
    }
    return problems.length === 0 ? texts : yield* new ConfigError({ problems })
  })
