/**
 * Tasks in the memory of this process: for tests and for a look around. A restart forgets them.
 *
 * Each operation is one step of JavaScript, so no two of them mix. Time is Effect's `Clock`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type State, type Task, TaskId } from "../domain/Task.ts"
import { inProcess, waiting } from "../queue/Hints.ts"
import { type Claim, ClaimLost, diedTooOften, TaskQueue } from "../queue/TaskQueue.ts"
import { TaskStore } from "./TaskStore.ts"

interface Entry {
  readonly id: TaskId
  readonly place: number
  readonly createdAt: number
  readonly key: string | undefined
  state: State
  fence: number
  leaseUntil: number
  deaths: number
}

/** Ascending by place, so that a page or a turn is found by halving. */
class ByPlace {
  readonly #entries: Array<Entry> = []

  get size(): number {
    return this.#entries.length
  }

  /** The index of the first one at this place or after it. */
  #find(place: number): number {
    let low = 0
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#entries[middle]!.place < place) low = middle + 1
      else high = middle
    }
    return low
  }

  add(entry: Entry): void {
    this.#entries.splice(this.#find(entry.place), 0, entry)
  }

  remove(entry: Entry): void {
    const index = this.#find(entry.place)
    if (this.#entries[index] === entry) this.#entries.splice(index, 1)
  }

  takeFirst(limit: number): ReadonlyArray<Entry> {
    return this.#entries.splice(0, limit)
  }

  /** Newest first. */
  before(place: number, limit: number): ReadonlyArray<Entry> {
    const end = this.#find(place)
    return this.#entries.slice(Math.max(0, end - limit), end).reverse()
  }
}

class Tasks {
  readonly #all = new ByPlace()
  readonly #waiting = new ByPlace()
  readonly #running = new Set<Entry>()
  readonly #byId = new Map<TaskId, Entry>()
  readonly #byKey = new Map<string, Entry>()
  #places = 0

  get counts(): { readonly waiting: number; readonly running: number } {
    return { waiting: this.#waiting.size, running: this.#running.size }
  }

  create(key: string | undefined, now: number): { readonly task: Task; readonly fresh: boolean } {
    const known = key === undefined ? undefined : this.#byKey.get(key)
    if (known !== undefined) return { task: taskOf(known, now), fresh: false }
    const entry: Entry = {
      id: TaskId.make(globalThis.crypto.randomUUID()),
      place: ++this.#places,
      createdAt: now,
      key,
      state: { _tag: "Waiting" },
      fence: 0,
      leaseUntil: 0,
      deaths: 0
    }
    this.#all.add(entry)
    this.#waiting.add(entry)
    this.#byId.set(entry.id, entry)
    if (key !== undefined) this.#byKey.set(key, entry)
    return { task: taskOf(entry, now), fresh: true }
  }

  get(id: TaskId, now: number): Option.Option<Task> {
    return Option.map(Option.fromUndefinedOr(this.#byId.get(id)), (entry) => taskOf(entry, now))
  }

  list(before: number, limit: number, now: number): ReadonlyArray<Task> {
    return this.#all.before(before, limit).map((entry) => taskOf(entry, now))
  }

  remove(id: TaskId): State["_tag"] | undefined {
    const entry = this.#byId.get(id)
    if (entry === undefined) return undefined
    this.#all.remove(entry)
    this.#waiting.remove(entry)
    this.#running.delete(entry)
    this.#byId.delete(id)
    if (entry.key !== undefined) this.#byKey.delete(entry.key)
    return entry.state._tag
  }

  claim(limit: number, lease: number, now: number): ReadonlyArray<Claim> {
    return this.#waiting.takeFirst(limit).map((entry) => {
      entry.state = { _tag: "Running", startedAt: now }
      entry.fence++
      entry.leaseUntil = now + lease
      this.#running.add(entry)
      return { id: entry.id, fence: entry.fence }
    })
  }

  renew(claims: ReadonlyArray<Claim>, lease: number, now: number): ReadonlyArray<Claim> {
    return claims.filter((claim) => {
      const entry = this.#held(claim)
      if (entry !== undefined) entry.leaseUntil = now + lease
      return entry === undefined
    })
  }

  /** False: the claim is lost. */
  settle(claim: Claim, end: (startedAt: number) => State): boolean {
    const entry = this.#byId.get(claim.id)
    if (entry === undefined || entry.fence !== claim.fence || entry.state._tag === "Waiting") return false
    const state = end(entry.state.startedAt)
    if (entry.state._tag === "Running") {
      entry.state = state
      this.#running.delete(entry)
    }
    return entry.state._tag === state._tag
  }

  release(claims: ReadonlyArray<Claim>): number {
    const held = claims.map((claim) => this.#held(claim)).filter((entry) => entry !== undefined)
    for (const entry of held) this.#wait(entry)
    return held.length
  }

  reclaim(maxDeaths: number, now: number): { readonly again: Array<TaskId>; readonly failed: Array<TaskId> } {
    const again: Array<TaskId> = []
    const failed: Array<TaskId> = []
    for (const entry of [...this.#running].filter((entry) => entry.leaseUntil <= now)) {
      if (entry.state._tag !== "Running") continue
      entry.deaths++
      // So that what the dead worker says late is refused, also when the task has failed.
      entry.fence++
      if (entry.deaths < maxDeaths) {
        this.#wait(entry)
        again.push(entry.id)
      } else {
        const { startedAt } = entry.state
        entry.state = { _tag: "Failed", startedAt, finishedAt: now, reason: diedTooOften(maxDeaths) }
        this.#running.delete(entry)
        failed.push(entry.id)
      }
    }
    return { again, failed }
  }

  #held(claim: Claim): Entry | undefined {
    const entry = this.#byId.get(claim.id)
    return entry?.state._tag === "Running" && entry.fence === claim.fence ? entry : undefined
  }

  #wait(entry: Entry): void {
    entry.state = { _tag: "Waiting" }
    this.#running.delete(entry)
    this.#waiting.add(entry)
  }
}

const taskOf = ({ createdAt, id, place, state }: Entry, now: number): Task => ({
  id,
  place,
  createdAt,
  readAt: now,
  state
})

const make = Effect.gen(function* () {
  const tasks = new Tasks()
  const hints = yield* inProcess
  const tellWaiting = (some: boolean) => (some ? hints.tell(waiting) : Effect.void)
  const now = <A>(f: (now: number) => A) => Effect.map(Clock.currentTimeMillis, f)
  const settle = (claim: Claim, end: (startedAt: number, finishedAt: number) => State) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      tasks.settle(claim, (startedAt) => end(startedAt, now)) ? Effect.void : Effect.fail(new ClaimLost({ claim }))
    )

  const store = TaskStore.of({
    create: (key) => now((now) => tasks.create(key, now)).pipe(Effect.tap(({ fresh }) => tellWaiting(fresh))),
    get: (id) => now((now) => tasks.get(id, now)),
    list: ({ before = Infinity, limit }) => now((now) => tasks.list(before, limit, now)),
    remove: (id) =>
      Effect.sync(() => tasks.remove(id)).pipe(
        Effect.tap((state) => (state === "Running" ? hints.tell({ _tag: "Removed", id }) : Effect.void)),
        Effect.map((state) => state !== undefined)
      ),
    counts: Effect.sync(() => tasks.counts),
    ping: Effect.void
  })
  const queue = TaskQueue.of({
    claim: ({ lease, limit }) => now((now) => tasks.claim(limit, Duration.toMillis(lease), now)),
    renew: (claims, lease) => now((now) => tasks.renew(claims, Duration.toMillis(lease), now)),
    complete: (claim, result) =>
      settle(claim, (startedAt, finishedAt) => ({ _tag: "Completed", startedAt, finishedAt, result })),
    fail: (claim, reason) =>
      settle(claim, (startedAt, finishedAt) => ({ _tag: "Failed", startedAt, finishedAt, reason })),
    release: (claims) =>
      Effect.sync(() => tasks.release(claims)).pipe(Effect.flatMap((released) => tellWaiting(released > 0))),
    reclaim: (maxDeaths) =>
      now((now) => tasks.reclaim(maxDeaths, now)).pipe(Effect.tap(({ again }) => tellWaiting(again.length > 0))),
    hints: hints.stream
  })
  return Context.make(TaskStore, store).pipe(Context.add(TaskQueue, queue))
})

/** Both ports on one memory; each build has its own tasks. */
export const layer: Layer.Layer<TaskStore | TaskQueue> = Layer.effectContext(make)
