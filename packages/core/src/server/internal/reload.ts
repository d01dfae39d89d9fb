/**
 * A list of configurations comes into force: only what differs is touched, and where something cannot be, all is put back.
 *
 * 1. Servers that are not in the list, and whose address is needed, leave.
 * 2. Servers that differ are updated, new ones are put in.
 * 3. Only when all of that has worked the others that are not in the list leave. Nothing fails any more.
 *
 * Put back is, in reverse: new servers leave; changed ones get their old configuration, and where theirs had a backend of
 * its own a new backend with the old settings takes over; servers that had left are put in again and started if they ran.
 * Connections that drain by then go on to drain.
 */
import * as Effect from "effect/Effect"
import { clash } from "./bind.ts"
import type { Failed } from "../ServerError.ts"
import { ServerPoolError } from "../ServerError.ts"
import type { PoolCore } from "./poolCore.ts"
import type { ServerUnit } from "./serverUnit.ts"
import { changeOf, type Spec } from "./spec.ts"
import { attempt, failed } from "./together.ts"
import { Refused } from "./refused.ts"

/** How one step is taken back. */
interface Undo {
  readonly server: { readonly name: string; readonly bind: string }
  readonly run: Effect.Effect<unknown, unknown>
}

interface Changed {
  readonly name: string
  readonly bind: string
  readonly unit: ServerUnit
  /** What `next` was made of. */
  readonly was: Spec
  readonly next: Spec
}

/** What a server becomes that has changed while its turn was awaited; without it what was planned comes into force. */
export type Anew = (now: Spec) => Effect.Effect<Spec, unknown>

const named = (spec: Spec) => ({ name: spec.config.name, bind: spec.config.bind.key, spec })

const removal = (core: PoolCore, unit: ServerUnit): Effect.Effect<Undo, unknown> =>
  Effect.suspend(() => {
    const { spec, wanted } = unit
    // It is there again also where it cannot be started: the next start tries it.
    const added = core.add(Effect.succeed(spec), false, false)
    const again = Effect.flatMap(added, (unit) => (wanted ? core.start([unit]) : Effect.void))
    return Effect.as(core.remove(unit, "vacate"), { server: unit, run: again })
  })

const update = (core: PoolCore, { next, unit, was }: Changed, anew: Anew | undefined): Effect.Effect<Undo, unknown> => {
  const change = Effect.suspend(() => {
    const { spec, wanted } = unit
    const planned = spec === was || anew === undefined ? Effect.succeed(next) : anew(spec)
    return Effect.flatMap(planned, (known) => {
      if (changeOf(spec, known) === undefined) return Effect.succeed(undefined)
      return Effect.as(unit.update(known), core.locked(unit, unit.putBack(spec, wanted)))
    })
  })
  return Effect.map(core.locked(unit, change), (run: Undo["run"] = Effect.void) => ({ server: unit, run }))
}

const addition = (core: PoolCore, spec: Spec): Effect.Effect<Undo, unknown> =>
  Effect.map(core.add(Effect.succeed(spec), false), (unit) => ({ server: unit, run: core.remove(unit) }))

const rollBack = (undos: ReadonlyArray<Undo>): Effect.Effect<ReadonlyArray<Failed>> =>
  Effect.map(
    Effect.forEach(undos.toReversed(), ({ run, server }) =>
      Effect.matchCause(run, {
        onSuccess: () => [],
        onFailure: (cause) => [failed(server, new Refused({ message: "could not be put back", cause }))]
      })
    ),
    (failures) => failures.flat()
  )

/** `units` are those that the list speaks about. */
export const apply = (
  core: PoolCore,
  units: ReadonlyArray<ServerUnit>,
  specs: ReadonlyArray<Spec>,
  anew?: Anew
): Effect.Effect<void, ServerPoolError> =>
  Effect.gen(function* () {
    const wanted = new Map(specs.map((spec) => [spec.key, spec]))
    const added = specs.filter((spec) => !units.some((unit) => unit.spec.key === spec.key)).map(named)
    const changed = units.flatMap((unit): ReadonlyArray<Changed> => {
      const next = wanted.get(unit.spec.key)
      const was = unit.spec
      if (next === undefined) return []
      // Where all is read anew, an update that waits for its turn may make another of one that would stay as it is.
      const mayDiffer = anew !== undefined && unit.membership === "member"
      if (changeOf(was, next) === undefined && !mayDiffer) return []
      return [{ name: unit.name, bind: unit.bind, unit, was, next }]
    })
    const removed = units.filter((unit) => !wanted.has(unit.spec.key))
    const inTheWay = removed.filter((unit) => added.some(({ spec }) => clash(spec.config.bind, unit.config.bind)))

    const undos: Array<Undo> = []
    const failures: Array<Failed> = []
    const step = <S extends { readonly name: string; readonly bind: string }>(
      servers: ReadonlyArray<S>,
      act: (server: S) => Effect.Effect<Undo, unknown>
    ): Effect.Effect<void> =>
      Effect.map(attempt(servers, act), (outcome) => {
        undos.push(...outcome.done.map(([, undo]) => undo))
        failures.push(...outcome.failures)
      })

    yield* step(inTheWay, (unit) => removal(core, unit))
    if (failures.length === 0) yield* step(changed, (change) => update(core, change, anew))
    if (failures.length === 0) yield* step(added, ({ spec }) => addition(core, spec))
    if (failures.length > 0) {
      const left = yield* rollBack(undos)
      // What could not be put back has to be started by hand; else all is as it was.
      const reason = left.length === 0 ? "Validate" : "Restart"
      const error = new ServerPoolError({ reason, servers: [...failures, ...left] })
      yield* core.announce({ _tag: "RolledBack", error })
      return yield* error
    }
    const rest = removed.filter((unit) => !inTheWay.includes(unit))
    const { failures: unclean } = yield* attempt(rest, (unit) => core.remove(unit, "vacate"))
    const binds = (servers: ReadonlyArray<{ readonly bind: string }>) => servers.map(({ bind }) => bind)
    const differing = changed.filter(({ unit, was }) => changeOf(was, unit.spec) !== undefined)
    yield* core.announce({
      _tag: "Reloaded",
      added: binds(added),
      changed: binds(differing),
      removed: binds(removed)
    })
    if (unclean.length > 0) return yield* new ServerPoolError({ reason: "Stop", servers: unclean })
  })
