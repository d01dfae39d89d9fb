import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { Sse } from "effect/encoding"
import { EventParser, type ParsedEvent } from "../../../src/client/internal/eventParser.ts"

const utf8 = new TextEncoder()

const parse = (pieces: ReadonlyArray<string | Uint8Array>, maxSize = 1000, lastEventId = "") => {
  const parser = new EventParser(maxSize, lastEventId)
  const events: Array<ParsedEvent> = []
  for (const piece of pieces) parser.feed(typeof piece === "string" ? utf8.encode(piece) : piece, events)
  return { parser, events }
}

const message = (data: string, id = "", event = "message") => ({ event, data, id })

const bytewise = (text: string) => Array.from(utf8.encode(text), (byte) => Uint8Array.of(byte))

// What makes a difference to the parser, and what does not.
const parts = [
  "data:",
  "data: ",
  "data",
  "id:",
  "id: ",
  "event:",
  "retry:",
  ":",
  "x",
  " ",
  "é",
  "7",
  "\n",
  "\r",
  "\r\n",
  "\n\n"
]

describe("eventParser", () => {
  it("events, names and ids as the examples of the standard have them (9.2.6)", () => {
    const { events } = parse([
      "data: YHOO\ndata: +2\ndata: 10\n\n",
      ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
      "data\n\ndata\ndata\n\ndata:"
    ])
    assert.deepStrictEqual(events, [
      message("YHOO\n+2\n10"),
      message("first event", "1"),
      message("second event"),
      message(" third event"),
      message(""),
      message("\n")
    ])
  })

  it("CR, LF and CRLF end a line, also where a chunk ends between CR and LF", () => {
    const expected = [message("a"), message("b"), message("c")]
    const text = "data:a\n\ndata:b\r\rdata:c\r\n\r\n"
    assert.deepStrictEqual(parse([text]).events, expected)
    assert.deepStrictEqual(parse(bytewise(text)).events, expected)
  })

  it("one byte order mark at the beginning is dropped, a second is not, nor one later", () => {
    assert.deepStrictEqual(parse(["\uFEFFdata:a\n\n"]).events, [message("a")])
    assert.deepStrictEqual(parse(bytewise("\uFEFFdata:a\n\n")).events, [message("a")])
    assert.deepStrictEqual(parse(["\uFEFF\uFEFFdata:a\n\n"]).events, [])
    assert.deepStrictEqual(parse(["data:\uFEFFa\n\n"]).events, [message("\uFEFFa")])
  })

  it("a character of several bytes may be cut anywhere; bytes that are none become U+FFFD", () => {
    assert.deepStrictEqual(parse(bytewise("data:é€😀\n\n")).events, [message("é€😀")])
    assert.deepStrictEqual(parse([utf8.encode("data:"), Uint8Array.of(0xff), utf8.encode("\n\n")]).events, [
      message("\uFFFD")
    ])
  })

  it("an id with NUL is ignored, an empty one takes the id away", () => {
    const { events, parser } = parse(["id:1\ndata:a\n\nid:2\0\ndata:b\n\nid:\ndata:c\n\n"])
    assert.deepStrictEqual(events, [message("a", "1"), message("b", "1"), message("c")])
    assert.strictEqual(parser.lastEventId, "")
  })

  it("a block with an id alone is no event but moves the id; an incomplete one does not", () => {
    const { events, parser } = parse(["id: 5\n\nid: 6\ndata: x\n"])
    assert.deepStrictEqual(events, [])
    assert.strictEqual(parser.lastEventId, "5")
  })

  it("the id of the connection before holds until the server gives another", () => {
    assert.deepStrictEqual(parse(["data:a\n\nid:8\ndata:b\n\n"], 1000, "7").events, [
      message("a", "7"),
      message("b", "8")
    ])
  })

  it("`retry` takes digits only", () => {
    const retry = (line: string) => parse([`${line}\n`]).parser.retry
    assert.strictEqual(retry("retry: 1500"), 1500)
    assert.strictEqual(retry("retry:0"), 0)
    for (const bad of ["retry", "retry:", "retry: -1", "retry: 1.5", "retry: 1s", "retry:  1", "retry: ١"]) {
      assert.isUndefined(retry(bad), bad)
    }
  })

  it("an event name does not outlive its block", () => {
    assert.deepStrictEqual(parse(["event: x\n\ndata: a\n\nevent: y\ndata: b\n\n"]).events, [
      message("a"),
      message("b", "", "y")
    ])
  })

  it("an endless line is too large, in one chunk or in many", () => {
    assert.isTrue(parse(["data:", "x".repeat(20)], 20).parser.tooLarge)
    assert.isTrue(parse(bytewise(`:${"x".repeat(20)}`), 20).parser.tooLarge)
    assert.isTrue(parse([`data:${"x".repeat(20)}\n\n`], 20).parser.tooLarge)
    assert.isFalse(parse([`data:${"x".repeat(15)}\n\n`], 20).parser.tooLarge)
  })

  it("so is an endless event of short lines, of data without content too", () => {
    assert.isTrue(parse(["data:\n".repeat(30)], 20).parser.tooLarge)
    assert.isTrue(parse([`event:${"x".repeat(12)}\n`, "data:1234567\n"], 20).parser.tooLarge)
  })

  it("once too large it takes no more", () => {
    const { events } = parse(["data:a\n\ndata:", "x".repeat(30), "\n\ndata:b\n\n"], 20)
    assert.deepStrictEqual(events, [message("a")])
  })

  it("heartbeats for ever are not one large event", () => {
    const { events, parser } = parse([": still here\n".repeat(1000), "data: a\n\n"], 20)
    assert.isFalse(parser.tooLarge)
    assert.deepStrictEqual(events, [message("a")])
  })

  it.prop(
    "gives the events of Effect's parser, however the bytes are cut",
    [
      Arbitrary.schema(Schema.Array(Schema.Literals(parts))),
      Arbitrary.schema(Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 7 }))))
    ],
    ([words, sizes]) => {
      const text = words.join("")
      const theirs: Array<ParsedEvent> = []
      const sse = Sse.makeParser((event) => {
        if (event._tag === "Event") theirs.push({ event: event.event, data: event.data, id: event.id ?? "" })
      })
      sse.feed(text)
      const bytes = utf8.encode(text)
      const pieces: Array<Uint8Array> = []
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % Math.max(1, sizes.length)] ?? bytes.length
        pieces.push(bytes.subarray(at, at + size))
        at += size
      }
      assert.deepStrictEqual(parse(pieces).events, theirs)
    },
    { arbitrary: { runs: 500, seed: 7 } }
  )
})
