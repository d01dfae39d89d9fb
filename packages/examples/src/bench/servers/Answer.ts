/** What the measured servers answer: the least that a handler can do, so that all that is measured is theirs. */
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { smallAnswer } from "../Work.ts"

export const contentType = "application/json"

export const handler = Effect.sync(() => HttpServerResponse.text(smallAnswer, { contentType }))
