/**
 * Wakes, in one microtask, every fiber whose response or chunk arrived in this turn.
 *
 * Never from inside a parser's callback: the woken fiber would run there, and what it does next (another request on the
 * same connection) meets a parser that is not ready for it. Never later than the turn: a fiber that waits for the end of
 * a body that waits for the fiber to read would wait for ever.
 */
export interface Sleeper {
  readonly wake: () => void
}

/** Node's `queueMicrotask` makes an `AsyncResource` for each call; a resolved promise's reaction costs a fifth of it. */
const turn = Promise.resolve()

let queue: Array<Sleeper> = []
let spare: Array<Sleeper> = []

const flush = (): void => {
  const sleepers = queue
  queue = spare
  spare = sleepers
  for (let i = 0; i < sleepers.length; i++) {
    try {
      sleepers[i]!.wake()
    } catch (defect) {
      // One sleeper's defect must not leave the others asleep, nor be lost.
      queueMicrotask(() => {
        throw defect
      })
    }
  }
  sleepers.length = 0
}

export const add = (sleeper: Sleeper): void => {
  // flush catches what it calls: the promise cannot be rejected.
  if (queue.push(sleeper) === 1) void turn.then(flush)
}
