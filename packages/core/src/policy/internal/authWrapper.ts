/** Authentication around a client that is no pool: which requests get credentials, and what happens after a 401. */
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import type { AuthError } from "../../model/PoolError.ts"
import type { Auth } from "../Auth.ts"
import { around, type Policy, through } from "../Gate.ts"
import { authGate } from "./authGate.ts"
import { drain, responseOf } from "./discard.ts"
import { isReplayable } from "./replayable.ts"

export const wrapper = (auth: Auth, origins: ReadonlyArray<string>): Policy<AuthError>["wrap"] => {
  const gates = [authGate(auth)]
  const hide = hiding(auth.secretHeaders ?? [])
  const isFor = (url: string): boolean =>
    // What follows the slash is a path, whatever it is.
    origins.some((origin) => url.startsWith(`${origin}/`)) ||
    (URL.canParse(url) && origins.includes(new URL(url).origin))
  return (client) =>
    around(client, (request, send) => {
      if (!isFor(request.url)) return send(request)
      const attempt = (number: number, note: (sent: HttpClientRequest) => void) =>
        through(
          gates,
          request,
          (sent) => {
            note(sent)
            return send(sent)
          },
          number
        )
      return hide(authorized(auth, request, attempt))
    })
}

/** Sends it, and once more after a 401 where that makes sense. An `attempt` notes what it sends. */
const authorized = <E, R>(
  auth: Auth,
  request: HttpClientRequest,
  attempt: (number: number, note: (sent: HttpClientRequest) => void) => Effect.Effect<HttpClientResponse, E, R>
): Effect.Effect<HttpClientResponse, E, R> =>
  Effect.suspend(() => {
    let carried = request
    const note = (sent: HttpClientRequest): void => void (carried = sent)
    const again = (): boolean =>
      // What came through as it was has no credentials of ours. Those that were refused are dropped in any case.
      carried !== request && auth.rejected?.(carried) === true && isReplayable(request.body)
    const resend = (response: HttpClientResponse) => Effect.andThen(drain(response), attempt(2, note))
    return Effect.matchEffect(attempt(1, note), {
      onSuccess: (response) => (response.status === 401 && again() ? resend(response) : Effect.succeed(response)),
      onFailure: (error) => {
        const response = responseOf({ _tag: "Failure", error })
        return response?.status === 401 && again() ? resend(response) : Effect.fail(error)
      }
    })
  })

/** Effect hides the headers that everybody knows; a key may be in any. */
const hiding = (names: ReadonlyArray<string>) => {
  if (names.length === 0) return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => effect
  return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.updateService(effect, Headers.CurrentRedactedNames, (known) => [...known, ...names])
}
