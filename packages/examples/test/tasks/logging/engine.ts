/**
 * A process that speaks as much of ClickHouse's HTTP interface as its client needs, in front of the real engine, which `chdb`
 * embeds: `node engine.ts PORT DIRECTORY PASSWORD`. The engine blocks its thread while it works.
 */
import { Session } from "chdb"
import { createServer, type IncomingMessage } from "node:http"
import { text } from "node:stream/consumers"

const [port, directory, password = ""] = process.argv.slice(2)
const session = new Session(directory)

const codeOf = (message: string): string => /Code: (\d+)/.exec(message)?.[1] ?? "1002"

/** Settings come with the URL; of those the engine is given what it has to know. */
const withToken = (query: string, token: string | null): string =>
  token === null ? query : query.replace(/ FORMAT /i, ` settings insert_deduplication_token = '${token}' FORMAT `)

const answer = (request: IncomingMessage, body: string): string => {
  const url = new URL(request.url ?? "/", "http://engine")
  if (url.pathname === "/ping") return "Ok.\n"
  const authorization = Buffer.from((request.headers.authorization ?? "").replace("Basic ", ""), "base64").toString()
  if (authorization !== `default:${password}`) {
    throw new Error(
      "Code: 516. DB::Exception: default: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
    )
  }
  const query = url.searchParams.get("query")
  if (query === null) return session.query(body)
  return session.query(`${withToken(query, url.searchParams.get("insert_deduplication_token"))}\n${body}`)
}

const server = createServer((request, response) => {
  void text(request).then((body) => {
    try {
      response.end(answer(request, body))
    } catch (error) {
      const message = String(error).replace(/^.*?(?=Code: )/s, "")
      const code = codeOf(message)
      response.writeHead(code === "516" ? 403 : code === "60" || code === "81" ? 404 : 500, {
        "x-clickhouse-exception-code": code
      })
      response.end(`${message}\n`)
    }
  })
})

server.listen(Number(port), "127.0.0.1", () => process.stderr.write("Ready for connections\n"))
