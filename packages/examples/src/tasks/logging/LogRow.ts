/** One line of the log as a row of a table. */
import * as Formatter from "effect/Formatter"
import * as Logger from "effect/Logger"

/** As ClickHouse takes it, by the names of its columns. */
export interface LogRow {
  /** `2025-06-23 09:21:18.261`, in UTC. */
  readonly timestamp: string
  readonly level: string
  readonly message: string
  readonly service: string
  /** Which process of the service. */
  readonly instance: string
  readonly fiber: number
  readonly annotations: Record<string, string>
  /** Milliseconds. */
  readonly spans: Record<string, number>
  /** Empty: none. */
  readonly cause: string
}

const text = (value: unknown): string => (typeof value === "string" ? value : Formatter.formatJson(value))

/** A logger whose output are rows. */
export const logger = (origin: Pick<LogRow, "service" | "instance">): Logger.Logger<unknown, LogRow> =>
  Logger.map(Logger.formatStructured, ({ annotations, cause, fiberId, level, message, spans, timestamp }) => ({
    timestamp: timestamp.replace("T", " ").replace("Z", ""),
    level,
    message: (Array.isArray(message) ? message : [message]).map(text).join(" "),
    ...origin,
    fiber: Number(fiberId.replace("#", "")),
    annotations: Object.fromEntries(Object.entries(annotations).map(([name, value]) => [name, text(value)])),
    spans,
    cause: cause ?? ""
  }))
