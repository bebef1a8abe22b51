"use strict";

const main = document.getElementById("main");

function drawCharts() {
  for (const place of main.querySelectorAll(".chart")) {
    const figure = JSON.parse(place.dataset.figure);
    const settings = { responsive: true, displaylogo: false, displayModeBar: false };
    Plotly.react(place, figure.data, figure.layout, settings);
    place.on("plotly_click", ({ points: [point] }) => {
      if (point.customdata) location.assign(main.dataset.address + point.customdata);
    });
    place.on("plotly_relayout", (change) => {
      place.dataset.zoomed = Object.keys(change).some((name) => name.includes(".range")) ? "yes" : "";
    });
  }
}

/* Keep what a reader has opened, typed or zoomed while the page below is replaced. */
function replaceContent(text) {
  const typing = main.contains(document.activeElement) && document.activeElement.matches("input, textarea");
  if (typing) return false;
  const open = [...main.querySelectorAll("details[open]")].map((one) => one.id);
  const zoomed = new Map();
  for (const chart of main.querySelectorAll(".chart")) {
    const axes = chart.layout && [chart.layout.xaxis, chart.layout.yaxis];
    if (chart.dataset.zoomed && axes) zoomed.set(chart.id, axes.map((axis) => axis.range.slice()));
    Plotly.purge(chart);
  }
  main.innerHTML = text;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  drawCharts();
  for (const [id, [x, y]] of zoomed) {
    const chart = document.getElementById(id);
    if (chart) Plotly.relayout(chart, { "xaxis.range": x, "yaxis.range": y });
  }
  return true;
}

async function follow() {
  if (document.hidden) return setTimeout(follow, 2000); // it costs candidates' cores something
  try {
    const answer = await fetch(`${main.dataset.source}?since=${main.dataset.version}`);
    if (answer.status === 200 && replaceContent(await answer.text())) {
      main.dataset.version = answer.headers.get("X-Version");
    }
    document.body.classList.remove("lost");
  } catch {
    say("the server does not answer: is `evolve ui` still running?");
  }
  setTimeout(follow, 2000);
}

function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (place.textContent = ""), 8000);
}

async function steer(command, wish) {
  const answer = await fetch(`/run/${encodeURIComponent(main.dataset.run)}/steer/${command}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Key": main.dataset.key },
    body: JSON.stringify(wish),
  });
  say((await answer.json()).said);
  return answer.ok;
}

main.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-command]");
  if (!button || (button.dataset.ask && !confirm(button.dataset.ask))) return;
  const individual = button.dataset.individual;
  steer(button.dataset.command, individual ? { individual: Number(individual) } : {});
});

main.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const wish = Object.fromEntries(new FormData(form));
  if (await steer("inject", wish)) form.reset();
});

drawCharts();
if (main.dataset.source) setTimeout(follow, 2000);
