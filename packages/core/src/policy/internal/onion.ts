/** Runs middleware, one around the other. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import type { Call, Middleware } from "../Middleware.ts"
import { abort } from "./discard.ts"

class Timed implements Call {
  private readonly clock: Clock.Clock
  private readonly start: bigint

  constructor(clock: Clock.Clock) {
    this.clock = clock
    this.start = clock.monotonicTimeNanosUnsafe()
  }

  get elapsed(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() - this.start) / 1e6
  }
}

type Step<E, R> = (request: HttpClientRequest, call: Call) => Effect.Effect<HttpClientResponse, E, R>

const onion = <E, E1, R>({ error, request, response }: Middleware<E>, inside: Step<E1, R>): Step<E | E1, R> => {
  const sent: Step<E | E1, R> =
    response === undefined && error === undefined
      ? inside
      : (request, call) =>
          // Between the response and who looks after it nothing may come.
          Effect.uninterruptibleMask((restore) =>
            Effect.matchEffect(restore(inside(request, call)), {
              onSuccess: (answer) =>
                response === undefined
                  ? Effect.succeed(answer)
                  : Effect.onError(restore(Effect.suspend(() => response(answer, request, call))), () => abort(answer)),
              onFailure: (failure): Effect.Effect<HttpClientResponse, E | E1> =>
                error === undefined ? Effect.fail(failure) : restore(error(failure, request, call))
            })
          )
  return request === undefined
    ? sent
    : (original, call) => Effect.flatMap(request(original, call), (changed) => sent(changed, call))
}

/** What sends a request, with that middleware around it; without any it is `execute` itself. */
export const run = <E, E1, R>(
  list: ReadonlyArray<Middleware<E>>,
  execute: (request: HttpClientRequest) => Effect.Effect<HttpClientResponse, E1, R>
): ((request: HttpClientRequest) => Effect.Effect<HttpClientResponse, E | E1, R>) => {
  if (list.length === 0) return execute
  const all = list.reduceRight<Step<E | E1, R>>((inside, middleware) => onion(middleware, inside), execute)
  return (request) => Clock.clockWith((clock) => all(request, new Timed(clock)))
}
