/** One health request: where it goes, and what its answer means. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import { hasProperty } from "effect/Predicate"
import * as Stream from "effect/Stream"
import type { PoolError } from "../../model/PoolError.ts"
import type { Timers } from "../../model/Timers.ts"
import type { Address } from "../Server.ts"
import type { Monitor } from "../ServerConfig.ts"
import type { Answer } from "./healthRule.ts"

export interface Asked {
  /** `undefined`: the client did not ask, so nothing is known of the server. */
  readonly answer: Answer | undefined
  /** Milliseconds until the whole answer; `undefined` where there was none. */
  readonly latency: number | undefined
  /** Why it is not good. */
  readonly error: unknown
}

/** A socket that accepts on all addresses is asked on the loopback of its family. */
const reachable = (host: string): string => {
  if (host === "0.0.0.0") return "127.0.0.1"
  if (host === "::" || host === "") return "[::1]"
  return host.includes(":") ? `[${host}]` : host
}

export const urlOf = ({ host, port }: Address, scheme: "http" | "https", path: string): string =>
  `${scheme}://${reachable(host)}:${port}${path}`

/** What the client did to itself says nothing about the server, unless an attempt was sent before. */
const refusals: ReadonlySet<string> = new Set(["PoolSaturated", "RateLimitExceeded", "CircuitOpen"])
const mistakes: ReadonlySet<string> = new Set(["PoolClosed", "AuthError", "InvalidRequest"])

const wasAsked = (error: unknown): boolean => {
  const sent = hasProperty(error, "attempts") && typeof error.attempts === "number" && error.attempts > 0
  const tag = tagOf(error)
  return !mistakes.has(tag) && (sent || !refusals.has(tag))
}

/** Of the last error, where there were several attempts. */
const tagOf = (error: unknown): string => {
  if (!hasProperty(error, "_tag") || typeof error._tag !== "string") return ""
  return error._tag === "RetryExhausted" && hasProperty(error, "last") ? tagOf(error.last) : error._tag
}

/** User info and queries, where secrets stand, of whatever looks like a URL or a path. */
const withoutSecrets = (text: string): string =>
  text.replaceAll(/\/\/[^\s/@]*@/g, "//").replaceAll(/(\/[^\s?#]*)\?[^\s()"']*/g, "$1")

/** What a person is told of an error: never more than its message. */
export const textOf = (error: unknown): string | undefined => {
  if (error === undefined) return undefined
  if (hasProperty(error, "message") && typeof error.message === "string" && error.message !== "") {
    return withoutSecrets(error.message)
  }
  return tagOf(error) || (error instanceof Error ? error.name : "an error without a message")
}

const withoutQuery = (path: string): string => path.replace(/\?.*$/, "")

/** Asks by GET and reads the whole answer, which is good from 200 to 399, as a probe of Kubernetes has it. */
export const ask = (
  client: HttpClient.HttpClient.With<PoolError>,
  url: string,
  { path, timeout }: Monitor,
  slow: number,
  timers: Timers
): Effect.Effect<Asked> =>
  Effect.suspend(() => {
    const began = timers.now()
    const whole = Effect.flatMap(client.execute(HttpClientRequest.get(url)), (response) =>
      Effect.as(Stream.runDrain(response.stream), response.status)
    )
    return Effect.flatMap(Effect.exit(Effect.timeoutOption(whole, timeout)), (exit): Effect.Effect<Asked> => {
      const latency = Math.round((timers.now() - began) * 1000) / 1000
      if (Exit.isFailure(exit)) {
        const error = Cause.squash(exit.cause)
        const unknown = Cause.hasInterruptsOnly(exit.cause) || !wasAsked(error)
        return Effect.succeed({ answer: unknown ? undefined : "bad", latency: undefined, error })
      }
      const what = `GET ${withoutQuery(path)}`
      if (Option.isNone(exit.value)) {
        const error = new Error(`${what} was not answered within ${timeout} ms`)
        return Effect.succeed({ answer: "bad", latency: undefined, error })
      }
      const status = exit.value.value
      if (status < 200 || status >= 400) {
        return Effect.succeed({ answer: "bad", latency, error: new Error(`${what} was answered with ${status}`) })
      }
      if (latency < slow) return Effect.succeed({ answer: "good", latency, error: undefined })
      const error = new Error(`${what} was answered after ${latency} ms, which is slow`)
      return Effect.succeed({ answer: "slow", latency, error })
    })
  })
