/** RFC 9110, PATCH (RFC 5789) and QUERY: what OpenTelemetry calls known. */
const known: ReadonlySet<string> = new Set([
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
  "CONNECT",
  "OPTIONS",
  "TRACE",
  "PATCH",
  "QUERY"
])

/** The method as metrics and spans name it: whoever sends made-up ones must not fill the memory with series. */
export const methodName = (method: string): string => (known.has(method) ? method : "_OTHER")
