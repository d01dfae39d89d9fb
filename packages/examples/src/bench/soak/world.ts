/**
 * The world of the soak, in a process of its own: instances behind an L4 balancer, of which one or the other dies and
 * comes back. Answers as `Answers.ts` says, until it is told to be calm: then everything is up and every answer right.
 */
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type { AddressInfo, Socket } from "node:net"
import * as Balancer from "../../tour/Balancer.ts"
import { type AnswerName, choose, give } from "./Answers.ts"
import { between, make as makeRandom, type Random } from "./Random.ts"

export interface WorldArguments {
  readonly seed: number
  readonly instances: number
}

export type WorldQuestion = { readonly _tag: "Report" } | { readonly _tag: "Calm" }

export interface WorldReport {
  readonly deaths: number
  /** Connections that the balancer has with clients. */
  readonly connections: number
  readonly answers: { readonly [name: string]: number }
}

class Instance {
  private readonly name: string
  private readonly balancer: Balancer.Balancer
  private readonly world: World
  private readonly sockets = new Set<Socket>()
  private server: Http.Server | undefined

  constructor(name: string, balancer: Balancer.Balancer, world: World) {
    this.name = name
    this.balancer = balancer
    this.world = world
  }

  get up(): boolean {
    return this.server !== undefined
  }

  start(): Promise<void> {
    const server = Http.createServer({ keepAliveTimeout: 5000 }, (request, response) => {
      request.on("error", () => {})
      response.on("error", () => {})
      this.world.answer(request, response)
    })
    server.on("connection", (socket: Socket) => {
      this.sockets.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => this.sockets.delete(socket))
    })
    this.server = server
    return new Promise((resolve) => {
      server.listen(0, "127.0.0.1", () => {
        this.balancer.add(this.name, (server.address() as AddressInfo).port)
        resolve()
      })
    })
  }

  /** As a crash does it: the balancer notices only some time later. */
  die(noticedAfter: number): void {
    this.server?.close()
    for (const socket of this.sockets) socket.resetAndDestroy()
    this.server = undefined
    setTimeout(() => {
      if (this.server === undefined) this.balancer.remove(this.name)
    }, noticedAfter)
  }
}

class World {
  readonly answers: { [name: string]: number } = {}
  calm = false
  deaths = 0
  private readonly random: Random
  private readonly instances: ReadonlyArray<Instance>

  constructor(args: WorldArguments, balancer: Balancer.Balancer) {
    this.random = makeRandom(args.seed)
    this.instances = Array.from({ length: args.instances }, (_, i) => new Instance(`instance-${i}`, balancer, this))
  }

  answer(request: Http.IncomingMessage, response: Http.ServerResponse): void {
    const name: AnswerName = this.calm ? "well" : choose(this.random)
    this.answers[name] = (this.answers[name] ?? 0) + 1
    give(name, request, response, this.random)
  }

  async start(): Promise<void> {
    for (const instance of this.instances) await instance.start()
    this.trouble()
  }

  async settle(): Promise<void> {
    this.calm = true
    for (const instance of this.instances) if (!instance.up) await instance.start()
  }

  /** Every now and then an instance dies; a moment later it is back, on another port. */
  private trouble(): void {
    setTimeout(
      () => {
        if (this.calm) return
        const up = this.instances.filter((instance) => instance.up)
        const victim = up[between(this.random, 0, up.length - 1)]
        // The last one stays: a pool without any server shows nothing for as long.
        if (victim !== undefined && up.length > 1) {
          this.deaths++
          victim.die(between(this.random, 0, 300))
          setTimeout(() => void (victim.up || victim.start()), between(this.random, 200, 4000))
        }
        this.trouble()
      },
      between(this.random, 300, 3000)
    )
  }
}

const main = Effect.gen(function* () {
  const args = JSON.parse(process.argv[2] ?? "{}") as WorldArguments
  const balancer = yield* Balancer.make
  const world = new World(args, balancer)
  yield* Effect.promise(() => world.start())
  process.on("message", (question: WorldQuestion) => {
    const report = (): WorldReport => ({
      deaths: world.deaths,
      connections: Object.values(balancer.open()).reduce((sum, open) => sum + open, 0),
      answers: world.answers
    })
    if (question._tag === "Report") process.send?.({ _tag: "Report", report: report() })
    else void world.settle().then(() => process.send?.({ _tag: "Report", report: report() }))
  })
  process.send?.({ _tag: "Up", port: balancer.port })
  return yield* Effect.never
})

process.on("disconnect", () => process.exit())
void Effect.runPromise(Effect.scoped(main))
