/** Headers of a response as they came, for who looks for a few of them in every response: to parse all is not free. */
import type { HttpClientResponse } from "effect/http/HttpClientResponse"

/** Lower-case names; repeated ones as arrays. */
export interface RawHeaders {
  readonly [name: string]: string | Array<string> | undefined
}

/** What a response of the pool has beside its parsed headers. */
export const Raw: unique symbol = Symbol("@millrace/core/RawHeaders")

interface HasRaw {
  readonly [Raw]: RawHeaders
}

const hasRaw = (response: object): response is HasRaw => Raw in response

export const rawHeadersOf = (response: HttpClientResponse): RawHeaders =>
  hasRaw(response) ? response[Raw] : response.headers
