/**
 * One access token from a token endpoint, by client credentials (RFC 6749, 4.4). What the endpoint answers is untrusted
 * text; no failure holds a secret.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as HttpClientError from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import { hasProperty, isObject } from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { showUrl } from "../../model/internal/httpField.ts"
import { find, type PoolError } from "../../model/PoolError.ts"
import { isToken, type OAuth2 } from "./authOptions.ts"
import { responseOf } from "./discard.ts"
import { parseRetryAfter } from "./retryAfter.ts"

export interface Token {
  readonly value: string
  /** How long it is good from the moment it was asked for, in milliseconds; `Infinity` when the endpoint did not say. */
  readonly lifetime: number
  /** When it was asked for, in milliseconds. */
  readonly askedAt: number
}

export interface TokenFailure {
  /** Names the endpoint. */
  readonly reason: string
  readonly cause?: unknown
  /** The same request may do better a little later. */
  readonly transient: boolean
  /** Milliseconds for which the endpoint wants to be left alone. */
  readonly retryAfter?: number | undefined
}

/** Sends a request. What it needs, and how it fails, is its own affair. */
export type Send = (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<HttpClientResponse, unknown>

/** More than any token needs, in bytes. */
const maxAnswer = 256 * 1024

/** What is shown of the endpoint's own words, in characters. */
const maxWords = 200

const firstRetry = "500 millis"

/** RFC 6749, 2.3.1: both are encoded as in a form before they are joined, so that either may hold a colon. */
const formEncode = (text: string): string => String(new URLSearchParams([["", text]])).slice(1)

const basicOf = ({ clientId, clientSecret }: OAuth2): string =>
  Base64.encode(`${formEncode(clientId)}:${formEncode(Redacted.value(clientSecret))}`)

const requestOf = (options: OAuth2): HttpClientRequest.HttpClientRequest => {
  const form: Array<[string, string]> = [["grant_type", "client_credentials"]]
  if (options.scope !== undefined) form.push(["scope", options.scope])
  if (options.audience !== undefined) form.push(["audience", options.audience])
  const basic = options.method === "client_secret_basic"
  if (!basic) {
    form.push(["client_id", options.clientId], ["client_secret", Redacted.value(options.clientSecret)])
  }
  return HttpClientRequest.post(options.tokenUrl.href, {
    headers: { accept: "application/json", ...(basic ? { authorization: `Basic ${basicOf(options)}` } : {}) }
  }).pipe(HttpClientRequest.bodyUrlParams(form))
}

/** Asks for a token, again after failures that may pass. `now` is a clock in milliseconds. */
export const requestToken = (options: OAuth2, send: Send, now: () => number): Effect.Effect<Token, TokenFailure> => {
  const request = requestOf(options)
  const endpoint = showUrl(options.tokenUrl.href)
  const words = wordsOf(options)
  const fail = (what: string, rest: Omit<TokenFailure, "reason">) =>
    Effect.fail<TokenFailure>({ reason: `the token endpoint ${endpoint} ${what}`, ...rest })

  const read = (response: HttpClientResponse): Effect.Effect<string, TokenFailure> =>
    Effect.matchEffect(textOf(response), {
      onFailure: (cause) =>
        fail(`broke off its answer (${words(rootOf(cause))})`, { transient: true, cause: bare(cause) }),
      onSuccess: (text) =>
        text === undefined ? fail(`answered more than ${maxAnswer} bytes`, { transient: false }) : Effect.succeed(text)
    })

  const answered = (response: HttpClientResponse, askedAt: number): Effect.Effect<Token, TokenFailure> =>
    Effect.flatMap(Effect.zip(read(response), Clock.currentTimeMillis), ([text, date]) => {
      const { status } = response
      const answer = jsonOf(text)
      if (status < 200 || status > 299) {
        const said = [answer?.["error"], answer?.["error_description"]].filter((part) => typeof part === "string")
        return fail(`answered ${status}${said.length === 0 ? "" : ` ${words(said.join(": "))}`}`, {
          transient: status >= 500 || status === 408 || status === 429,
          retryAfter: parseRetryAfter(response.headers["retry-after"], date)
        })
      }
      if (answer === undefined) return fail(`answered ${status} with what is no JSON object`, { transient: false })
      const token = tokenOf(answer, askedAt)
      return typeof token === "string"
        ? fail(`answered ${status}, but ${token}`, { transient: false })
        : Effect.succeed(token)
    })

  const once = Effect.suspend(() => {
    const askedAt = now()
    return Effect.matchEffect(send(request), {
      onSuccess: (response) => answered(response, askedAt),
      onFailure: (error) => {
        const response = responseIn(error)
        if (response !== undefined) return answered(response, askedAt)
        return fail(`cannot be reached (${words(rootOf(error))})`, { transient: true, cause: bare(error) })
      }
    })
  }).pipe(
    Effect.timeoutOrElse({
      duration: Duration.millis(options.timeout),
      orElse: () => fail(`did not answer within ${options.timeout} ms`, { transient: true })
    })
  )

  return Effect.retry(once, {
    times: options.maxRetries,
    schedule: Schedule.jittered(Schedule.exponential(firstRetry)),
    // An endpoint that says when is left alone until then.
    while: ({ retryAfter = 0, transient }) => transient && retryAfter === 0
  })
}

// -----------------------------------------------------------------------------
// What the endpoint answers
// -----------------------------------------------------------------------------

/** `undefined` when it is too long. */
const textOf = (response: HttpClientResponse): Effect.Effect<string | undefined, unknown> =>
  Effect.suspend(() => {
    let size = 0
    const decoder = new TextDecoder()
    const some = Stream.takeUntil(response.stream, (chunk) => (size += chunk.byteLength) > maxAnswer)
    return Effect.map(
      Stream.runFold(
        some,
        () => "",
        (text, chunk) => text + decoder.decode(chunk, { stream: true })
      ),
      (text) => (size > maxAnswer ? undefined : text + decoder.decode())
    )
  })

const jsonOf = (text: string): Readonly<Record<string, unknown>> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) && !Array.isArray(value) ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** RFC 6749, 5.1; or what is wrong with it. */
const tokenOf = (answer: Readonly<Record<string, unknown>>, askedAt: number): Token | string => {
  const { access_token: value, expires_in: seconds, token_type: type } = answer
  if (typeof value !== "string" || !isToken(value)) return "`access_token` is missing, or is no token"
  // Some servers leave the type out; one that names another means it.
  if (type !== undefined && (typeof type !== "string" || type.toLowerCase() !== "bearer")) {
    return '`token_type` is not "bearer"'
  }
  if (seconds === undefined || seconds === null) return { value, lifetime: Infinity, askedAt }
  const number = typeof seconds === "string" && /^\d+(\.\d+)?$/.test(seconds) ? Number(seconds) : seconds
  return typeof number === "number" && number > 0
    ? { value, lifetime: number * 1_000, askedAt }
    : "`expires_in` is not a positive number of seconds"
}

/** The endpoint's own words, as an error may show them: on one line, not too long, without the secret. */
const wordsOf = (options: OAuth2): ((text: string) => string) => {
  const secret = Redacted.value(options.clientSecret)
  const secrets = [basicOf(options), formEncode(secret), secret]
  return (text) => {
    const line = text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "")
    const clean = secrets.reduce((words, hidden) => words.replaceAll(hidden, "<redacted>"), line)
    return clean.length > maxWords ? `${clean.slice(0, maxWords)}…` : clean
  }
}

// -----------------------------------------------------------------------------
// How a client fails
// -----------------------------------------------------------------------------

/** The last failure, where retries have an error of their own. */
const lastOf = (error: unknown): PoolError | undefined => {
  const known = find(error)
  return known?._tag === "RetryExhausted" ? lastOf(known.last) : known
}

/** A client may take a status for a failure. */
const responseIn = (error: unknown): HttpClientResponse | undefined =>
  responseOf({ _tag: "Failure", error: lastOf(error) ?? error })

/** Without the request, which holds the secret. */
const bare = (error: unknown): unknown =>
  lastOf(error) ?? (HttpClientError.isHttpClientError(error) ? error.reason.cause : error)

/** The code of what is at the bottom of an error, its name otherwise: its message could say anything. */
const rootOf = (error: unknown): string => {
  let root = bare(error)
  for (let depth = 0; depth < 8; depth++) {
    if (hasProperty(root, "code") && typeof root.code === "string") return root.code
    if (!hasProperty(root, "cause") || root.cause === undefined) break
    root = root.cause
  }
  if (hasProperty(root, "_tag") && typeof root._tag === "string") return root._tag
  return root instanceof Error ? root.name : "for no known reason"
}
