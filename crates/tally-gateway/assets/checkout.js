// The payment page's own script: live status, countdown, copying, and the sandbox's button.
"use strict";

const root = document.getElementById("order");
const id = root.dataset.order;
const panel = document.getElementById("panel");
let skew = 0;

function tick() {
  const clock = document.getElementById("countdown");
  if (!clock) return;
  const left = Math.max(0, Number(clock.dataset.expires) - Math.floor(Date.now() / 1000 + skew));
  const two = (n) => String(n).padStart(2, "0");
  clock.textContent = `${Math.floor(left / 60)}:${two(left % 60)}`;
}

function settle() {
  const clock = document.getElementById("countdown");
  if (clock) skew = Number(clock.dataset.now) - Date.now() / 1000;
  tick();
}

async function refresh() {
  const answer = await fetch(`/order/${id}/panel`, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const focused = document.activeElement && document.activeElement.id;
  panel.innerHTML = await answer.text();
  if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
  settle();
}

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
  return answer.json();
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function payAndMine(button) {
  button.disabled = true;
  const { chain, address, amount, asset } = panel.querySelector(".pay").dataset;
  try {
    await post("/sandbox/pay", { chain, address, amount, asset });
    await pause(1000);
    await post("/sandbox/mine", { chain, blocks: 1 });
    await pause(1000);
    await post("/sandbox/mine", { chain, blocks: 6 });
  } catch (error) {
    button.disabled = false;
    button.textContent = String(error.message);
  }
}

// Browsers offer the clipboard to pages over HTTPS only; elsewhere the text is selected instead.
function copy(button) {
  if (navigator.clipboard) {
    navigator.clipboard.writeText(button.dataset.copy).then(() => {
      button.textContent = "Copied";
    });
  } else {
    getSelection().selectAllChildren(button.parentElement.querySelector("output"));
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "pay-and-mine") payAndMine(button);
  if (button.dataset.copy) copy(button);
});

const events = new EventSource(`/order/${id}/events`);
events.onmessage = (message) => {
  // The first message tells what the page shows already: to draw it again could take a button from under a click.
  const shown = document.getElementById("status");
  if (!shown || JSON.parse(message.data).version > Number(shown.dataset.version)) refresh();
};
settle();
setInterval(tick, 1000);
setInterval(refresh, 15000);
