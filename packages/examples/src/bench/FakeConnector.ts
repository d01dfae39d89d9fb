/** A connector without sockets: it answers at once, or never. One transport for all, so that only the pool is measured. */
import type { Connector } from "@millrace/core"
import * as Effect from "effect/Effect"
import { smallAnswer } from "./Work.ts"

const body = Buffer.from(smallAnswer)

export const make = (answers: boolean): Connector.Connector => {
  const control = { abort: () => {}, pause: () => {}, resume: () => {} }
  const transport: Connector.Transport = {
    send: (exchange) => {
      exchange.onRequestStart(control)
      exchange.onRequestSent()
      if (!answers) return
      queueMicrotask(() => {
        exchange.onResponseStarted()
        exchange.onResponseStart(control, 200, { "content-length": String(smallAnswer.length) })
        exchange.onResponseData(control, body)
        exchange.onResponseEnd(control)
      })
    },
    cancel: () => {},
    retire: () => {},
    close: Effect.void,
    classify: (cause) => ({ _tag: "Broken", cause })
  }
  return { open: () => transport }
}
