/** How credentials get into a request. */
import * as Headers from "effect/http/Headers"
import { type HttpClientRequest, makeWith } from "effect/http/HttpClientRequest"

/**
 * Sets one header, always the same. Most requests have no header of their own: they share one that was made before, for a
 * copy costs several times as much as all the rest.
 */
export const headerSetter = (name: string, value: string): ((request: HttpClientRequest) => HttpClientRequest) => {
  const alone = Object.freeze(Headers.fromRecordUnsafe({ [name]: value }))
  return ({ body, hash, headers, method, url, urlParams }) =>
    makeWith(method, url, urlParams, hash, headers === Headers.empty ? alone : Headers.set(headers, name, value), body)
}

export const authorizationOf = (request: HttpClientRequest): string | undefined => request.headers["authorization"]

/** The latest credentials that were given out: a 401 to any other says nothing about them. */
export class Issued {
  // Not shown when it is inspected, as a `private` field is.
  readonly #values: Array<string> = []

  add(value: string): void {
    if (this.#values.at(-1) === value) return
    this.#values.push(value)
    if (this.#values.length > 64) this.#values.shift()
  }

  has(request: HttpClientRequest): boolean {
    const value = authorizationOf(request)
    return value !== undefined && this.#values.includes(value)
  }
}
