/**
 * The state machine of one server: see `Server.ts`.
 *
 * `start`, `stop`, `restart`, `update`, `vacate` and `lose` are the transitions. Each is run under `lock`, so there is one
 * at a time, and none of them takes another lock. Only the opening of an address can be interrupted, and is undone then; all
 * else runs to its end.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Acceptor, Backend, Counts, Handler, ListenError } from "../Listener.ts"
import { type ServerConfig, withPort } from "../ServerConfig.ts"
import type { Address, Health, Server, State, Stopped } from "../Server.ts"
import type { ServerEvent } from "../ServerEvent.ts"
import { changeOf, type Spec } from "./spec.ts"
import { whyFailed } from "./together.ts"
import { Backends } from "./backends.ts"
import type { Home } from "./home.ts"
import { type Running, stopped } from "./phase.ts"
import { type Refused, refused } from "./refused.ts"
import { ServerTraffic } from "./serverTraffic.ts"
import { Standing } from "./standing.ts"

export class ServerUnit implements Server {
  readonly lock = Semaphore.makeUnsafe(1)
  spec: Spec
  home: Home
  /** It should run: it was started, and not stopped since. */
  wanted = false
  /** Stops that were asked for and have not ended: from the first on it is not ready, whatever it still does before. */
  stopsAsked = 0
  /** In a pool, about to leave it, gone for good, or in the hands of who took it. */
  membership: "member" | "leaving" | "gone" | "taken" = "member"
  /** Of one that was taken: ends with the scope that it was taken in. */
  custody: Scope.Closeable | undefined
  readonly traffic = new ServerTraffic()

  private readonly standing: Standing
  private readonly backends = new Backends()
  /** Of an address that was lost: clients know it. */
  private lostPort: number | undefined

  constructor(spec: Spec, home: Home) {
    this.spec = spec
    this.home = home
    this.standing = new Standing(() => this.home.timers.now())
  }

  // --- what everybody may see

  get name(): string {
    return this.config.name
  }

  get bind(): string {
    return this.config.bind.key
  }

  get expose(): string {
    return this.config.expose.href
  }

  /** With the port that the system chose in its URL. */
  get config(): ServerConfig {
    const { address, spec } = this
    return address === undefined ? spec.config : withPort(spec.config, address.port)
  }

  get state(): State {
    return this.standing.state
  }

  get address(): Address | undefined {
    return this.standing.address
  }

  readonly isRunning = Effect.sync(() => this.standing.phase._tag === "Running")

  readonly ready = Effect.sync(() => this.isReady)

  readonly uptime = Effect.sync(() => Duration.millis(this.upMillis()))

  readonly counts = Effect.sync(() => this.count())

  readonly health = Effect.sync((): Health => ({
    ...this.standing.health,
    ready: this.isReady,
    wanted: this.isWanted,
    counts: this.count()
  }))

  // --- what the pool asks

  get isWanted(): boolean {
    return this.wanted && this.stopsAsked === 0
  }

  get isReady(): boolean {
    return this.isWanted && this.standing.phase._tag === "Running"
  }

  upMillis(): number {
    return this.standing.upMillis()
  }

  // --- transitions

  /** Ends when the address accepts. The system chooses among all ports, or `port` is asked for again. */
  start(port: number = this.config.bind.port): Effect.Effect<void, unknown> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        if (this.standing.phase._tag === "Running") {
          this.wanted = true
          return Effect.void
        }
        this.wanted = true
        this.standing.phase = { _tag: "Starting" }
        const scope = Scope.makeUnsafe()
        const { closing, listener } = this.home
        const address = { host: this.config.bind.host, port }
        const opened = Effect.interruptible(Scope.provide(listener.open(address), scope))
        const open = Effect.raceFirst(Deferred.await(closing), opened)
        return Effect.matchCauseEffect(
          Effect.flatMap(restore(open), (acceptor) => this.accept(acceptor, scope)),
          {
            onSuccess: () => Effect.void,
            onFailure: (cause) => Effect.andThen(Scope.close(scope, Exit.void), this.startFailed(cause))
          }
        )
      })
    )
  }

  private accept(acceptor: Acceptor, scope: Scope.Closeable): Effect.Effect<void, unknown> {
    return Effect.gen({ self: this }, function* () {
      const handler = yield* this.handlerOf(this.spec)
      const backend = yield* acceptor.backend(this.config.settings, handler, this.traffic)
      yield* acceptor.use(backend)
      const { address } = acceptor
      const since = this.home.timers.now()
      this.standing.phase = { _tag: "Running", address, acceptor, backend, handler, scope, since }
      yield* this.announce({ _tag: "Started", ...this.tags, address })
      yield* Effect.forkIn(this.loss(acceptor), scope, { startImmediately: true })
      yield* this.followHandler
    })
  }

  /** Ends with the scope of the acceptor, unless that is lost before. */
  private loss(acceptor: Acceptor): Effect.Effect<void> {
    const heard = (error: ListenError) =>
      Effect.suspend(() => {
        const running = this.standing.phase
        return running._tag === "Running" && running.acceptor === acceptor ? this.lose(running, error) : Effect.void
      })
    return Effect.catch(acceptor.lost, (error) => this.lock.withPermit(Effect.uninterruptible(heard(error))))
  }

  /** Nobody accepts any more. It should run, so it has failed; connections that there are drain. */
  private lose(running: Running, error: ListenError): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      this.lostPort = running.address.port
      yield* Effect.logError(`Server "${this.name}" has failed: ${error.message}`, error.cause)
      yield* Effect.ignore(this.fail(error))
      yield* this.retireWith(running)
    })
  }

  private startFailed(cause: Cause.Cause<unknown>): Effect.Effect<never, unknown> {
    if (Cause.hasInterruptsOnly(cause)) {
      this.standing.phase = stopped
      this.wanted = false
      return Effect.failCause(cause)
    }
    return this.fail(Cause.squash(cause))
  }

  /** Ends when nothing is left of it; `undefined` when it did not run. */
  readonly stop: Effect.Effect<Stopped | undefined, unknown> = Effect.uninterruptible(
    Effect.suspend(() => {
      this.wanted = false
      const running = this.standing.phase
      if (running._tag !== "Running") {
        this.standing.phase = stopped
        // Of a server that was restarted before, and did not come up, something may still drain.
        return Effect.as(this.backends.drained(), undefined)
      }
      return this.end(running)
    })
  )

  private end(running: Running): Effect.Effect<Stopped, unknown> {
    return Effect.gen({ self: this }, function* () {
      const uptime = this.upMillis()
      const closed = yield* this.stopAccepting(running)
      const drained = yield* this.backends.drain(running.backend, this.config.drainTimeout)
      yield* this.backends.drained()
      const released = yield* Effect.exit(Scope.close(running.scope, Exit.void))
      if (Exit.isFailure(closed) || Exit.isFailure(drained) || Exit.isFailure(released)) {
        return yield* this.fail(whyFailed([closed, drained, released]))
      }
      this.standing.phase = stopped
      const cut = drained.value
      yield* this.announce({ _tag: "Stopped", ...this.tags, uptime, cut })
      return { ...this.tags, uptime, cut }
    })
  }

  /** Not ready, then no new connections: who asks for readiness has `drainDelay` to notice. */
  private stopAccepting(running: Running): Effect.Effect<Exit.Exit<void>> {
    return Effect.gen({ self: this }, function* () {
      this.backends.retire(running.backend)
      this.standing.phase = { _tag: "Stopping" }
      yield* this.announce({ _tag: "Stopping", ...this.tags })
      if (this.config.drainDelay > 0) yield* Effect.sleep(this.config.drainDelay)
      const closed = yield* Effect.exit(running.acceptor.close)
      // The scope has the connections, too: it ends with the last of them, unless nothing else frees the address.
      if (Exit.isFailure(closed)) yield* Effect.exit(Scope.close(running.scope, Exit.void))
      return closed
    })
  }

  /** Accepts no more, and is as good as stopped; its connections drain beside whatever comes next. */
  readonly vacate: Effect.Effect<void, unknown> = Effect.uninterruptible(
    Effect.suspend(() => {
      this.wanted = false
      const running = this.standing.phase
      if (running._tag === "Running") return this.leave(running)
      this.standing.phase = stopped
      return Effect.void
    })
  )

  private leave(running: Running): Effect.Effect<void, unknown> {
    return Effect.gen({ self: this }, function* () {
      const closed = yield* this.stopAccepting(running)
      yield* this.retireWith(running)
      if (Exit.isFailure(closed)) return yield* this.fail(Cause.squash(closed.cause))
      this.standing.phase = stopped
    })
  }

  /**
   * Opens the address anew as soon as it is closed, while the old connections drain. With port 0 it asks for the port that
   * it had, as clients know it.
   */
  readonly restart: Effect.Effect<void, unknown> = Effect.uninterruptible(
    Effect.suspend(() => {
      const running = this.standing.phase
      const port =
        running._tag === "Running" ? running.address.port : running._tag === "Failed" ? this.lostPort : undefined
      if (port === undefined) return this.start()
      const again = Effect.suspend(() => this.start(port))
      const start = this.config.bind.port === 0 ? Effect.catch(again, () => this.start()) : again
      return running._tag === "Running" ? Effect.andThen(this.leave(running), start) : start
    })
  )

  /** Another configuration for the same bind; on failure all is as it was. */
  update(next: Spec): Effect.Effect<void, unknown> {
    return Effect.uninterruptible(
      Effect.suspend(() => {
        const { spec, wanted } = this
        const { phase } = this.standing
        const starts = wanted || (spec.config.disabled && this.home.started())
        return Effect.tapCause(this.become(next, starts), () =>
          Effect.sync(() => {
            // One that ran, and could not be stopped in order, is not what it was; what else fails leaves it as it runs.
            if (phase._tag === "Running") return
            this.spec = spec
            this.standing.phase = phase
            this.wanted = wanted
          })
        )
      })
    )
  }

  /** Back to the configuration that was in force; also where it cannot be started with it any more. */
  putBack(previous: Spec, wanted: boolean): Effect.Effect<void, unknown> {
    return Effect.uninterruptible(Effect.suspend(() => this.become(previous, wanted)))
  }

  private become(next: Spec, starts: boolean): Effect.Effect<void, unknown> {
    const previous = this.spec
    const running = this.standing.phase
    if (running._tag === "Running" && !next.config.disabled) return this.change(running, next)
    this.spec = next
    if (running._tag === "Running") return Effect.asVoid(this.stop)
    // One that has failed should not run any more.
    if (next.config.disabled) [this.wanted, this.standing.phase] = [false, stopped]
    return starts && !next.config.disabled ? this.start() : this.announceUpdate(previous)
  }

  private change(running: Running, next: Spec): Effect.Effect<void, unknown> {
    return Effect.gen({ self: this }, function* () {
      const previous = this.spec
      const touches = changeOf(previous, next)?.touches
      if (touches?.has("backend") === true) return yield* this.takeOver(running, next)
      const { tls } = next.config.settings
      if (touches?.has("certificates") === true && tls !== undefined) yield* running.backend.secure(tls)
      this.spec = next
      yield* this.announceUpdate(previous)
      yield* this.followHandler
    })
  }

  /** New connections are for a new backend from now on; the old one drains. */
  private takeOver(running: Running, next: Spec): Effect.Effect<void, unknown> {
    return Effect.gen({ self: this }, function* () {
      const handler = yield* this.handlerOf(next)
      const backend = yield* running.acceptor.backend(next.config.settings, handler, this.traffic)
      yield* running.acceptor.use(backend)
      const { drainTimeout } = this.config
      this.spec = next
      this.standing.phase = { ...running, backend, handler }
      yield* this.announce({ _tag: "Replaced", ...this.tags })
      yield* this.retire(running.backend, drainTimeout)
      yield* this.followHandler
    })
  }

  /** Answers with what its key stands for now. Needs no lock: it never waits for a drain. */
  readonly followHandler: Effect.Effect<void> = Effect.suspend(() => {
    const running = this.standing.phase
    const handler = this.home.handler(this.config.handler)
    if (running._tag !== "Running" || handler === undefined || running.handler === handler) return Effect.void
    this.standing.phase = { ...running, handler }
    return Effect.uninterruptible(running.backend.handle(handler))
  })

  /** Wherever it goes. */
  get handler(): Handler | undefined {
    return this.standing.phase._tag === "Running" ? this.standing.phase.handler : this.home.handler(this.config.handler)
  }

  // --- parts

  private get tags() {
    return { name: this.name, bind: this.bind }
  }

  private readonly announce = (event: ServerEvent): Effect.Effect<void> => this.home.announce(event)
  private announceUpdate(previous: Spec): Effect.Effect<void> {
    return Effect.suspend(() => {
      const change = changeOf(previous, this.spec)
      if (change === undefined) return Effect.void
      return this.announce({ _tag: "Updated", ...this.tags, fields: change.fields })
    })
  }

  private fail(error: unknown): Effect.Effect<never, unknown> {
    this.standing.phase = { _tag: "Failed", error }
    this.standing.note(error)
    return Effect.andThen(this.announce({ _tag: "Failed", ...this.tags, error }), Effect.fail(error))
  }

  private handlerOf(spec: Spec): Effect.Effect<Handler, Refused> {
    return Effect.suspend(() => {
      const handler = this.home.handler(spec.config.handler)
      return handler === undefined
        ? Effect.fail(refused(`there is no handler "${spec.config.handler}": give it with setHandler`))
        : Effect.succeed(handler)
    })
  }

  /** Drains beside whatever else happens. */
  private retire(backend: Backend, timeout: number, afterwards = Effect.void): Effect.Effect<void> {
    this.backends.retire(backend)
    const drain = Effect.gen({ self: this }, function* () {
      const drained = yield* this.backends.drain(backend, timeout)
      const ended = yield* Effect.exit(afterwards)
      if (Exit.isSuccess(drained)) yield* this.announce({ _tag: "Drained", ...this.tags, cut: drained.value })
      if (Exit.isSuccess(drained) && Exit.isSuccess(ended)) return
      const error = whyFailed([drained, ended])
      this.standing.note(error)
      yield* this.announce({ _tag: "Failed", ...this.tags, error })
    })
    return Effect.map(this.home.background(drain), (fiber) => this.backends.track(fiber))
  }

  /** With its acceptor, when that has no connections any more. */
  private retireWith({ backend, scope }: Running): Effect.Effect<void> {
    const release = Effect.andThen(this.backends.drained(), Scope.close(scope, Exit.void))
    return this.retire(backend, this.config.drainTimeout, release)
  }

  private count(): Counts {
    return this.backends.counts(this.standing.phase._tag === "Running" ? this.standing.phase.backend : undefined)
  }
}
