"use strict";

const main = document.getElementById("main");
const EVERY_MS = 2000;

function drawCharts() {
  for (const place of main.querySelectorAll(".chart")) {
    const figure = JSON.parse(place.dataset.figure);
    const settings = { responsive: true, displaylogo: false, displayModeBar: false };
    const drawn = place.data !== undefined;
    Plotly.react(place, figure.data, figure.layout, settings);
    if (drawn) continue;
    place.on("plotly_click", ({ points: [point] }) => {
      const address = main.dataset.base + point.customdata;
      const told = !address.startsWith("#") || document.querySelector(address);
      if (point.customdata && told) location.assign(address);
    });
  }
}

/* A way to find an element again after its section was replaced. */
function nameOf(element) {
  const { command, individual } = element.dataset ?? {};
  if (command) {
    const whose = individual ? `[data-individual="${individual}"]` : "";
    return `[data-command="${command}"]${whose}`;
  }
  const closed = element.closest?.("details[id]");
  return closed && element.matches("summary") ? `#${closed.id} > summary` : null;
}

/* Keep what a reader has opened, focused or zoomed while the page below is replaced. */
function replaceContent(text) {
  const open = [...main.querySelectorAll("details[open]")].map((one) => one.id);
  const focused = main.contains(document.activeElement) && nameOf(document.activeElement);
  const charts = [...main.querySelectorAll(".chart")];
  main.innerHTML = text;
  for (const chart of charts) {
    const fresh = document.getElementById(chart.id);
    if (!fresh) continue;
    chart.dataset.figure = fresh.dataset.figure;
    fresh.replaceWith(chart);
  }
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) main.querySelector(focused)?.focus();
  drawCharts();
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

function tellTimes() {
  for (const place of main.querySelectorAll("time[data-since]")) {
    place.textContent = duration(Date.now() / 1000 - Number(place.dataset.since));
  }
}

function show(news) {
  if (news.overview) replaceContent(news.overview);
  if (news.training) document.getElementById("training").innerHTML = news.training;
  main.dataset.version = news.version;
  tellTimes();
}

async function follow() {
  setTimeout(follow, EVERY_MS);
  if (document.hidden) return; // it costs candidates' cores something
  let trouble = "";
  try {
    const since = encodeURIComponent(main.dataset.version);
    const answer = await fetch(`${main.dataset.here}news?since=${since}`);
    if (answer.status === 200) show(await answer.json());
    else if (answer.status !== 204) trouble = await answer.text();
  } catch {
    trouble = "the server does not answer: is `evolve ui` still running?";
  }
  document.body.classList.toggle("lost", trouble !== "");
  if (trouble) say(trouble);
}

function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (place.textContent = ""), 10000);
}

async function steer(command, wish) {
  say(`${command}: asked`);
  try {
    const answer = await fetch(`${main.dataset.here}steer/${command}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wish),
    });
    const { said, done } = await answer.json();
    say(said);
    return done === true;
  } catch {
    say(`${command} was not passed on: is \`evolve ui\` still running?`);
    return false;
  }
}

main.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-command]");
  if (!button || (button.dataset.ask && !confirm(button.dataset.ask))) return;
  const individual = button.dataset.individual;
  button.disabled = true;
  await steer(button.dataset.command, individual ? { individual: Number(individual) } : {});
  button.disabled = false;
});

for (const form of document.querySelectorAll("form[data-form]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await steer(form.dataset.form, Object.fromEntries(new FormData(form)))) form.reset();
  });
}

main.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-records]");
  if (!button) return;
  const place = document.getElementById("record");
  place.open = true;
  place.querySelector("[name=individual]").value = button.dataset.records;
  place.querySelector("[name=result]").focus();
});

drawCharts();
if (main.dataset.version) {
  tellTimes();
  setInterval(tellTimes, 1000);
  setTimeout(follow, EVERY_MS);
}
