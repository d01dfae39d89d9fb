/** Options of a policy, checked all at once. */
import * as Effect from "effect/Effect"
import { ConfigError } from "../ConfigError.ts"
import type { FieldsOf, Problem } from "./field.ts"
import { readFields } from "./groupField.ts"

/** What the options say that is allowed, or everything that is not. `rules` adds what no option can know alone. */
export const check = <V>(
  fields: FieldsOf<V>,
  input: unknown,
  rules?: (read: Partial<V>) => ReadonlyArray<Problem>
): Effect.Effect<Partial<V>, ConfigError> =>
  Effect.suspend(() => {
    const problems: Array<Problem> = []
    const read = readFields<V>(fields, input, "", problems)
    problems.push(...(rules?.(read) ?? []))
    return problems.length === 0 ? Effect.succeed(read) : Effect.fail(new ConfigError({ problems }))
  })
