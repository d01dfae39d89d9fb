/** The body of a response as it came, for who passes it on: one that is here already needs no stream. */
import type { HttpClientResponse } from "effect/http/HttpClientResponse"

/** What a response of the pool has beside its readers. */
export const Whole: unique symbol = Symbol("@millrace/core/WholeBody")

interface MayBeWhole {
  readonly [Whole]: Uint8Array | undefined
}

const mayBeWhole = (response: object): response is MayBeWhole => Whole in response

/** `undefined` while some of it is to come, or where it has to be decoded. It can still be read otherwise. */
export const wholeBodyOf = (response: HttpClientResponse): Uint8Array | undefined =>
  mayBeWhole(response) ? response[Whole] : undefined
