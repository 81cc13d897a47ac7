// The same request for a terminal or a program. The key is never in it: it comes from the environment.
import { PATH } from "./ask.js";

const OWN_FIELDS = ["cascade", "use_cache"]; // not OpenAI's: its SDK wants them apart

/** language: curl, python or javascript. needsKey: whether the gateway was asked with one. */
export function snippet(language, body, { origin, needsKey }) {
  return { curl, python, javascript }[language](body, origin, needsKey);
}

function curl(body, origin, needsKey) {
  const lines = [`curl -N ${origin}${PATH}`, `  -H 'content-type: application/json'`];
  if (needsKey) lines.push(`  -H "authorization: Bearer $NEARSIDE_KEY"`);
  lines.push(`  -d '${JSON.stringify(body, null, 2).replaceAll("'", `'\\''`)}'`);
  return lines.join(" \\\n");
}

function python(body, origin, needsKey) {
  const { extra, standard } = parted(body);
  const fields = Object.entries(standard).map(([name, value]) => `    ${name}=${pythonLiteral(value)},`);
  if (extra) fields.push(`    extra_body=${pythonLiteral(extra)},`);
  const key = needsKey ? 'os.environ["NEARSIDE_KEY"]' : '"unused"';
  return `${needsKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key=${key})
stream = client.chat.completions.create(
${fields.join("\n")}
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
`;
}

function javascript(body, origin, needsKey) {
  const key = needsKey ? "process.env.NEARSIDE_KEY" : '"unused"';
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${origin}/v1", apiKey: ${key} });
const stream = await client.chat.completions.create(${JSON.stringify(body, null, 2)});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
`;
}

function parted(body) {
  const own = Object.entries(body).filter(([name]) => OWN_FIELDS.includes(name));
  const standard = Object.fromEntries(Object.entries(body).filter(([name]) => !OWN_FIELDS.includes(name)));
  return { standard, extra: own.length > 0 ? Object.fromEntries(own) : null };
}

function pythonLiteral(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${pythonLiteral(each)}`).join(", ")}}`;
  return JSON.stringify(value); // JSON's strings and numbers are Python's as well
}
