// Server-sent events from a `fetch` body (WHATWG HTML, section 9.2), as far as OpenAI's streams use them.

/** Yields the data of each event. Pieces may be cut anywhere, also inside a character or between CR and LF. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const split = lineSplitter();
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return; // an event without its empty line was cut off: dropped, as the standard says
      for (const line of split(value)) {
        if (line === "") {
          if (data.length > 0) yield data.join("\n");
          data = [];
        } else if (line === "data" || line.startsWith("data:")) {
          data.push(line.slice(5).replace(/^ /, ""));
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // whoever stops reading lets the answer go
  }
}

/** Returns text -> its whole lines; the rest waits for the next text. A line ends with LF, CR or CR LF. */
function lineSplitter() {
  let rest = "";
  let endedWithCr = false;
  return (text) => {
    if (text === "") return [];
    const fresh = endedWithCr && text.startsWith("\n") ? text.slice(1) : text;
    endedWithCr = text.endsWith("\r");
    const lines = (rest + fresh).split(/\r\n|\n|\r/);
    rest = lines.pop();
    return lines;
  };
}
