/**
 * Plain text for people: headlines, paragraphs, tables, verdicts. Never wider than 100 columns, and readable without
 * colour; colour only adds.
 */

export interface Table {
  readonly title: string
  /** The first column is text and goes left; the others are figures and go right. */
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string | number>>
}

export interface Claim {
  readonly text: string
  readonly holds: boolean
  /** What was seen, in a few words. */
  readonly seen: string
}

export interface Report {
  readonly headline: (text: string) => string
  readonly paragraph: (text: string) => string
  readonly table: (table: Table) => string
  readonly claim: (claim: Claim) => string
}

export interface Options {
  readonly columns?: number | undefined
  readonly colour?: boolean | undefined
}

export const maxColumns = 100
const minColumns = 60

export const make = (options: Options = {}): Report => {
  const width = Math.min(maxColumns, Math.max(minColumns, options.columns ?? maxColumns))
  const style = (code: number) => (text: string) => (options.colour === true ? `\x1b[${code}m${text}\x1b[0m` : text)
  const bold = style(1)
  const dim = style(2)
  const green = style(32)
  const red = style(31)

  return {
    headline: (text) => {
      const line = shorten(text, width)
      return `${bold(line)}\n${dim("=".repeat(line.length))}\n`
    },
    paragraph: (text) => `${wrap(text, width).join("\n")}\n`,
    table: (table) => {
      const { cells, widths } = layOut(table, width)
      const lines = cells.map((row) =>
        row
          .map((cell, i) => pad(cell, widths[i] ?? 0, i))
          .join(gap)
          .trimEnd()
      )
      const [head = "", ...body] = lines
      const rule = "-".repeat(Math.max(...lines.map((line) => line.length)))
      return [shorten(table.title, width), dim(rule), bold(head), ...body, dim(rule), ""].join("\n")
    },
    claim: ({ holds, seen, text }) => {
      const mark = holds ? "holds " : "FAILED"
      const [first = "", ...rest] = wrap(`${text} (${seen})`, width - 8)
      return [`${(holds ? green : red)(mark)}  ${first}`, ...rest.map((line) => `        ${line}`), ""].join("\n")
    }
  }
}

const gap = "  "

const pad = (text: string, width: number, column: number): string =>
  column === 0 ? text.padEnd(width) : text.padStart(width)

/** The widths of the columns; the first one gives way when the table would be too wide. */
const layOut = ({ columns, rows }: Table, width: number) => {
  const cells = [columns, ...rows].map((row) => row.map((cell) => printable(String(cell))))
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)))
  const rest = widths.slice(1).reduce((sum, w) => sum + w + gap.length, 0)
  const first = Math.max(8, Math.min(widths[0] ?? 0, width - rest))
  return {
    widths: [first, ...widths.slice(1)],
    cells: cells.map(([head = "", ...figures]) => [shorten(head, first), ...figures])
  }
}

/** Text from a server, as a terminal may see it: no control characters. */
export const printable = (text: string): string => text.replaceAll(/\p{C}/gu, "?")

export const shorten = (text: string, width: number): string =>
  text.length <= width ? text : `${text.slice(0, Math.max(0, width - 3))}...`

const wrap = (text: string, width: number): Array<string> => {
  const lines: Array<string> = []
  let line = ""
  for (const word of text.split(" ").map((word) => shorten(word, width))) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line)
      line = ""
    }
    line = line === "" ? word : `${line} ${word}`
  }
  return line === "" ? lines : [...lines, line]
}
