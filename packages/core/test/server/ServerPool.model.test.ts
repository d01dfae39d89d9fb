import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Option, Scope } from "effect"
import { TestClock } from "effect/testing"
import type { Handler } from "../../src/server/Listener.ts"
import type * as ServerPool from "../../src/server/ServerPool.ts"
import * as Supervisor from "../../src/server/Supervisor.ts"
import { FakeListener, pem } from "../fixtures/listener.ts"
import { turn } from "../fixtures/pools.ts"
import { answer, ended, hello, make } from "../fixtures/serverPools.ts"
import { ServerPoolModel, type Wanted } from "../fixtures/serverPoolModel.ts"

/** Mulberry32: the same numbers for the same seed. */
class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  below(count: number): number {
    return Math.floor(this.next() * count)
  }

  of<A>(items: ReadonlyArray<A>): A {
    return items[this.below(items.length)]!
  }

  chance(share: number): boolean {
    return this.next() < share
  }
}

const ports = [1, 2, 3, 4]

const wanted = (dice: Dice, port: number): Wanted => ({
  bind: `127.0.0.1:${port}`,
  name: `s${port}-${dice.below(2)}`,
  maxConnections: 1 + dice.below(3),
  disabled: dice.chance(0.2)
})

const list = (dice: Dice): ReadonlyArray<Wanted> =>
  ports.filter(() => dice.chance(0.6)).map((port) => wanted(dice, port))

/** Requests that nobody ends are cut soon. */
const hasty = (dice: Dice) => list(dice).map((config) => ({ ...config, drainTimeout: 50 }))

const ascending = (a: number, b: number): number => a - b

const portOf = (bind: string): number => Number(bind.split(":")[1])

/** Holds whenever nothing is under way. */
const consistent = (pool: ServerPool.ServerPool, listener: FakeListener) =>
  Effect.gen(function* () {
    const servers = yield* pool.servers
    const running = servers.filter((server) => server.state._tag === "Running")
    assert.deepStrictEqual(
      running.map(({ bind }) => portOf(bind)).toSorted(ascending),
      [...listener.ports],
      "running state = acceptor open"
    )
    assert.strictEqual(new Set(servers.map(({ bind }) => bind)).size, servers.length, "a bind has one server")
    assert.strictEqual(listener.opening, 0)
    for (const server of servers) {
      assert.notInclude(["Starting", "Stopping"], server.state._tag)
      if (server.config.disabled) assert.notStrictEqual(server.state._tag, "Running")
    }
    for (const server of running) {
      const backend = listener.at(portOf(server.bind))
      assert.strictEqual(backend.drains, "not yet")
      assert.deepStrictEqual(backend.settings, server.config.settings, "what is configured is in force")
      assert.strictEqual(backend.handler, Option.getOrThrow(yield* pool.handler(server.config.handler)))
    }
    const current = new Set(listener.openOnes.map((acceptor) => acceptor.current))
    for (const backend of listener.backends) {
      assert.isTrue(current.has(backend) || backend.drains === "drained", "a backend that is not current is gone")
    }
  })

/** What was lost is logged. */
const quiet = Effect.provide(Logger.layer([]))

describe("ServerPool model", () => {
  it.effect("any operations one after the other: what a simple model says, of results and state", () =>
    Effect.gen(function* () {
      for (let seed = 1; seed <= 60; seed++) {
        const dice = new Dice(seed)
        const listener = new FakeListener()
        const configs = list(dice)
        const model = new ServerPoolModel(configs)
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(make(listener, configs), scope)
        const failedNames = (effect: Effect.Effect<unknown, { readonly servers: ReadonlyArray<{ name: string }> }>) =>
          Effect.match(effect, {
            onSuccess: () => [],
            onFailure: ({ servers }) => servers.map(({ name }) => name)
          })
        const worked = (effect: Effect.Effect<unknown, unknown>) => Effect.map(Effect.exit(effect), Exit.isSuccess)
        for (let step = 0; step < 40; step++) {
          const next = wanted(dice, dice.of(ports))
          const entry = model.entries.get(next.bind)
          const where = `seed ${seed}, step ${step}`
          switch (dice.below(11)) {
            case 0:
              assert.sameMembers(yield* failedNames(pool.start), [...model.start()], where)
              break
            case 1: {
              const stopped = yield* pool.stop
              assert.sameMembers(
                stopped.map(({ name }) => name),
                [...model.stop()],
                where
              )
              break
            }
            case 2:
              assert.sameMembers(yield* failedNames(pool.restart), [...model.restart()], where)
              break
            case 3:
              if (entry === undefined) assert.isFalse(yield* worked(pool.restartOne(next.bind)), where)
              else assert.deepStrictEqual(yield* failedNames(pool.restartOne(next.bind)), model.restart([entry]), where)
              break
            case 4: {
              const replace = dice.chance(0.5)
              assert.strictEqual(yield* worked(pool.addConfig(next, { replace })), model.add(next, replace), where)
              break
            }
            case 5:
              assert.strictEqual(Option.isSome(yield* pool.remove(next.bind)), model.remove(next.bind), where)
              break
            case 6:
            case 7:
              assert.strictEqual(yield* worked(pool.update(next)), model.update(next), where)
              break
            case 8: {
              const configs = list(dice)
              assert.strictEqual(yield* worked(pool.reload(configs)), model.reload(configs), where)
              break
            }
            case 9: {
              const view = yield* pool.filter("bind", next.bind)
              const entries = entry === undefined ? [] : [entry]
              if (dice.chance(0.5)) assert.deepStrictEqual(yield* failedNames(view.start), model.start(entries), where)
              else assert.strictEqual((yield* view.stop).length, model.stop(entries).length, where)
              break
            }
            default:
              if (listener.failing.delete(next.bind)) model.failing.delete(next.bind)
              else {
                listener.failing.add(next.bind)
                model.failing.add(next.bind)
              }
          }
          yield* consistent(pool, listener)
          const found = (yield* pool.servers).map(({ bind, config, name, state }) => ({
            bind,
            name,
            maxConnections: config.settings.maxConnections,
            disabled: config.disabled,
            running: state._tag === "Running"
          }))
          const expected = model.all.map(({ config, running }) => ({ ...config, running }))
          assert.sameDeepMembers(found, expected, where)
          assert.strictEqual(yield* pool.ready, model.ready, where)
        }
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(listener.ports, [])
        assert.strictEqual(listener.collisions, 0)
      }
    })
  )

  /** Every step of the listener takes its own time, so that operations meet in every order. */
  const chaotic = (dice: Dice, listener: FakeListener) => {
    listener.pause = Effect.suspend(() => {
      const kind = dice.below(4)
      return kind === 0 ? Effect.void : kind === 1 ? Effect.yieldNow : Effect.sleep(1 + dice.below(30))
    })
  }

  const handlers: ReadonlyArray<Handler> = [hello, answer("a"), answer("b")]

  /** Whose scope ends before, while, or after it is taken. */
  const takenForAWhile = (dice: Dice, pool: ServerPool.ServerPool, bind: string) =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const taking = yield* Effect.forkChild(Scope.provide(pool.take(bind), scope), {
        startImmediately: dice.chance(0.5)
      })
      if (dice.chance(0.7)) yield* Effect.sleep(dice.below(30))
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(taking)
    }).pipe(Effect.uninterruptible)

  const operation = (
    dice: Dice,
    pool: ServerPool.ServerPool,
    listener: FakeListener
  ): Effect.Effect<unknown, unknown> => {
    const next = { ...wanted(dice, dice.of(ports)), drainDelay: dice.of([0, 0, 10]), drainTimeout: 50 }
    const secure = dice.chance(0.3) ? { ...next, tls: { inherit: true } } : next
    const lists = hasty(dice)
    switch (dice.below(15)) {
      case 0:
      case 1:
        return pool.start
      case 2:
        return pool.stop
      case 3:
        return pool.restart
      case 4:
        return pool.restartOne(next.bind)
      case 5:
        return pool.addConfig(secure, { replace: dice.chance(0.5) })
      case 6:
        return pool.remove(next.bind)
      case 7:
        return pool.update(secure)
      case 8:
        return pool.reload(lists)
      case 9:
        return pool.setHandler(dice.of(handlers))
      case 10:
        return pool.setDefaultTls(pem(String(dice.below(3))))
      case 11:
        return pool.reload(lists, { tls: pem(String(dice.below(3))) })
      case 12:
        // Its socket dies: nobody accepts there any more.
        return Effect.sync(
          () => void listener.openOnes.find((acceptor) => acceptor.address.port === portOf(next.bind))?.lose()
        )
      case 13:
        return dice.chance(0.1) ? pool.clear : Effect.flatMap(pool.filter("bind", next.bind), (view) => view.stop)
      default:
        return Effect.sync(() => {
          // Requests that nobody ends, addresses that are lost, and binds that fail for a while.
          for (const acceptor of listener.openOnes) {
            if (dice.chance(0.5)) acceptor.current?.request()
            if (dice.chance(0.2)) acceptor.lose()
          }
          listener.failing.clear()
          if (dice.chance(0.5)) listener.failing.add(next.bind)
        })
    }
  }

  /** One fiber that does what comes to mind, and now and then loses patience. */
  const user = (dice: Dice, act: () => Effect.Effect<unknown, unknown>): Effect.Effect<void> =>
    Effect.gen(function* () {
      for (let step = 0; step < 12; step++) {
        if (dice.chance(0.5)) yield* Effect.sleep(dice.below(20))
        const fiber = yield* Effect.forkChild(Effect.exit(act()), { startImmediately: dice.chance(0.5) })
        if (dice.chance(0.25)) {
          yield* Effect.sleep(dice.below(15))
          yield* Fiber.interrupt(fiber)
        }
        yield* Fiber.await(fiber)
      }
    })

  /** Lets time pass until it has ended; it must. */
  const inTime = <A, E>(fiber: Fiber.Fiber<A, E>, what: string): Effect.Effect<A, E> =>
    Effect.gen(function* () {
      for (let i = 0; i < 4000 && !ended(fiber); i++) yield* TestClock.adjust("5 millis")
      assert.isTrue(ended(fiber), `${what} hangs`)
      return yield* Fiber.join(fiber)
    })

  const settled = (listener: FakeListener): Effect.Effect<void> =>
    Effect.gen(function* () {
      // What was interrupted runs to its end in the background.
      for (let i = 0; i < 400; i++) yield* TestClock.adjust("5 millis")
      yield* turn
      assert.strictEqual(listener.opening, 0)
    })

  it.effect(
    "any operations by many fibers at once, some interrupted: never two acceptors on a bind, running = accepting, none hangs, all closed at the end",
    () =>
      Effect.gen(function* () {
        for (let seed = 1; seed <= 40; seed++) {
          const dice = new Dice(seed)
          const listener = new FakeListener()
          chaotic(dice, listener)
          const scope = yield* Scope.make()
          const pool = yield* Scope.provide(make(listener, hasty(dice), { tls: pem("0") }), scope)
          const supervised = yield* Scope.fork(scope)
          if (seed % 2 === 0) yield* Scope.provide(Supervisor.make(pool, { maxRestarts: 1000 }), supervised)
          const users = Array.from({ length: 8 }, () => user(dice, () => operation(dice, pool, listener)))
          const all = yield* Effect.forkChild(Effect.all(users, { concurrency: "unbounded" }))
          yield* inTime(all, `seed ${seed}`)
          listener.failing.clear()
          yield* settled(listener)
          yield* consistent(pool, listener)
          assert.strictEqual(listener.collisions, 0, "never two acceptors on a bind")
          yield* Scope.close(supervised, Exit.void)

          yield* inTime(yield* Effect.forkChild(pool.start), `the last start of seed ${seed}`)
          for (const server of yield* pool.servers) {
            assert.strictEqual(server.state._tag === "Running", !server.config.disabled, `seed ${seed}: all can start`)
          }
          yield* consistent(pool, listener)

          // The scope ends in the middle of more of it.
          const late = Array.from({ length: 4 }, () => user(dice, () => operation(dice, pool, listener)))
          const more = yield* Effect.forkChild(Effect.all(late, { concurrency: "unbounded" }))
          yield* TestClock.adjust("20 millis")
          yield* inTime(yield* Effect.forkChild(Scope.close(scope, Exit.void)), `the scope of seed ${seed}`)
          assert.deepStrictEqual(listener.ports, [], "every acceptor is closed at the end")
          yield* inTime(more, `what came late in seed ${seed}`)
          yield* settled(listener)
          assert.deepStrictEqual(listener.ports, [])
          for (const backend of listener.backends) assert.strictEqual(backend.drains, "drained")
        }
      }).pipe(quiet),
    60_000
  )

  it.effect(
    "the same with two pools between which servers move",
    () =>
      Effect.gen(function* () {
        for (let seed = 1; seed <= 25; seed++) {
          const dice = new Dice(seed)
          const listener = new FakeListener()
          chaotic(dice, listener)
          const scope = yield* Scope.make()
          const both = yield* Effect.forEach([0, 1], () => Scope.provide(make(listener, []), scope))
          yield* both[0]!.reload(ports.map((port) => ({ bind: `127.0.0.1:${port}`, drainTimeout: 50 })))
          const act = () => {
            const [from, to] = dice.chance(0.5) ? [both[0]!, both[1]!] : [both[1]!, both[0]!]
            const bind = `127.0.0.1:${dice.of(ports)}`
            const move = Effect.scoped(
              Effect.flatMap(from.take(bind), (taken) =>
                Option.isSome(taken) ? to.add(taken.value, { replace: dice.chance(0.5) }) : Effect.void
              )
            )
            switch (dice.below(7)) {
              case 0:
                return from.start
              case 1:
                return from.merge(to, { replace: dice.chance(0.5) })
              case 2:
              case 3:
                return move
              case 4:
                return from.addConfig({ bind, drainTimeout: 50 }, { replace: dice.chance(0.5) })
              case 5:
                return takenForAWhile(dice, from, bind)
              default:
                return operation(dice, from, listener)
            }
          }
          const users = Array.from({ length: 6 }, () => user(dice, act))
          yield* inTime(yield* Effect.forkChild(Effect.all(users, { concurrency: "unbounded" })), `seed ${seed}`)
          yield* settled(listener)
          const servers = (yield* Effect.forEach(both, (pool) => pool.servers)).flat()
          const running = servers.filter((server) => server.state._tag === "Running").map(({ bind }) => portOf(bind))
          assert.deepStrictEqual(
            running.toSorted(ascending),
            [...listener.ports],
            `seed ${seed}: every acceptor has a server`
          )
          yield* inTime(yield* Effect.forkChild(Scope.close(scope, Exit.void)), `the scope of seed ${seed}`)
          assert.deepStrictEqual(listener.ports, [])
          for (const backend of listener.backends) assert.strictEqual(backend.drains, "drained")
        }
      }).pipe(quiet),
    60_000
  )
})
