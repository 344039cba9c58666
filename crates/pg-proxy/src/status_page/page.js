"use strict";

// Replaces the page's content each second, and says so when the proxy does not answer: old numbers must not look new.

const INTERVAL_MS = 1000;
const LIMIT_MS = 2000;
let answeredAt = Date.now();

function inLocalTime(page) {
  for (const time of page.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) {
      const day = at.toLocaleDateString(undefined, { month: "short", day: "numeric" });
      const clock = at.toLocaleTimeString(undefined, { hour12: false });
      time.textContent = `${day} ${clock}.${String(at.getMilliseconds()).padStart(3, "0")}`;
      time.title = time.dateTime;
    }
  }
}

function tell(text) {
  const freshness = document.getElementById("freshness");
  if (freshness.textContent !== text) freshness.textContent = text;
  document.body.classList.toggle("stale", text.startsWith("No answer"));
}

async function refresh() {
  // Whoever marks text wants to copy it.
  const marking = String(document.getSelection()) !== "";
  if (document.hidden || marking) {
    answeredAt = document.hidden ? Date.now() : answeredAt;
    if (marking) tell("Paused while text is marked");
    return;
  }
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(LIMIT_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    const page = next.getElementById("page");
    inLocalTime(page);
    document.getElementById("page").replaceWith(page);
    document.title = next.title;
    answeredAt = Date.now();
    tell("Live");
  } catch {
    const seconds = Math.round((Date.now() - answeredAt) / 1000);
    tell(`No answer from this proxy for ${seconds} s: what you see is old`);
  }
}

async function forEver() {
  await refresh();
  setTimeout(forEver, INTERVAL_MS);
}

inLocalTime(document);
tell("Live");
setTimeout(forEver, INTERVAL_MS);
