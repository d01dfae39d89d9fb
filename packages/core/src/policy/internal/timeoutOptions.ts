/** The options of timeouts, each once: kind, default, meaning. */
import * as Field from "../../model/internal/field.ts"

const none = { default: "Infinity" } as const

export const fields = {
  requestTimeout: Field.duration("A whole request, with all its attempts; put it around a retry.", none),
  attemptTimeout: Field.duration("One attempt; put it inside a retry.", none)
}

/** In milliseconds; `Infinity`: no limit. */
export interface Resolved {
  readonly requestTimeout: number
  readonly attemptTimeout: number
}

export const resolve = (given: { readonly [K in keyof Resolved]?: Resolved[K] | undefined }): Resolved => ({
  requestTimeout: given.requestTimeout ?? fields.requestTimeout.default,
  attemptTimeout: given.attemptTimeout ?? fields.attemptTimeout.default
})
