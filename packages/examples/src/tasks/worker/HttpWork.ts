/**
 * Work that a service does: `POST` with `{ "id": … }`, through a client pool with all its policies.
 *
 * - `Idempotency-Key` is the id of the task: the pool may send again what failed, and a second run after the death of a
 *   worker is the same request.
 * - The result is the beginning of the answer's text. Any status but 2xx is a failure, and so is what the pool gives up on.
 * - While the circuit of the service is open nothing is sent: tasks wait for it, up to `patience`, instead of failing one
 *   after the other as fast as they are claimed.
 * - What a failure tells has no header, no body and no credential.
 */
import { type Connector, Pool, type PoolConfig, PoolError } from "@millrace/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { HttpClientRequest, type HttpClientResponse } from "effect/http"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { TaskId } from "../domain/Task.ts"
import { Work, WorkFailed } from "./Work.ts"

/** Those of the pool go over the defaults of this module, policy by policy. */
export interface Options extends Omit<PoolConfig.Options, "baseUrl" | "failOnStatus"> {
  /** Where to `POST`; without credentials, which are for `auth`. */
  readonly url: string | URL
  /** How much of the answer is kept, in bytes. Default: 4096. */
  readonly maxResult?: number | undefined
  /** How long a task waits for an open circuit before it fails; 0: not at all. Default: 5 minutes. */
  readonly patience?: Duration.Input | undefined
}

/**
 * For answers that take minutes. `size` and the bulkhead are those of 16 permits of the worker: raise all three together. A
 * task that waits for a place has no reason to fail, so the waits are long.
 */
const policies = {
  name: "tasks",
  size: 16,
  acquireTimeout: "30 minutes",
  responseHeaderTimeout: "10 minutes",
  attemptTimeout: "10 minutes",
  requestTimeout: "30 minutes",
  retry: true,
  rateLimit: { limit: 100, interval: "1 second" },
  circuitBreaker: true,
  bulkhead: { maxConcurrent: 16, maxWaiting: 10_000 }
} satisfies PoolConfig.Options

/** Makes the pool, which lasts as long as the scope. */
const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<Work["Service"], PoolConfig.ConfigError, Connector.Connector | Scope.Scope> {
  const { maxResult = 4096, patience = "5 minutes", url, ...given } = options
  const pool = yield* Pool.make({ ...policies, ...given, baseUrl: url, failOnStatus: false })
  const target = String(url)
  const { origin, pathname } = new URL(target)

  const request = (id: TaskId) =>
    HttpClientRequest.post(target, { headers: { "idempotency-key": id } }).pipe(
      HttpClientRequest.bodyJsonUnsafe({ id })
    )

  const run = Effect.fnUntraced(function* (id: TaskId) {
    const response = yield* Effect.retry(pool.client.execute(request(id)), whileOpen(patience))
    if (response.status >= 200 && response.status < 300) return yield* beginning(response, maxResult)
    // Read, so that its connection is free again.
    yield* Effect.ignore(beginning(response, maxResult))
    return yield* new WorkFailed({
      reason: `The service answered with status ${response.status}: POST ${origin}${pathname}`
    })
  })

  return Work.of({
    run: (id) =>
      Effect.catchIf(run(id), PoolError.isPoolError, ({ message }) => Effect.fail(new WorkFailed({ reason: message })))
  })
})

const isOpen = (error: PoolError.PoolError): error is PoolError.CircuitOpen => error._tag === "CircuitOpen"

/** As long as the circuit says, but at least 1 s, as there is one probe for many; one isolated by hand is asked twice a minute. */
const whileOpen = (patience: Duration.Input) =>
  Schedule.forever.pipe(
    Schedule.setInputType<PoolError.PoolError>(),
    Schedule.while(({ elapsed, input }) => isOpen(input) && elapsed < Duration.toMillis(patience)),
    Schedule.modifyDelay(({ input }) => {
      const wait = isOpen(input) ? input.retryAfter : Duration.zero
      return Effect.succeed(Duration.clamp(wait, { minimum: Duration.seconds(1), maximum: Duration.seconds(30) }))
    })
  )

/** No more is read than is kept; what is cut in the middle of a character ends before it. */
const beginning = (
  response: HttpClientResponse.HttpClientResponse,
  limit: number
): Effect.Effect<string, PoolError.PoolError | WorkFailed> =>
  Effect.suspend(() => {
    const bytes = new Uint8Array(limit)
    let size = 0
    const read = Stream.takeUntil(response.stream, (chunk) => {
      bytes.set(chunk.subarray(0, limit - Math.min(size, limit)), Math.min(size, limit))
      return (size += chunk.length) > limit
    })
    return Stream.runDrain(read).pipe(
      Effect.mapError((error) =>
        Option.getOrElse(
          PoolError.fromHttpClientError(error),
          () => new WorkFailed({ reason: `The answer cannot be read: ${error.message}` })
        )
      ),
      Effect.map(() => new TextDecoder().decode(bytes.subarray(0, Math.min(size, limit)), { stream: size > limit }))
    )
  })

export const layer = (options: Options): Layer.Layer<Work, PoolConfig.ConfigError, Connector.Connector> =>
  Layer.effect(Work, make(options))
