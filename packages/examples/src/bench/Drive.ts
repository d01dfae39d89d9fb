/**
 * The load: so many callers, each of which sends its next request when it has read the answer to the last one; or so many
 * requests a second, whatever becomes of them.
 */
import * as Effect from "effect/Effect"
import { setTimeout as delay } from "node:timers/promises"
import type { Send, Work } from "./Work.ts"

/** What the callers of one measurement share. */
export interface Load {
  readonly more: () => boolean
  /** The time at which a request starts; 0 where nobody looks at latencies. */
  readonly start: () => number
  readonly end: (started: number) => void
}

const checked = (work: Work, length: number): void => {
  if (length !== work.length) {
    throw new Error(`${work.method} ${work.path}: ${length} bytes instead of ${work.length}`)
  }
}

const byPromise = async (send: () => Promise<number>, work: Work, load: Load): Promise<void> => {
  while (load.more()) {
    const started = load.start()
    checked(work, await send())
    load.end(started)
  }
}

const byCallback = (
  send: (done: (error: Error | undefined, length: number) => void) => void,
  work: Work,
  load: Load
): Promise<void> =>
  new Promise((resolve, reject) => {
    let started = 0
    const next = () => {
      if (!load.more()) return resolve()
      started = load.start()
      send(done)
    }
    const done = (error: Error | undefined, length: number) => {
      if (error !== undefined) return reject(error)
      try {
        checked(work, length)
      } catch (wrong) {
        return reject(wrong as Error)
      }
      load.end(started)
      next()
    }
    next()
  })

const byEffect = (send: Effect.Effect<number, unknown>, work: Work, load: Load): Promise<void> => {
  let started = 0
  return Effect.runPromise(
    Effect.whileLoop({
      while: load.more,
      body: () => {
        started = load.start()
        return send
      },
      step: (length) => {
        checked(work, length)
        load.end(started)
      }
    })
  )
}

const caller = (send: Send, work: Work, load: Load): Promise<void> => {
  switch (send._tag) {
    case "Promise":
      return byPromise(send.send, work, load)
    case "Callback":
      return byCallback(send.send, work, load)
    case "Effect":
      return byEffect(send.send, work, load)
  }
}

export const drive = async (send: Send, work: Work, callers: number, load: Load): Promise<void> => {
  await Promise.all(Array.from({ length: callers }, () => caller(send, work, load)))
}

const once = (send: Send): Promise<number> => {
  switch (send._tag) {
    case "Promise":
      return send.send()
    case "Callback":
      return new Promise((resolve, reject) => {
        send.send((error, length) => (error === undefined ? resolve(length) : reject(error)))
      })
    case "Effect":
      return Effect.runPromise(send.send)
  }
}

/** `perSecond` requests a second, evenly: what is slow does not slow down the load. */
export const pace = async (send: Send, work: Work, perSecond: number, load: Load): Promise<void> => {
  const begin = performance.now()
  const underWay = new Set<Promise<void>>()
  let failure: unknown
  const one = async (started: number) => {
    try {
      checked(work, await once(send))
      load.end(started)
    } catch (error) {
      failure ??= error
    }
  }
  for (let sent = 0; load.more() && failure === undefined;) {
    for (const due = ((performance.now() - begin) / 1000) * perSecond; sent < due; sent++) {
      const request = one(load.start())
      underWay.add(request)
      void request.then(() => underWay.delete(request))
    }
    await delay(1)
  }
  await Promise.all(underWay)
  if (failure !== undefined) throw failure
}
