/**
 * The callers of the soak: 512 of them, say, each with one request at a time, of all kinds: read whole, read in part,
 * not read, given up, interrupted; small and streamed uploads.
 *
 * Every request ends in exactly one of the outcomes that are counted. `unexpected` is what must not happen: a failure
 * that is no `PoolError`, a defect, an answer that belongs to another request.
 */
import { type Pool, PoolError } from "@millrace/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClientError from "effect/http/HttpClientError"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { bodyOf, largeBodyOf } from "./Answers.ts"
import { between, type Random, weighted } from "./Random.ts"

export interface Tally {
  started: number
  ended: number
  /** By outcome: `200`, `ConnectError`, `body: DecodeError`, `given up`… */
  readonly outcomes: { [outcome: string]: number }
  readonly unexpected: Array<string>
}

export const tally = (): Tally => ({ started: 0, ended: 0, outcomes: {}, unexpected: [] })

const weights = { get: 60, head: 3, post: 8, upload: 8, unread: 6, partly: 5, stream: 5 }

/** A right answer, or the beginning of one where the server lied about its length. */
const belongs = (path: string, text: string): boolean => bodyOf(path).startsWith(text) || text === largeBodyOf(path)

const read = (path: string) => (response: HttpClientResponse) =>
  Effect.flatMap(response.text, (text) =>
    belongs(path, text)
      ? Effect.succeed(String(response.status))
      : Effect.die(`${path} was answered by ${JSON.stringify(text.slice(0, 80))}`)
  )

const chunk = new Uint8Array(8 * 1024)

const upload = (chunks: number): HttpBody.HttpBody =>
  HttpBody.stream(Stream.range(1, chunks).pipe(Stream.mapEffect(() => Effect.as(Effect.sleep(1), chunk))))

const one = (pool: Pool.Pool, random: Random, path: string) => {
  const { client } = pool
  switch (weighted(random, weights)) {
    case "get":
      return Effect.flatMap(client.get(path), read(path))
    case "head":
      return Effect.map(client.head(path), (response) => String(response.status))
    case "post":
      return Effect.flatMap(client.post(path, { body: HttpBody.text("x".repeat(1024)) }), read(path))
    case "upload":
      return Effect.flatMap(client.post(path, { body: upload(between(random, 0, 20)) }), read(path))
    case "unread":
      return Effect.as(client.get(path), "unread")
    case "partly":
      return Effect.flatMap(client.get(path), (response) =>
        Effect.as(Stream.runDrain(Stream.take(response.stream, 1)), "read in part")
      )
    case "stream":
      return Effect.flatMap(client.get(path), (response) => Effect.as(Stream.runDrain(response.stream), "streamed"))
  }
}

const failure = (error: unknown): string | undefined => {
  if (PoolError.isPoolError(error)) return error._tag
  if (!HttpClientError.isHttpClientError(error)) return undefined
  return Option.match(PoolError.fromHttpClientError(error), {
    onNone: () => undefined,
    onSome: (cause) => `body: ${cause._tag}`
  })
}

const count = (to: Tally, outcome: string): void => {
  to.outcomes[outcome] = (to.outcomes[outcome] ?? 0) + 1
}

const record = (to: Tally, exit: Exit.Exit<Option.Option<string>, unknown>): void => {
  to.ended++
  if (Exit.isSuccess(exit))
    return count(
      to,
      Option.getOrElse(exit.value, () => "given up")
    )
  const error = Cause.findErrorOption(exit.cause)
  const outcome = Option.isSome(error) ? failure(error.value) : undefined
  if (outcome !== undefined) return count(to, outcome)
  count(to, "unexpected")
  if (to.unexpected.length < 20) to.unexpected.push(Cause.pretty(exit.cause))
}

/** Calls until `running` says no. */
export const callers = (
  pool: Pool.Pool,
  options: {
    readonly callers: number
    readonly random: Random
    readonly tally: Tally
    readonly running: () => boolean
  }
): Effect.Effect<void> => {
  const { random, tally: to, running } = options
  const call = Effect.suspend(() => {
    const request = one(pool, random, `/r/${to.started++}`)
    // Some lose patience: at once, in the waiting line, before the answer, or in the middle of it.
    const patience = random() < 0.15 ? between(random, 0, 150) : 60_000
    return Effect.exit(Effect.timeoutOption(request, patience))
  })
  const caller = Effect.whileLoop({ while: running, body: () => call, step: (exit) => record(to, exit) })
  return Effect.forEach(Array.from({ length: options.callers }), () => caller, {
    concurrency: "unbounded",
    discard: true
  })
}
