/**
 * Time as everything here sees it: the real clock, or Effect's test clock.
 *
 * @since 0.1.0
 */

/**
 * A clock that never goes back, and calls when told to. Milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Timers {
  /** Milliseconds from an arbitrary origin; never goes back. */
  readonly now: () => number
  /** Calls `f` once after `millis`; the result cancels. For deadlines: a process does not stay for it. */
  readonly after: (millis: number, f: () => void) => () => void
  /** The same for what somebody waits for: a process stays for it. */
  readonly wait: (millis: number, f: () => void) => () => void
}
