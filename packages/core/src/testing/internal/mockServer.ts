/**
 * The server in a mock pool: its routes, what reached it, and what of that was not expected.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Connector } from "../../client/Connector.ts"
import { TransportError } from "../../client/Connector.ts"
import { type Answering, FunctionTransport, type Reply as WireReply } from "../../client/internal/functionTransport.ts"
import { InvalidRequest, isPoolError, type PoolError } from "../../model/PoolError.ts"
import type { Reply, Route } from "../MockPool.ts"
import { explain } from "./facets.ts"
import { MockMismatch } from "./mockMismatch.ts"
import { compile, paramsOf } from "./pattern.ts"
import { candidate, differencesBetween, nameOf, type Served, unusedOf } from "./served.ts"
import { receive, type SentRequest } from "./sentRequest.ts"

export class MockServer {
  readonly requests: Array<SentRequest> = []
  private readonly routes: ReadonlyArray<Served>
  private unexpected: Array<string> = []
  private broken: Array<string> = []
  private verified = false

  constructor(routes: ReadonlyArray<Route>, base: URL | undefined) {
    this.routes = routes.map((route) => ({ route, pattern: compile(route.match.path, base), answered: 0 }))
  }

  readonly connector: Connector = { open: (target) => new FunctionTransport(target, this.answer) }

  readonly sent: Effect.Effect<ReadonlyArray<SentRequest>> = Effect.sync(() => [...this.requests])

  readonly verify: Effect.Effect<void, MockMismatch> = Effect.suspend(() => {
    const unused = this.routes.flatMap(unusedOf)
    const { broken, unexpected } = this
    this.verified = true
    // Told once is enough.
    this.unexpected = []
    this.broken = []
    return unexpected.length + unused.length + broken.length === 0
      ? Effect.void
      : Effect.fail(new MockMismatch({ unexpected, unused, broken }))
  })

  /** What nobody was told fails the test, unless it has failed already: then a defect would hide its failure. */
  readonly watch: Effect.Effect<void, never, Scope.Scope> = Effect.addFinalizer((exit) => {
    if (this.verified && this.unexpected.length + this.broken.length === 0) return Effect.void
    return Effect.catch(this.verify, (mismatch) =>
      Exit.isSuccess(exit) ? Effect.die(mismatch) : Effect.logError(mismatch.message)
    )
  })

  private readonly answer: Answering = (exchange, target) =>
    Effect.flatMap(receive(exchange, target), (request) => {
      this.requests.push(request)
      const served = this.routes.find(
        (one) => one.answered < one.route.max && differencesBetween(one, request).length === 0
      )
      return served === undefined ? Effect.fail(this.refuse(request)) : this.play(served, request)
    })

  private play(served: Served, request: SentRequest): Effect.Effect<WireReply, TransportError> {
    const { pattern, route } = served
    const step = route.steps[Math.min(served.answered, route.steps.length - 1)] ?? Effect.never
    served.answered++
    request.params = paramsOf(pattern, request.path)
    return Effect.suspend(() => (typeof step === "function" ? step(request) : step)).pipe(
      // A test's own mistake, an assertion in a route say, must not pass for a failure of the network.
      Effect.tapDefect((defect) =>
        Effect.sync(() => {
          this.broken.push(`${nameOf(served)}: ${messageOf(defect)}`)
        })
      ),
      Effect.mapBoth({ onSuccess: (reply) => wire(reply, request.method), onFailure: failure })
    )
  }

  private refuse(request: SentRequest): TransportError {
    const { method, url } = request.info
    const lines = explain(
      "route",
      this.routes.map((served) => candidate(served, request))
    )
    const which = `${method} ${url} (request ${this.requests.length}, at ${request.at} ms)`
    this.unexpected.push([which, ...lines].join("\n  "))
    return given((at) => new InvalidRequest({ ...at, reason: `the mock has no answer to it\n  ${lines.join("\n  ")}` }))
  }
}

const messageOf = (defect: unknown): string => (defect instanceof Error ? defect.message : String(defect))

/** Fails the attempt with that very error. */
export const given = (error: (at: Pick<PoolError, "request" | "attempts">) => PoolError): TransportError =>
  new TransportError({ failure: { _tag: "Given", error } })

const failure = (error: unknown): TransportError => {
  if (error instanceof TransportError) return error
  return isPoolError(error) ? given(() => error) : new TransportError({ failure: { _tag: "Broken", cause: error } })
}

/** As HTTP has it, some responses have no body whatever a route says (RFC 9110 §6.4.1). */
const wire = ({ body, headers, status }: Reply, method: string): WireReply => ({
  status,
  headers,
  body:
    method === "HEAD" || status === 204 || status === 304
      ? Stream.empty
      : Stream.catchCause(body, (cause) => Stream.fail(failure(Cause.squash(cause))))
})
