/**
 * The servers of a pool, and what is done to them.
 *
 * Every transition of a server runs under its own lock; nothing here holds the locks of two servers. A start can be
 * interrupted. Whatever else was asked for runs to its end in a fiber of its own, also where who asked does not wait for
 * it any more, so that no server is left half way.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Timers } from "../../model/Timers.ts"
import type { Handler, Listener } from "../Listener.ts"
import type { DefaultTls } from "../ServerConfig.ts"
import type { ServerPoolError } from "../ServerError.ts"
import type { ServerEvent } from "../ServerEvent.ts"
import type { Stopped } from "../Server.ts"
import type { Home } from "./home.ts"
import { Registry } from "./registry.ts"
import type { ServerAnnouncer } from "./serverAnnouncer.ts"
import { ServerUnit } from "./serverUnit.ts"
import type { Spec } from "./spec.ts"
import { poolError, together } from "./together.ts"
import { type Refused, refused } from "./refused.ts"

type Units = ReadonlyArray<ServerUnit>

export interface Platform {
  readonly listener: Listener
  readonly timers: Timers
}

export class PoolCore implements Home {
  readonly registry = new Registry()
  readonly handlers: Map<string, Handler>
  readonly listener: Listener
  readonly timers: Timers
  readonly closing = Deferred.makeUnsafe<never, Refused>()
  /** One reload at a time. */
  readonly reloading = Semaphore.makeUnsafe(1)
  readonly announcer: ServerAnnouncer
  readonly name: string
  tls: DefaultTls | undefined
  /** It was started, and not stopped since. */
  private wasStarted = false
  /** Starts of all that are under way, and that no stop has overruled. */
  private readonly starts = new Set<object>()
  private isClosed = false
  private readonly work = new Set<Fiber.Fiber<unknown, unknown>>()

  constructor(
    name: string,
    platform: Platform,
    announcer: ServerAnnouncer,
    handlers: ReadonlyMap<string, Handler>,
    tls: DefaultTls | undefined
  ) {
    this.name = name
    this.listener = platform.listener
    this.timers = platform.timers
    this.announcer = announcer
    this.handlers = new Map(handlers)
    this.tls = tls
  }

  // --- what servers ask

  readonly announce = (event: ServerEvent): Effect.Effect<void> => this.announcer.announce(event)

  readonly handler = (key: string): Handler | undefined => this.handlers.get(key)

  readonly started = (): boolean => !this.isClosed && (this.wasStarted || this.starts.size > 0)

  readonly background = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<Fiber.Fiber<A, E>> =>
    Effect.map(Effect.forkDetach(effect, { startImmediately: true }), (fiber) => {
      this.work.add(fiber)
      fiber.addObserver(() => void this.work.delete(fiber))
      return fiber
    })

  /** Runs to its end; who asked may leave before. */
  toEnd<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(this.background(Effect.interruptible(effect)), (fiber) => restore(Fiber.join(fiber)))
    )
  }

  /** A transition of a server, unless it has left this pool while the lock was awaited. */
  locked<A, E>(unit: ServerUnit, effect: Effect.Effect<A, E>): Effect.Effect<A | undefined, E> {
    return unit.lock.withPermit(
      Effect.suspend((): Effect.Effect<A | undefined, E> => (this.has(unit) ? effect : Effect.succeed(undefined)))
    )
  }

  has(unit: ServerUnit): boolean {
    return this.registry.get(unit.spec.key) === unit
  }

  // --- lifecycle

  start(units: Units): Effect.Effect<void, ServerPoolError> {
    const one = (unit: ServerUnit) =>
      this.locked(
        unit,
        Effect.suspend(() => (unit.config.disabled ? Effect.void : unit.start()))
      )
    return Effect.asVoid(together("Start", units, one))
  }

  /** All that are there when it begins; what comes later is started as it comes. */
  readonly startAll: Effect.Effect<void, ServerPoolError> = Effect.suspend(() => {
    const mine = {}
    return Effect.uninterruptibleMask((restore) => {
      this.starts.add(mine)
      return Effect.onExit(restore(this.start(this.registry.all)), (exit) =>
        Effect.sync(() => {
          const counts = Exit.isSuccess(exit) || !Cause.hasInterruptsOnly(exit.cause)
          if (this.starts.delete(mine) && counts) this.wasStarted = true
        })
      )
    })
  })

  /** Those that ran, and what had to be cut. */
  stop(units: Units): Effect.Effect<ReadonlyArray<Stopped>, ServerPoolError> {
    const stops = Effect.suspend(() =>
      together("Stop", units, (unit) => this.afterStopWasAsked(unit, this.locked(unit, unit.stop)))
    )
    return this.toEnd(
      Effect.suspend(() => {
        for (const unit of units) unit.stopsAsked++
        return Effect.map(stops, (all) => all.filter((report) => report !== undefined))
      })
    )
  }

  readonly stopAll: Effect.Effect<ReadonlyArray<Stopped>, ServerPoolError> = Effect.suspend(() => {
    this.wasStarted = false
    this.starts.clear()
    return this.stop(this.registry.all)
  })

  private afterStopWasAsked<A, E>(unit: ServerUnit, stop: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.ensuring(
      stop,
      Effect.sync(() => void unit.stopsAsked--)
    )
  }

  restart(units: Units): Effect.Effect<void, ServerPoolError> {
    const one = (unit: ServerUnit) =>
      this.locked(
        unit,
        Effect.suspend(() => (unit.config.disabled ? Effect.void : unit.restart))
      )
    return Effect.asVoid(this.toEnd(together("Restart", units, one)))
  }

  // --- coming and going

  /**
   * Puts a server in, started where the pool is, unless told otherwise; where it cannot start it is not put in. Whenever it
   * had to wait it is read again: what its options mean may be something else by then.
   */
  add<E>(
    read: Effect.Effect<Spec, E>,
    replace: boolean,
    starts?: boolean
  ): Effect.Effect<ServerUnit, E | ServerPoolError> {
    const again = () => this.add(read, replace, starts)
    return Effect.flatMap(read, (spec): Effect.Effect<ServerUnit, E | ServerPoolError> => {
      const unit = new ServerUnit(spec, this)
      const existing = this.registry.get(spec.key)
      if (existing === undefined) return this.enter(unit, again, starts)
      if (existing.membership === "leaving") return this.afterwards(existing, again)
      if (replace) return this.replaceBy(existing, spec, again)
      if (spec.config.bind.port !== 0) return Effect.fail(duplicate(unit))
      const apart = { ...spec, key: this.registry.keyOf(spec.config) }
      return this.enter(new ServerUnit(apart, this), again, starts)
    })
  }

  private replaceBy<E>(
    existing: ServerUnit,
    spec: Spec,
    again: () => Effect.Effect<ServerUnit, E | ServerPoolError>
  ): Effect.Effect<ServerUnit, E | ServerPoolError> {
    const update = this.toEnd(this.locked(existing, Effect.as(existing.update(spec), existing)))
    return Effect.flatMap(
      Effect.mapError(update, (cause) => poolError("Add", existing, cause)),
      (updated) => (updated === undefined ? again() : Effect.succeed(updated))
    )
  }

  /** Again, when who is about to leave has left. */
  private afterwards<A, E>(unit: ServerUnit, again: () => Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.andThen(unit.lock.withPermit(Effect.void), Effect.suspend(again))
  }

  /**
   * The lock of a server that nobody knows yet is free; under it nothing can come between the look at the registry and
   * the entry.
   */
  private enter<E>(
    unit: ServerUnit,
    again: () => Effect.Effect<ServerUnit, E | ServerPoolError>,
    start: boolean | undefined
  ): Effect.Effect<ServerUnit, E | ServerPoolError> {
    const entry = Effect.uninterruptibleMask((restore): Effect.Effect<ServerUnit | undefined, ServerPoolError> => {
      if (this.registry.get(unit.spec.key) !== undefined) return Effect.succeed(undefined)
      const refusal = this.refusal(unit)
      if (refusal !== undefined) return Effect.fail(poolError("Add", unit, refusal))
      this.registry.add(unit)
      const starts = (start ?? this.started()) && !unit.config.disabled
      return Effect.andThen(this.announceOf(unit, "Added"), starts ? restore(unit.start()) : Effect.void).pipe(
        Effect.mapError((cause) => poolError("Add", unit, cause)),
        // Who asked may have been interrupted just after it had started.
        Effect.onError(() => Effect.andThen(Effect.ignore(unit.vacate, { log: "Warn" }), this.leave(unit, "gone"))),
        Effect.as(unit)
      )
    })
    return Effect.flatMap(unit.lock.withPermit(entry), (entered) =>
      entered === undefined ? again() : Effect.succeed(entered)
    )
  }

  private refusal(unit: ServerUnit): Refused | undefined {
    if (this.isClosed) return refused(closedMessage)
    const other = this.registry.inTheWay(unit.spec.key, unit.config)
    return other === undefined
      ? undefined
      : refused(`its address overlaps with the one of "${other.name}", ${other.bind}`)
  }

  /** Under the server's lock. */
  private leave(unit: ServerUnit, membership: "gone" | "taken"): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.registry.delete(unit)
      unit.membership = membership
      return this.announceOf(unit, "Removed")
    })
  }

  private announceOf(unit: ServerUnit, tag: "Added" | "Removed"): Effect.Effect<void> {
    return this.announce({ _tag: tag, name: unit.name, bind: unit.bind })
  }

  /** Stops it and takes it out; it is out even where it did not stop in order. */
  remove(unit: ServerUnit, how: "stop" | "vacate" = "stop"): Effect.Effect<Stopped | undefined, unknown> {
    const stop: Effect.Effect<Stopped | undefined, unknown> =
      how === "stop" ? unit.stop : Effect.as(unit.vacate, undefined)
    return this.toEnd(
      Effect.suspend(() => {
        // It may have been taken since it was looked up, and then it is somebody else's.
        if (!this.has(unit)) return Effect.succeed(undefined)
        unit.membership = "leaving"
        unit.stopsAsked++
        const out = this.locked(unit, Effect.ensuring(stop, this.leave(unit, "gone")))
        return this.afterStopWasAsked(unit, out)
      })
    )
  }

  /** Takes it out as it is; it belongs to the scope until it is in a pool again. */
  take(unit: ServerUnit): Effect.Effect<ServerUnit | undefined, never, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) => {
      const out = Effect.flatMap(restore(unit.lock.takeScoped(1)), () =>
        this.has(unit) ? Effect.as(this.leave(unit, "taken"), unit) : Effect.succeed(undefined)
      )
      // When the lock is free: of a scope that has ended meanwhile the finalizer runs at once, and needs the lock.
      return Effect.tap(Effect.scoped(out), (taken) => (taken === undefined ? Effect.void : hold(taken)))
    })
  }

  /** Puts in a server that was taken out of a pool, as it runs. */
  adopt(unit: ServerUnit, replace: boolean): Effect.Effect<ServerUnit, ServerPoolError> {
    return Effect.suspend((): Effect.Effect<ServerUnit, ServerPoolError> => {
      const key = this.registry.keyOf(unit.config)
      const existing = this.registry.get(key)
      const again = () => this.adopt(unit, replace)
      if (existing === undefined) return this.settle(unit, key, again)
      if (existing.membership === "leaving") return this.afterwards(existing, again)
      if (!replace) return Effect.fail(duplicate(unit))
      if (unit.address === undefined) {
        this.bring(unit)
        return Effect.tap(this.replaceBy(existing, { ...unit.spec, key }, again), () => letGo(unit))
      }
      return Effect.andThen(
        Effect.mapError(this.remove(existing), (cause) => poolError("Add", existing, cause)),
        Effect.suspend(again)
      )
    })
  }

  /** A server brings the handler of its key where there is none. */
  private bring({ config, handler }: ServerUnit): void {
    if (handler !== undefined && !this.handlers.has(config.handler)) this.handlers.set(config.handler, handler)
  }

  private settle(
    unit: ServerUnit,
    key: string,
    again: () => Effect.Effect<ServerUnit, ServerPoolError>
  ): Effect.Effect<ServerUnit, ServerPoolError> {
    const entry = Effect.uninterruptibleMask((restore): Effect.Effect<ServerUnit | undefined, ServerPoolError> => {
      if (unit.membership !== "taken") return Effect.fail(poolError("Add", unit, refused(notTaken)))
      if (this.registry.get(key) !== undefined) return Effect.succeed(undefined)
      const refusal = this.refusal(unit)
      if (refusal !== undefined) return Effect.fail(poolError("Add", unit, refusal))
      this.bring(unit)
      unit.home = this
      unit.spec = { ...unit.spec, key }
      unit.membership = "member"
      this.registry.add(unit)
      const starts = this.started() && !unit.config.disabled
      const begin = Effect.andThen(unit.followHandler, starts ? restore(unit.start()) : Effect.void)
      return Effect.andThen(this.announceOf(unit, "Added"), begin).pipe(
        Effect.mapError((cause) => poolError("Add", unit, cause)),
        Effect.onError(() => this.leave(unit, "taken")),
        Effect.andThen(letGo(unit)),
        Effect.as(unit)
      )
    })
    return Effect.flatMap(unit.lock.withPermit(entry), (settled) =>
      settled === undefined ? again() : Effect.succeed(settled)
    )
  }

  // --- handlers

  setHandler(handler: Handler, key: string | undefined): Effect.Effect<void> {
    return Effect.uninterruptible(
      Effect.suspend(() => {
        for (const known of key === undefined ? [...this.handlers.keys()] : [key]) this.handlers.set(known, handler)
        return Effect.forEach(this.registry.all, (unit) => unit.followHandler, { discard: true })
      })
    )
  }

  // --- the end

  /** Stops all servers and waits for all that drains: nothing is left. */
  readonly close: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    this.isClosed = true
    Deferred.doneUnsafe(this.closing, Effect.fail(refused(closedMessage)))
    // Who waits for a lock may still do something, a reload say, which may put back what it had changed.
    do {
      yield* Effect.ignore(this.stopAll, { log: "Warn" })
      yield* Fiber.awaitAll(Array.from(this.work))
    } while (this.work.size > 0 || this.registry.all.some((unit) => unit.address !== undefined))
    yield* this.announce({ _tag: "Closed" })
  })
}

const closedMessage = "the server pool is closed: its scope has ended"

const notTaken = "it is in a pool: take it from there first"

const duplicate = (unit: ServerUnit): ServerPoolError =>
  poolError("Add", unit, refused("there is a server with this bind: update it, or add with replace"))

/** A server that was taken ends with the scope that it was taken in, unless it has found a pool again by then. */
const hold = (unit: ServerUnit): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => {
    const custody = Scope.forkUnsafe(scope)
    unit.custody = custody
    const isHeld = () => unit.custody === custody && unit.membership === "taken"
    const stop = Effect.suspend(() => (isHeld() ? Effect.asVoid(unit.stop) : Effect.void))
    const end = Effect.suspend(() => (isHeld() ? unit.lock.withPermit(stop) : Effect.void))
    return Scope.addFinalizer(custody, Effect.ignore(end, { log: "Warn" }))
  })

/** Nothing of it stays in the scope that it was taken in, which may last long. */
const letGo = (unit: ServerUnit): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { custody } = unit
    unit.custody = undefined
    return custody === undefined ? Effect.void : Scope.close(custody, Exit.void)
  })
