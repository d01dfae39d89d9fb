/** What streams go to: `GET /<bytes>` sends so many, as fast as they are taken; a POST is read and counted. */
import * as Http from "node:http"
import { listen } from "./Listening.ts"
import type { Subject } from "./Subject.ts"

const chunk = Buffer.alloc(64 * 1024, "m")

const download = (bytes: number, response: Http.ServerResponse): void => {
  let left = bytes
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": bytes })
  const write = () => {
    while (left > 0) {
      const size = Math.min(left, chunk.length)
      left -= size
      if (!response.write(chunk.subarray(0, size))) return
    }
    response.off("drain", write).end()
  }
  response.on("drain", write)
  write()
}

const upload = (request: Http.IncomingMessage, response: Http.ServerResponse): void => {
  let received = 0
  request.on("data", (data: Buffer) => (received += data.length))
  request.on("end", () => response.end(String(received)))
}

export const subject: Subject = () =>
  listen(
    Http.createServer((request, response) => {
      if (request.method === "POST") upload(request, response)
      else download(Number(request.url?.slice(1)), response)
    })
  )
