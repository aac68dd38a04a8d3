"use strict";
// Asks the server that this page came from, and shows what it has drawn: all texts are escaped there.
const form = document.getElementById("form");
const fields = [...form.querySelectorAll("textarea")];
const button = form.querySelector("button.ask");
const places = [...document.querySelectorAll("#answers .said-by")];
let asked = 0;

function refuse(place, message) {
  const said = document.createElement("p");
  said.className = "error";
  said.textContent = message;
  place.replaceChildren(said);
}

async function ask(run, place, row, why) {
  let answer;
  try {
    const response = await fetch("/predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ rows: [row], run, explain: why, html: true }),
    });
    answer = await response.json();
  } catch {
    answer = { error: "The server does not answer." };
  }
  return () => {
    if (answer.error) refuse(place, [answer.error, answer.hint].filter(Boolean).join("; "));
    else place.innerHTML = answer.html[0];
  };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const number = ++asked;
  const row = Object.fromEntries(fields.map((field) => [field.name, field.value]));
  const why = Boolean(form.elements.why?.checked);
  button.disabled = true;
  places.forEach((place) => place.classList.add("old"));
  const shown = await Promise.all(places.map((place, run) => ask(run, place, row, why)));
  if (number !== asked) return; // a later question has its own answer
  shown.forEach((show) => show());
  places.forEach((place) => place.classList.remove("old"));
  button.disabled = false;
});

form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

fetch("/runs").then((response) => response.json()).then(({ runs }) => {
  const box = document.getElementById("examples");
  for (const row of runs[0].examples) {
    const choice = document.createElement("button");
    choice.type = "button";
    choice.textContent = (row[fields[0].name] ?? "").slice(0, 80);
    choice.addEventListener("click", () => {
      fields.forEach((field) => { field.value = row[field.name] ?? ""; });
      form.requestSubmit();
    });
    box.append(choice);
    box.hidden = false;
  }
});
