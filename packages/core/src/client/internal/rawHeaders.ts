/** What the pool itself reads in the headers of a response. */
import type { RawHeaders } from "../Connector.ts"

/** `NaN` when it is not said. */
export const lengthOf = (headers: RawHeaders): number => {
  const length = headers["content-length"]
  return typeof length === "string" ? Number(length) : Number.NaN
}

/** Whether the end of the body can be told from the end of the connection. */
export const isDelimited = (headers: RawHeaders): boolean =>
  headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined

const eventStream = "text/event-stream"

export const isEventStream = (headers: RawHeaders): boolean => {
  const type = headers["content-type"]
  return typeof type === "string" && type.slice(0, eventStream.length).toLowerCase() === eventStream
}
