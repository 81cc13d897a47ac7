// What is wrong now, and what lately was.
import { element } from "./dom.js";

const SHOWN_RESOLVED = 3;

/** answer: of /v1/alerts, or {error: sentence}. */
export function showAlerts(place, answer) {
  if (answer.error) {
    place.replaceChildren(element("p", { className: "empty", textContent: answer.error }));
    return;
  }
  const { active, resolved, evaluated_at_s: evaluatedAtS } = answer;
  const entries = [
    ...active.map((alert) => entry(alert, alert.severity, `since ${time(alert.since_s)}`)),
    ...resolved.slice(0, SHOWN_RESOLVED).map((alert) => entry(alert, "resolved", `until ${time(alert.resolved_at_s)}`)),
  ];
  const calm = evaluatedAtS === null ? "Not evaluated yet." : `None at ${time(evaluatedAtS)}.`;
  const first = active.length > 0 ? [] : [element("p", { className: evaluatedAtS === null ? "empty" : "calm", textContent: calm })];
  place.replaceChildren(...first, element("ul", {}, ...entries));
}

function entry({ summary }, kind, when) {
  return element("li", { className: kind }, element("strong", { textContent: kind }), `${summary} (${when})`);
}

const time = (atS) => new Date(atS * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
