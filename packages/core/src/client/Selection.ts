/**
 * Which slot gets a request: the rule, apart from the slots.
 *
 * A slot does one request at a time, so the usual question of load balancing (which one is least busy?) has only two
 * answers per slot, free or not. What is left to choose is the order of the free ones, or to insist on a certain one.
 *
 * @since 0.1.0
 */
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Ref from "effect/Ref"

/**
 * - `roundRobin` (default): slot i, i+1, … modulo size, passing over those that are busy or ejected. When none is free
 *   the request takes the one that is free first.
 * - `strict`: slot i modulo size, busy or not; the request waits for that very slot. This is what a pool of N clients
 *   with an atomic counter does; one slow answer holds up every N-th request.
 * - `leastPending`: a free slot, as it has nothing pending; of those the one unused for longest.
 * - `powerOfTwoChoices`: of two free slots taken at random, the one unused for longer (Mitzenmacher, 2001).
 * - `byKey`: the slot that the key of the request hashes to (FNV-1a), busy or not; for caches behind the connection.
 *
 * @category models
 * @since 0.1.0
 */
export type Selection =
  | "roundRobin"
  | "strict"
  | "leastPending"
  | "powerOfTwoChoices"
  | { readonly byKey: (request: HttpClientRequest) => string }

/**
 * The slots of one host, as a rule sees them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Candidates {
  readonly size: number
  /** Where round-robin goes on. */
  readonly cursor: Ref.Ref<number>
  /** From 0 up to but not including 1. */
  readonly random: () => number
  readonly isFree: (slot: number) => boolean
  /** When a slot was used last, in uses of all slots; 0 when never. */
  readonly usedAt: (slot: number) => number
}

/**
 * A rule: `any` picks among the free slots (-1 when there is none), `fixed` names the one slot that a request must have.
 *
 * @category models
 * @since 0.1.0
 */
export type Rule =
  | { readonly _tag: "Any"; readonly pick: (slots: Candidates) => number }
  | { readonly _tag: "Fixed"; readonly slotOf: (request: HttpClientRequest, slots: Candidates) => number }

const roundRobin = (slots: Candidates): number => {
  const { size } = slots
  let slot = Ref.getUnsafe(slots.cursor)
  for (let i = 0; i < size; i++) {
    if (slot >= size) slot = 0
    if (slots.isFree(slot)) {
      slots.cursor.ref.current = slot + 1
      return slot
    }
    slot++
  }
  return -1
}

const strict = (_request: HttpClientRequest, slots: Candidates): number => {
  const slot = Ref.getUnsafe(slots.cursor) % slots.size
  slots.cursor.ref.current = slot + 1
  return slot
}

const leastPending = (slots: Candidates): number => {
  let best = -1
  for (let slot = 0; slot < slots.size; slot++) {
    if (slots.isFree(slot) && (best === -1 || slots.usedAt(slot) < slots.usedAt(best))) best = slot
  }
  return best
}

const powerOfTwoChoices = (slots: Candidates): number => {
  const free: Array<number> = []
  for (let slot = 0; slot < slots.size; slot++) if (slots.isFree(slot)) free.push(slot)
  if (free.length < 2) return free[0] ?? -1
  const first = Math.floor(slots.random() * free.length)
  const step = 1 + Math.floor(slots.random() * (free.length - 1))
  const a = free[first]!
  const b = free[(first + step) % free.length]!
  return slots.usedAt(b) < slots.usedAt(a) ? b : a
}

const fnv1a = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return hash >>> 0
}

/**
 * The rule of a selection.
 *
 * @category constructors
 * @since 0.1.0
 */
export const rule = (selection: Selection): Rule => {
  switch (selection) {
    case "roundRobin":
      return { _tag: "Any", pick: roundRobin }
    case "leastPending":
      return { _tag: "Any", pick: leastPending }
    case "powerOfTwoChoices":
      return { _tag: "Any", pick: powerOfTwoChoices }
    case "strict":
      return { _tag: "Fixed", slotOf: strict }
    default:
      return { _tag: "Fixed", slotOf: (request, slots) => fnv1a(selection.byKey(request)) % slots.size }
  }
}
