/**
 * What a pool counts for one origin.
 *
 * @since 0.1.0
 */

import type { State } from "../policy/CircuitBreaker.ts"

/**
 * How long requests took to the head of their response: milliseconds, since the host was first used.
 * Percentiles are interpolated in the buckets of OpenTelemetry's `http.client.request.duration`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Latency {
  readonly count: number
  readonly mean: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
}

/**
 * Counters of one host since it was first used. Connections and requests, by number. A request here is one attempt: what
 * is retried is counted again.
 *
 * - `requests` were made; of them `saturated` found no place, `responses` got a status (`successes`: below 400), the rest
 *   are `active` or `waiting`, failed, or were interrupted.
 * - `failures` ended with an error: those without a place among them, bodies that broke, and what a policy refused before
 *   it was a request; `failuresBy` counts them by the error's tag.
 * - `retries`: attempts after the first of a call; `hedges`: attempts beside a slow one.
 * - `connectionsFailed`: could not be made. `connectionsClosedBy`: why they ended, as in `ConnectionClosed` events; `other` for what has no
 *   code.
 * - `connectionsActive` carry a request, or a response that is not read to its end; the other open ones are `connectionsIdle`.
 * - `reuse`: the share of requests that did not need a new connection.
 * - `staleRetries`: sent again as their kept-alive connection had died.
 * - `abandoned`: response bodies that the garbage collector had to abort.
 * - `latency`, `failuresBy`, `connectionsClosedBy` know nothing when the pool's `observe` has no metrics, and are kept for
 *   a hundred hosts at a time; the pool's own include all.
 * - `tokens` of the rate limit, and the state of the `circuit`: when the host has these policies.
 *
 * @category models
 * @since 0.1.0
 */
export interface HostStats {
  readonly origin: string
  readonly requests: number
  readonly responses: number
  readonly successes: number
  readonly failures: number
  readonly failuresBy: { readonly [tag: string]: number }
  readonly active: number
  readonly waiting: number
  readonly timeouts: number
  readonly saturated: number
  readonly retries: number
  readonly hedges: number
  readonly staleRetries: number
  readonly abandoned: number
  readonly ejections: number
  readonly ejected: number
  readonly connectionsFailed: number
  readonly connectionsOpened: number
  readonly connectionsClosed: number
  readonly connectionsClosedBy: { readonly [reason: string]: number }
  readonly connectionsOpen: number
  readonly connectionsActive: number
  readonly connectionsIdle: number
  readonly reuse: number
  readonly latency: Latency | undefined
  readonly tokens: number | undefined
  readonly circuit: State["_tag"] | undefined
}
