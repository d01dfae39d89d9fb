/** Authentication as a gate: every attempt gets credentials before it asks for anything else. */
import * as Effect from "effect/Effect"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import { AuthError } from "../../model/PoolError.ts"
import type { Auth } from "../Auth.ts"
import type { Attempt, Gate } from "../Gate.ts"

class AuthGate implements Gate<AuthError> {
  private readonly auth: Auth
  /** Those that have waited, have their credentials, and have not come back yet. */
  private readonly ready = new Set<Attempt>()

  constructor(auth: Auth) {
    this.auth = auth
  }

  admit(attempt: Attempt): Effect.Effect<void, AuthError> | undefined {
    if (this.ready.size > 0 && this.ready.delete(attempt)) return undefined
    const answer = this.auth.authorize(attempt.request)
    if (Effect.isEffect(answer)) return this.wait(attempt, answer)
    attempt.request = answer
    return undefined
  }

  settle(): void {}

  abandon(attempt: Attempt): void {
    this.ready.delete(attempt)
  }

  private wait(attempt: Attempt, answer: Effect.Effect<HttpClientRequest, AuthError>): Effect.Effect<void, AuthError> {
    return Effect.matchEffect(answer, {
      onSuccess: (request) =>
        Effect.sync(() => {
          attempt.request = request
          this.ready.add(attempt)
        }),
      // Who makes credentials does not know which attempt they are for.
      onFailure: ({ cause, reason, request }) =>
        Effect.fail(new AuthError({ request, attempts: attempt.number - 1, reason, cause }))
    })
  }
}

export const authGate = (auth: Auth): Gate<AuthError> => new AuthGate(auth)
