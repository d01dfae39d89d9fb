/** What a user sees of the servers of a pool, or of some of them. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Handler } from "../Listener.ts"
import * as ServerConfig from "../ServerConfig.ts"
import type { Server } from "../Server.ts"
import { type Reason, ServerPoolError } from "../ServerError.ts"
import type { AddOptions, ReloadOptions, ServerGroup, ServerPool, Which } from "../ServerPool.ts"
import { type Field, matcher, textOf } from "./fieldMatch.ts"
import { type Platform, PoolCore } from "./poolCore.ts"
import { find, keyOf, keysOf } from "./registry.ts"
import * as Reload from "./reload.ts"
import * as Announcer from "./serverAnnouncer.ts"
import { ServerUnit } from "./serverUnit.ts"
import type { Spec } from "./spec.ts"
import { attempt, failed, poolError, together } from "./together.ts"
import { refused } from "./refused.ts"

type Select = () => ReadonlyArray<ServerUnit>

const empty = (detail: string): ServerPoolError => new ServerPoolError({ reason: "ParamEmpty", servers: [], detail })

const shown = (which: Which): string => (typeof which === "string" ? JSON.stringify(which) : which.bind)

const unknown = (reason: Reason, which: Which): ServerPoolError =>
  new ServerPoolError({ reason, servers: [], detail: `there is no server ${shown(which)}` })

type Matches = (unit: ServerUnit) => boolean

const matches = (
  field: Field,
  pattern: string | undefined,
  regex: string | RegExp | undefined
): Effect.Effect<Matches, ServerPoolError> =>
  Effect.suspend(() =>
    Effect.map(Effect.fromResult(matcher(field, pattern, regex)), (found) => (unit: ServerUnit) => found(unit.config))
  )

const given = (pattern: string | undefined, regex: string | RegExp | undefined): boolean =>
  (pattern ?? "") !== "" || (regex ?? "") !== ""

/** Some of the servers of a pool. */
const group = (core: PoolCore, select: Select): ServerGroup => {
  const one = (which: Which) => find(select(), which)
  return {
    start: Effect.suspend(() => core.start(select())),
    stop: Effect.suspend(() => core.stop(select())),
    restart: Effect.suspend(() => core.restart(select())),
    restartOne: (which) =>
      Effect.suspend(() => {
        const unit = one(which)
        return unit === undefined ? Effect.fail(unknown("Restart", which)) : core.restart([unit])
      }),
    isRunning: Effect.sync(() => select().some((unit) => unit.address !== undefined)),
    uptime: Effect.sync(() => Duration.millis(Math.max(0, ...select().map((unit) => unit.upMillis())))),
    ready: Effect.sync(() => {
      const wanted = select().filter((unit) => unit.isWanted)
      return wanted.length > 0 && wanted.every((unit) => unit.isReady)
    }),
    servers: Effect.sync(select),
    size: Effect.sync(() => select().length),
    get: (which) => Effect.sync(() => Option.fromUndefinedOr(one(which))),
    has: (which) => Effect.sync(() => one(which) !== undefined),
    forEach: (f) => Effect.suspend(() => Effect.forEach(select(), f, { discard: true })),
    forEachOf: (binds, f) =>
      Effect.suspend(() => {
        const units = Array.from(binds, one).filter((unit) => unit !== undefined)
        return Effect.forEach(units, f, { discard: true })
      }),
    filter: (field, pattern, regex) => {
      // A variable that happens to be empty must not mean all servers.
      if (!given(pattern, regex)) return Effect.fail(empty("filter needs a pattern or a regex"))
      return Effect.map(matches(field, pattern, regex), (meant) => group(core, () => select().filter(meant)))
    },
    list: (source, target, pattern, regex) =>
      Effect.map(given(pattern, regex) ? matches(source, pattern, regex) : Effect.succeed(() => true), (meant) =>
        select()
          .filter(meant)
          .map((unit) => textOf(unit.config, target))
      ),
    clone: Effect.suspend(() => {
      const specs = select().map(({ spec }) => spec)
      return make(core.name, core, specs, core.handlers, core.tls)
    })
  }
}

/** A pool of servers that are not started. */
export const make = (
  name: string,
  platform: Platform,
  specs: ReadonlyArray<Spec>,
  handlers: ReadonlyMap<string, Handler>,
  tls: ServerConfig.DefaultTls | undefined
): Effect.Effect<ServerPool, never, Scope.Scope> =>
  Effect.gen(function* () {
    const announcer = yield* Announcer.make
    const core = new PoolCore(name, platform, announcer, handlers, tls)
    for (const spec of specs) core.registry.add(new ServerUnit(spec, core))
    yield* Effect.addFinalizer(() => core.close)
    return face(core)
  })

const face = (core: PoolCore): ServerPool => {
  const all = () => core.registry.all
  const one = (which: Which) => find(all(), which)
  const surroundings = (): ServerConfig.Surroundings => ({ handlers: core.handlers.keys(), tls: core.tls })
  const rejected = (error: ServerConfig.ConfigError) => core.announce({ _tag: "ConfigRejected", error })

  const validated = (options: ServerConfig.Options) =>
    Effect.tapError(
      Effect.suspend(() => ServerConfig.resolve(options, surroundings())),
      rejected
    )

  const specsOf = (options: ReadonlyArray<ServerConfig.Options>, around: ServerConfig.Surroundings) =>
    Effect.map(Effect.tapError(ServerConfig.resolveAll(options, around), rejected), (configs) => {
      const keys = keysOf(configs)
      return configs.map((config, index): Spec => ({ key: keys[index]!, options: options[index]!, config }))
    })

  /** The default TLS is what it was where the list cannot come into force. */
  const apply = (
    units: ReadonlyArray<ServerUnit>,
    specs: ReadonlyArray<Spec>,
    tls: ServerConfig.DefaultTls | undefined,
    anew?: Reload.Anew
  ) =>
    Effect.suspend(() => {
      const previous = core.tls
      core.tls = tls
      return Effect.onError(Reload.apply(core, units, specs, anew), (cause) =>
        Effect.sync(() => {
          const error = Option.getOrUndefined(Cause.findErrorOption(cause))
          // What left could not be stopped in order: the list is in force.
          if (error?.reason !== "Stop") core.tls = previous
        })
      )
    })

  const reload: ServerPool["reload"] = (configs, { tls = core.tls }: ReloadOptions = {}) =>
    Effect.flatMap(specsOf(configs, { ...surroundings(), tls }), (specs) => apply(all(), specs, tls))

  /** The servers stay; what is given to them is read again. */
  const setDefaultTls: ServerPool["setDefaultTls"] = (tls) =>
    Effect.gen(function* () {
      const units = all()
      const given = units.map(({ spec }) => spec.options)
      const specs = yield* specsOf(given, { ...surroundings(), tls })
      const again = specs.map((spec, index) => ({ ...spec, key: units[index]!.spec.key }))
      // An update that came before, and waits for its turn, stays in force.
      yield* apply(units, again, tls, ({ key, options }) =>
        Effect.map(ServerConfig.resolve(options, { ...surroundings(), tls }), (config) => ({ key, options, config }))
      )
    })

  /** One that cannot be put in goes back to where it was. */
  const move = (other: ServerPool, server: Server, replace: boolean) =>
    Effect.flatMap(
      other.take(server),
      Option.match({
        onNone: () => Effect.void,
        onSome: (taken) => Effect.tapError(adopt(taken, replace), () => Effect.ignore(other.add(taken)))
      })
    )

  const adopt = (server: Server, replace: boolean): Effect.Effect<Server, ServerPoolError> =>
    server instanceof ServerUnit
      ? core.toEnd(core.adopt(server, replace))
      : Effect.fail(empty("add needs a server that was taken from a pool; addConfig makes one"))

  const merge = (other: ServerPool, replace: boolean): Effect.Effect<void, ServerPoolError> =>
    Effect.gen(function* () {
      const servers = yield* other.servers
      const there = servers.filter(({ config }) => core.registry.get(keyOf(config, () => false)) !== undefined)
      const both = replace ? [] : there.filter(({ config }) => config.bind.port !== 0)
      if (both.length > 0) {
        const cause = refused("both pools have a server with this bind: merge with replace")
        return yield* new ServerPoolError({ reason: "Add", servers: both.map((server) => failed(server, cause)) })
      }
      const { failures } = yield* Effect.scoped(attemptAll(servers, (server) => move(other, server, replace)))
      if (failures.length > 0) return yield* new ServerPoolError({ reason: "Add", servers: failures })
    })

  const pool: ServerPool = {
    ...group(core, all),
    name: core.name,
    start: core.startAll,
    stop: core.stopAll,
    addConfig: (options, { replace = false }: AddOptions = {}) => {
      const read = Effect.map(validated(options), (config) => {
        const key = replace ? keyOf(config, () => false) : core.registry.keyOf(config)
        return { key, options, config }
      })
      return core.add(read, replace)
    },
    add: (server, { replace = false }: AddOptions = {}) => adopt(server, replace),
    remove: (which) =>
      Effect.suspend(() => {
        const unit = one(which)
        if (unit === undefined) return Effect.succeedNone
        const out = Effect.mapError(core.remove(unit), (cause) => poolError("Stop", unit, cause))
        return Effect.map(out, Option.fromUndefinedOr)
      }),
    take: (which) =>
      Effect.suspend(() => {
        const unit = one(which)
        return unit === undefined ? Effect.succeedNone : Effect.map(core.take(unit), Option.fromUndefinedOr)
      }),
    clear: Effect.suspend(() =>
      Effect.map(
        together("Stop", all(), (unit) => core.remove(unit)),
        (reports) => reports.filter((report) => report !== undefined)
      )
    ),
    update: (options) =>
      Effect.flatMap(validated(options), (config): Effect.Effect<Server, ServerPoolError> => {
        const key = keyOf(config, () => false)
        const unit = core.registry.get(key)
        if (unit === undefined) return Effect.fail(unknown("Validate", options.bind))
        const update = core.locked(unit, Effect.as(unit.update({ key, options, config }), unit))
        return Effect.flatMap(
          Effect.mapError(core.toEnd(update), (cause) => poolError("Validate", unit, cause)),
          (updated) =>
            updated === undefined ? Effect.fail(unknown("Validate", options.bind)) : Effect.succeed(updated)
        )
      }),
    reload: (configs, options) => core.toEnd(core.reloading.withPermit(Effect.suspend(() => reload(configs, options)))),
    reject: rejected,
    setHandler: (handler, key) => core.setHandler(handler, key),
    handler: (key = "default") => Effect.sync(() => Option.fromUndefinedOr(core.handler(key))),
    setDefaultTls: (tls) => core.toEnd(core.reloading.withPermit(setDefaultTls(tls))),
    merge: (other, { replace = false }: AddOptions = {}) =>
      other === pool ? Effect.void : core.toEnd(merge(other, replace)),
    events: core.announcer.stream
  }
  return pool
}

/** `attempt`, for what needs a scope. */
const attemptAll = <A>(
  servers: ReadonlyArray<Server>,
  act: (server: Server) => Effect.Effect<A, unknown, Scope.Scope>
) =>
  Effect.flatMap(Effect.context<Scope.Scope>(), (context) =>
    attempt(servers, (server) => Effect.provideContext(act(server), context))
  )
