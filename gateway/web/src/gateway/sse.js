// @ts-check

/**
 * A server-sent event of the gateway, its data read as JSON.
 * @typedef {{event: string, data: any}} ServerEvent
 */

/**
 * The lines of a text that comes in chunks, without their ends.
 * @param {AsyncIterable<string>} chunks
 */
export async function* lines(chunks) {
  /** @type {string[]} */
  let pieces = []; // of the line that hasn't ended: the result is one line of many megabytes
  for await (const chunk of chunks) {
    const [rest, ...further] = chunk.split("\n");
    pieces.push(rest ?? "");
    for (const piece of further) {
      yield pieces.join("").replace(/\r$/, "");
      pieces = [piece];
    }
  }
}

/**
 * The events of a stream. One that the stream's end cuts off is left out.
 * @param {AsyncIterable<string>} chunks
 * @returns {AsyncGenerator<ServerEvent, void>}
 */
export async function* events(chunks) {
  let event = "message";
  /** @type {string[]} */
  let data = [];
  for await (const line of lines(chunks)) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    else if (line === "") {
      if (data.length) yield { event, data: JSON.parse(data.join("\n")) };
      event = "message";
      data = [];
    }
  }
}
