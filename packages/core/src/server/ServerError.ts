/**
 * What fails in a server pool.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import { hasProperty } from "effect/Predicate"

/**
 * What the pool was doing.
 *
 * - `ParamEmpty`: a parameter is empty or not valid, a regular expression say.
 * - `Add`: servers could not be added, their address is taken say.
 * - `Validate`: configurations are not valid.
 * - `Start`, `Stop`, `Restart`: some servers could not be; the others were.
 * - `Monitor`: servers could not be watched.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason = "ParamEmpty" | "Add" | "Validate" | "Start" | "Stop" | "Restart" | "Monitor"

/**
 * A server, and why it failed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failed {
  readonly name: string
  readonly bind: string
  readonly cause: unknown
}

const headlines: Record<Reason, string> = {
  ParamEmpty: "A parameter is empty or not valid",
  Add: "Cannot be added to the pool",
  Validate: "The configuration of the pool is not valid",
  Start: "Cannot be started",
  Stop: "Did not stop as they should",
  Restart: "Cannot be restarted",
  Monitor: "Cannot be monitored"
}

const advices: Record<Reason, string> = {
  ParamEmpty: "",
  Add: "The pool is as it was. Give another bind, or ask to replace the server that has it.",
  Validate: "The pool is as it was. Correct what is named and try again.",
  Start: "All other servers run. Remove the cause and start again: only these are tried.",
  Stop: "All other servers have stopped. Stop again to try only these.",
  Restart: "All other servers run. Remove the cause and start again: only these are tried.",
  Monitor: "All other servers are monitored."
}

const messageOf = (cause: unknown): string => {
  const error = Cause.isCause(cause) ? Cause.squash(cause) : cause
  const text = hasProperty(error, "message") && typeof error.message === "string" ? error.message : ""
  if (text !== "") return text
  if (hasProperty(error, "_tag") && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : typeof error === "string" ? error : "for a reason that has no message"
}

/**
 * Every server that failed at once, each with its cause. The others are as they were asked to be.
 *
 * The message names each server with its cause's message, and says what to do.
 *
 * @category errors
 * @since 0.1.0
 */
export class ServerPoolError extends Data.TaggedError("ServerPoolError")<{
  readonly reason: Reason
  /** Empty where no single server is meant. */
  readonly servers: ReadonlyArray<Failed>
  /** What is wrong, where no single server is meant. */
  readonly detail?: string | undefined
}> {
  override get message(): string {
    const detail = this.detail === undefined ? "" : `: ${this.detail}`
    const lines = this.servers.map(({ bind, cause, name }) => {
      const who = name === bind ? bind : `${name} (${bind})`
      return `\n- ${who}: ${messageOf(cause).replaceAll("\n", "\n  ")}`
    })
    const advice = advices[this.reason]
    const end = advice === "" ? "" : `${lines.length === 0 ? ". " : "\n"}${advice}`
    return `${headlines[this.reason]}${detail}${lines.length === 0 ? "" : ":"}${lines.join("")}${end}`
  }
}
