/**
 * What a pool counts for one origin.
 *
 * @since 0.1.0
 */

/**
 * Counters of one host since it was first used. Connections and requests, by number.
 *
 * - `requests` were made; of them `saturated` found no place, `responses` got a status, `failures` ended with an error
 *   (those without a place among them, and bodies that broke), the rest are `active` or `waiting`, or were interrupted.
 * - `connectionsFailed`: could not be made.
 * - `staleRetries`: sent again as their kept-alive connection had died.
 * - `abandoned`: response bodies that the garbage collector had to abort.
 *
 * @category models
 * @since 0.1.0
 */
export interface HostStats {
  readonly origin: string
  readonly requests: number
  readonly responses: number
  readonly failures: number
  readonly active: number
  readonly waiting: number
  readonly timeouts: number
  readonly saturated: number
  readonly staleRetries: number
  readonly abandoned: number
  readonly ejections: number
  readonly ejected: number
  readonly connectionsFailed: number
  readonly connectionsOpened: number
  readonly connectionsClosed: number
  readonly connectionsOpen: number
}
