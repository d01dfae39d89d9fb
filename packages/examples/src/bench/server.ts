/**
 * The server of the benchmark, in a process of its own: HTTP/1.1 over plain `node:net`.
 *
 * With `node:http` on the other core, the server and not the client would be measured: it is busy before the faster
 * contenders are. This one reads requests properly (any split into packets, pipelining, bodies by length) but answers
 * only what the scenarios ask, from buffers made once a second.
 *
 * While clients are measured it stays awake: between requests it looks for the next one instead of sleeping. Whoever writes
 * to a process that sleeps pays for waking a processor up, which in a virtual machine can take longer than all else that a
 * request costs, and changes: one write took 22 to 31 µs, and 7 to 11 to a process that was awake; ten minutes later 10 and
 * 5 (2026-11-21, AMD EPYC). The usual remedy, `idle=poll` at the machine's start, is not ours to set.
 *
 * Every 200th request for `/tail` is answered after 100 ms. It is counted, not drawn by lot, so that every contender
 * meets the same share.
 */
import * as Net from "node:net"
import { performance } from "node:perf_hooks"
import type { UpstreamQuestion } from "./Serving.ts"
import type { Figures } from "./subject.ts"
import { echoAnswer, largeLength, smallAnswer } from "./Work.ts"

const slowEach = 200
const slowMillis = 100

const answer = (type: string, body: Buffer | string): Buffer =>
  Buffer.concat([
    Buffer.from(
      `HTTP/1.1 200 OK\r\ndate: ${new Date().toUTCString()}\r\ncontent-type: ${type}\r\n` +
        `connection: keep-alive\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`
    ),
    Buffer.from(body)
  ])

const notFound = Buffer.from("HTTP/1.1 404 Not Found\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n")
const large = answer("application/octet-stream", Buffer.alloc(largeLength, "m"))
let small = answer("application/json", smallAnswer)
setInterval(() => {
  small = answer("application/json", smallAnswer)
}, 1000).unref()

let tails = 0
/** Pieces of requests that have come. */
let received = 0

const respond = (socket: Net.Socket, method: string, path: string, bodyLength: number): void => {
  switch (path) {
    case "/small":
      socket.write(small)
      return
    case "/echo":
      socket.write(method === "POST" ? answer("application/json", echoAnswer(bodyLength)) : notFound)
      return
    case "/large":
      socket.write(large)
      return
    case "/tail":
      if (++tails % slowEach === 0) setTimeout(() => socket.write(small), slowMillis)
      else socket.write(small)
      return
    default:
      socket.write(notFound)
  }
}

const contentLength = /\r\ncontent-length: *(\d+)/i

const serve = (socket: Net.Socket): void => {
  let rest: Buffer | undefined
  socket.on("error", () => socket.destroy())
  socket.on("data", (chunk: Buffer) => {
    received++
    let data = rest === undefined ? chunk : Buffer.concat([rest, chunk])
    rest = undefined
    while (data.length > 0) {
      const end = data.indexOf("\r\n\r\n")
      if (end < 0) break
      const head = data.toString("latin1", 0, end)
      const method = head.slice(0, head.indexOf(" "))
      const path = head.slice(method.length + 1, head.indexOf(" ", method.length + 1))
      const bodyLength = method === "GET" ? 0 : Number(contentLength.exec(head)?.[1] ?? 0)
      const next = end + 4 + bodyLength
      if (data.length < next) break
      respond(socket, method, path, bodyLength)
      data = data.subarray(next)
    }
    if (data.length > 0) rest = data
  })
}

const server = Net.createServer({ noDelay: true }, serve)

let awake = false
/** Milliseconds that went into looking for nothing. */
let waited = 0
/** A look that takes longer has found something to do: a piece of a long answer could be written. */
const shortLook = 0.02

const look = (lastAt: number, lastReceived: number): void => {
  if (!awake) return
  const now = performance.now()
  if (received === lastReceived && now - lastAt < shortLook) waited += now - lastAt
  setImmediate(look, now, received)
}

const stay = (yes: boolean): void => {
  const was = awake
  awake = yes
  if (yes && !was) look(performance.now(), received)
}

// Near 1 it is the server that is measured.
let since = { at: performance.now(), cpu: process.cpuUsage(), waited }
const figures = (): Figures => {
  const now = { at: performance.now(), cpu: process.cpuUsage(), waited }
  const elapsed = now.at - since.at
  const used = (now.cpu.user + now.cpu.system - since.cpu.user - since.cpu.system) / 1000 / elapsed
  const waiting = Math.min((now.waited - since.waited) / elapsed, used)
  since = now
  return { busy: used - waiting, waiting, gc: 0 }
}

process.on("message", (question: UpstreamQuestion) => {
  if (question._tag === "Stay") stay(question.awake)
  process.send?.(figures())
})
process.on("disconnect", () => process.exit())
server.listen(0, "127.0.0.1", () => {
  process.send?.({ _tag: "Listening", port: (server.address() as Net.AddressInfo).port })
})
