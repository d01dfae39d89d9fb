/** The options of a bulkhead: what each allows, its default, and what is read of it. */
import * as Field from "../../model/internal/field.ts"

/** What is read of the options. Durations are milliseconds. */
export interface Given {
  maxConcurrent: number
  maxWaiting: number
  maxWait: number
}

export interface Resolved extends Readonly<Given> {}

const limits = { max: 1_000_000 }

/** Nobody but its user knows how much an upstream can bear. */
const required = (field: Field.Field<number>): Field.Field<number> => ({ ...field, defaultText: "required" })

export const fields = {
  maxConcurrent: required(Field.integer("At most so many at once.", { ...limits, min: 1, default: 1 })),
  maxWaiting: Field.integer("At most so many wait for a permit; one more fails with `PoolSaturated`.", {
    ...limits,
    min: 0,
    default: 0
  }),
  maxWait: Field.duration("How long one waits for a permit; then it fails with `PoolSaturated`.", {
    default: "Infinity"
  })
} satisfies Field.FieldsOf<Given>

/** Without `maxConcurrent`, which `rules` refuse, there is no limit. */
export const resolve = (given: Partial<Given>): Resolved => ({
  maxConcurrent: given.maxConcurrent ?? Infinity,
  maxWaiting: given.maxWaiting ?? fields.maxWaiting.default,
  maxWait: given.maxWait ?? fields.maxWait.default
})

/** What no option can know alone. `input` tells what is missing from what could not be read. */
export const rules = (
  given: Partial<Given>,
  input: { readonly maxConcurrent?: unknown } = given
): ReadonlyArray<Field.Problem> => {
  const problems: Array<Field.Problem> = []
  if (input.maxConcurrent === undefined) {
    problems.push({ path: "maxConcurrent", message: "is required: how many the upstream can bear at once" })
  }
  if (given.maxWait !== undefined && Number.isFinite(given.maxWait) && (given.maxWaiting ?? 0) === 0) {
    problems.push({ path: "maxWait", message: "does nothing without `maxWaiting`: nobody waits" })
  }
  return problems
}
