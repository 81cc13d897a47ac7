// The playground: reads the form, asks, and shows what comes.
import { ask, bodyOf } from "./ask.js";
import { showBadge } from "./badge.js";
import { element } from "./dom.js";
import { milliseconds } from "./format.js";
import { storedKey, storeKey } from "./key.js";
import { snippet } from "./snippets.js";
import { showWaterfall } from "./waterfall.js";

const $ = (id) => document.getElementById(id);
const MODEL_OWN = -0.1; // the slider's lowest step: no temperature is sent
let running = null; // the AbortController of what is being asked

/** One panel with a question's answer. */
class AnswerPanel {
  constructor(title, isFirst) {
    this.root = $("answer").content.cloneNode(true).firstElementChild;
    const find = (selector) => this.root.querySelector(selector);
    [this.state, this.text, this.badge, this.bars] = [".state", ".text", ".badge", ".bars"].map(find);
    find(".side").textContent = title;
    this.text.ariaLabel = `Answer, ${title}`;
    this.report = null;
    if (!isFirst) find(".hints").remove(); // once is enough
    showBadge(this.badge, null);
    showWaterfall(this.bars, {}, null);
  }

  async run(body, key, signal) {
    this.become("waiting");
    this.text.replaceChildren();
    this.text.dataset.streaming = "";
    try {
      const on = { text: (piece) => this.add(piece), report: (report) => this.know(report) };
      const browser = await ask(body, { key, signal, on });
      showWaterfall(this.bars, this.report?.timings_ms, browser);
      this.become("done", `done in ${milliseconds(browser.totalMs)}`);
    } catch (error) {
      if (error.name === "AbortError") this.become("stopped");
      else this.fail(error);
    } finally {
      delete this.text.dataset.streaming;
    }
  }

  add(piece) {
    this.become("streaming");
    const isAtEnd = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 40;
    this.text.append(piece);
    if (isAtEnd) this.text.scrollTop = this.text.scrollHeight;
  }

  know(report) {
    this.report = { ...this.report, ...report };
    showBadge(this.badge, this.report);
    showWaterfall(this.bars, this.report.timings_ms, null);
  }

  fail(error) {
    this.become("failed");
    if (error.report) this.know(error.report);
    const name = [error.status >= 400 && error.status, error.code].filter(Boolean).join(" ") || "Error";
    const more = [];
    if (error.status === 401) more.push("Put a key of this gateway into the field “API key”.");
    if (error.retryAfterS) more.push(`Try again in ${error.retryAfterS} s.`);
    if (error.report?.request_id) more.push(`Request ${error.report.request_id}.`);
    const parts = [element("strong", { textContent: name }), error.message, element("small", { textContent: more.join(" ") })];
    const alert = element("div", { className: "error", role: "alert" }, ...parts); // beneath what has come; is read out
    this.text.append(alert);
    alert.scrollIntoView({ block: "nearest" });
  }

  become(state, words = state) {
    this.state.dataset.state = state;
    this.state.textContent = words;
  }
}

function readForm() {
  const temperature = Number($("temperature").value);
  return {
    prompt: $("prompt").value,
    model: $("model").value,
    temperature: temperature > MODEL_OWN / 2 ? temperature : null,
    cascade: $("cascade").value,
    cache: $("cache").value,
  };
}

const sides = () => ($("side-by-side").checked ? ["edge", "cloud"] : [$("model").value]);

function layOut() {
  const panels = sides().map((side, i) => new AnswerPanel(side, i === 0));
  $("answers").replaceChildren(...panels.map((panel) => panel.root));
  return panels;
}

async function send(event) {
  event?.preventDefault();
  if (running) return;
  running = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("announcer").textContent = "Asking";
  const [form, key, models, panels] = [readForm(), $("key").value.trim(), sides(), layOut()];
  await Promise.all(panels.map((panel, i) => panel.run(bodyOf({ ...form, model: models[i] }), key, running.signal)));
  running = null;
  $("send").disabled = false;
  $("stop").disabled = true;
  $("announcer").textContent = panels.map((panel, i) => `${models[i]}: ${panel.state.textContent}`).join(", ");
}

async function copy(language) {
  const body = bodyOf({ ...readForm(), model: sides()[0] });
  const text = snippet(language, body, { origin: location.origin, needsKey: $("key").value.trim() !== "" });
  try {
    await navigator.clipboard.writeText(text);
    $("copied").textContent = `Copied ${language}`;
  } catch {
    $("copied").textContent = "The browser did not allow copying";
  }
}

function showTemperature() {
  const { temperature } = readForm();
  const words = temperature === null ? "default" : temperature.toFixed(1);
  $("temperature-shown").textContent = words;
  $("temperature").setAttribute("aria-valuetext", words);
}

$("form").addEventListener("submit", send);
$("stop").addEventListener("click", () => running?.abort());
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", () => {
    $("prompt").value = button.dataset.sample;
    $("prompt").focus();
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
$("temperature").addEventListener("input", showTemperature);
$("side-by-side").addEventListener("change", () => {
  $("model").disabled = $("side-by-side").checked;
  if (!running) layOut();
});
$("model").addEventListener("change", () => running || layOut());
$("key").value = storedKey();
$("key").addEventListener("input", () => storeKey($("key").value.trim()));
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => copy(button.dataset.language));
}
showTemperature();
layOut();
