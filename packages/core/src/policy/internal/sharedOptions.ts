/** The options of shared policies, each once: kind, default, bounds, meaning. */
import * as Field from "../../model/internal/field.ts"

export const fields = {
  onUnavailable: Field.choice("What happens while the store does not answer.", ["local", "fail"]),
  timeout: Field.duration("How long the store may take to answer; after that it counts as unavailable.", {
    default: "250 millis",
    finite: true
  }),
  maxStaleness: Field.duration("How old what is known of a closed circuit may be; 0: the store is asked each time.", {
    default: "100 millis",
    min: 0,
    finite: true
  }),
  retryInterval: Field.duration("The longest time between two looks at a store that does not answer.", {
    default: "1 second",
    finite: true
  })
} satisfies Field.FieldsOf<Resolved>

/** Durations are milliseconds. */
export interface Resolved {
  onUnavailable: "local" | "fail"
  timeout: number
  maxStaleness: number
  retryInterval: number
}

export const resolve = (given: Partial<Resolved>): Resolved => ({
  onUnavailable: given.onUnavailable ?? fields.onUnavailable.default,
  timeout: given.timeout ?? fields.timeout.default,
  maxStaleness: given.maxStaleness ?? fields.maxStaleness.default,
  retryInterval: given.retryInterval ?? fields.retryInterval.default
})
