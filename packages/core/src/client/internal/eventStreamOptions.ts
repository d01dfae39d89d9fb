/** The options of an event stream: what each allows and its default. */
import * as Field from "../../model/internal/field.ts"
import type { Event } from "../EventStream.ts"

type Until = (event: Event) => boolean

const isUntil = (value: unknown): value is Until => typeof value === "function"

const reconnect = Field.boolean("Whether a stream that ended or broke is taken up by a new connection.", true)
const reconnectDelay = Field.duration("The wait before a new connection until the server's `retry` says another.", {
  default: "3 seconds",
  min: 0,
  finite: true
})
const maxReconnectDelay = Field.duration("The longest wait.", { default: "1 minute", min: 0, finite: true })
const maxReconnects = Field.integer("How many new connections are tried after the last event.", {
  min: 0,
  max: Infinity,
  default: 10
})
const reconnectOnServerError = Field.boolean("Whether 500, 502, 503 and 504 are waited out.", true)
const maxEventSize = Field.integer("The most that one event may be, in UTF-16 code units.", {
  min: 1,
  max: 512 * 1024 * 1024 - 1,
  default: 1024 * 1024,
  unit: "characters"
})
const isText = (value: unknown): value is string => typeof value === "string"

export const fields = {
  reconnect,
  reconnectDelay,
  maxReconnectDelay,
  maxReconnects,
  reconnectOnServerError,
  maxEventSize,
  lastEventId: Field.code("What `Last-Event-ID` says on the first connection.", "text", isText),
  until: Field.code("Whether an event is the last.", "a function", isUntil)
}

export interface Given {
  reconnect: boolean
  reconnectDelay: number
  maxReconnectDelay: number
  maxReconnects: number
  reconnectOnServerError: boolean
  maxEventSize: number
  lastEventId: string
  until: Until
}

export interface Resolved extends Readonly<Omit<Given, "until">> {
  readonly until: Until | undefined
}

/** Both methods are safe, so asking again changes nothing at the server. */
const safe: ReadonlySet<string> = new Set(["GET", "QUERY"])

export const resolve = (method: string, given: Partial<Given>): Resolved => ({
  reconnect: given.reconnect ?? safe.has(method),
  reconnectDelay: given.reconnectDelay ?? reconnectDelay.default,
  maxReconnectDelay: given.maxReconnectDelay ?? maxReconnectDelay.default,
  maxReconnects: given.maxReconnects ?? maxReconnects.default,
  reconnectOnServerError: given.reconnectOnServerError ?? reconnectOnServerError.default,
  maxEventSize: given.maxEventSize ?? maxEventSize.default,
  lastEventId: given.lastEventId ?? "",
  until: given.until
})

/** A line break in an id would begin another header. */
export const rules = (given: Partial<Given>): ReadonlyArray<Field.Problem> =>
  /[\0\r\n]/.test(given.lastEventId ?? "")
    ? [{ path: "lastEventId", message: "must not contain line breaks or NUL" }]
    : []
