"use strict";
const at = id => document.getElementById(id);
const MOST = 20e6;
let last = null; // what was asked for: {file} or {position}
let latest = 0;

function parameters() {
  const asked = new URLSearchParams({ k: at("k").value });
  for (const name of ["label", "threshold"]) if (at(name) && at(name).value) asked.set(name, at(name).value);
  return asked;
}

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

async function ask(what) {
  const turn = ++latest;
  last = what;
  at("query").hidden = false;
  const before = at("asked").src;
  at("asked").src = what.file ? URL.createObjectURL(what.file) : `thumbnail/${what.position}`;
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  at("title").textContent = what.file ? what.file.name || "pasted image" : "";
  at("found").setAttribute("aria-busy", "true");
  say("searching …");
  let told;
  try {
    if (what.file && what.file.size > MOST) throw new Error(`the file is larger than ${MOST / 1e6} MB`);
    const answer = what.file
      ? await fetch(`search?${parameters()}`, { method: "POST", body: what.file, headers: { "Content-Type": "application/octet-stream" } })
      : await fetch(`search/${what.position}?${parameters()}`);
    told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
  } catch (error) {
    if (turn !== latest) return;
    at("found").replaceChildren();
    at("found").removeAttribute("aria-busy");
    say(error.message === "Failed to fetch" ? "the server has ended; start it again" : error.message, true);
    return;
  }
  if (turn !== latest) return; // another was asked for meanwhile
  if (told.path) at("title").textContent = told.path;
  at("found").removeAttribute("aria-busy");
  at("found").replaceChildren(...told.neighbours.map(card));
  const count = told.neighbours.length;
  if (!count) say(`unknown: nothing is within ${told.threshold.toFixed(3)}`);
  else say(`${count} nearest${told.threshold === null ? "" : ` within ${told.threshold.toFixed(3)}`}; choose one to search with it`);
}

function card(one) {
  const item = document.createElement("li"), button = document.createElement("button");
  button.type = "button";
  const image = document.createElement("img");
  image.src = `thumbnail/${one.position}`;
  image.alt = "";
  image.loading = "lazy";
  const similarity = document.createElement("progress");
  similarity.className = "bar";
  similarity.max = 1;
  similarity.value = Math.max(0, one.similarity);
  similarity.setAttribute("aria-hidden", "true");
  const label = document.createElement("b");
  label.textContent = one.label || one.path.split("/").pop();
  const numbers = document.createElement("span");
  numbers.textContent = `similarity ${one.similarity.toFixed(3)}`;
  numbers.title = `distance ${one.distance.toFixed(4)}`;
  const file = document.createElement("span");
  file.className = "file";
  file.textContent = one.path.split("/").slice(-2).join("/") + (one.copies.length ? ` and ${one.copies.length} with the same content` : "");
  file.title = [one.path, ...one.copies].join("\n");
  button.append(image, similarity, label, numbers, file);
  button.addEventListener("click", () => { location.hash = `image-${one.position}`; });
  item.append(button);
  return item;
}

function send(file) {
  if (!file) return;
  history.pushState(null, "", location.pathname);
  ask({ file });
}

function follow() {
  const found = /^#image-(\d+)$/.exec(location.hash);
  if (found) { ask({ position: Number(found[1]) }); scrollTo(0, 0); }
}

addEventListener("hashchange", follow);
for (const name of ["k", "label", "threshold"]) at(name)?.addEventListener("change", () => last && ask(last));
at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => { send(at("file").files[0]); at("file").value = ""; });
addEventListener("paste", event => {
  const file = [...event.clipboardData.files].find(one => one.type.startsWith("image/"));
  if (file) { event.preventDefault(); send(file); }
});
let inside = 0; // elements of the page that a dragged file is over
addEventListener("dragenter", () => { inside += 1; at("drop").classList.add("over"); });
addEventListener("dragleave", () => { inside -= 1; if (inside <= 0) at("drop").classList.remove("over"); });
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  inside = 0;
  at("drop").classList.remove("over");
  send(event.dataTransfer.files[0]);
});

let stream = null;
function stop() {
  stream?.getTracks().forEach(track => track.stop());
  stream = null;
  at("viewfinder").hidden = true;
  at("camera").focus();
}
at("camera").addEventListener("click", async () => {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    at("query").hidden = false;
    say(`the camera cannot be used (${error.message})`, true);
    return;
  }
  at("video").srcObject = stream;
  at("viewfinder").hidden = false;
  at("take").focus();
});
at("stop").addEventListener("click", stop);
at("take").addEventListener("click", () => {
  const canvas = document.createElement("canvas"), video = at("video");
  if (!video.videoWidth) return; // there is no frame yet
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(blob => send(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  stop();
});
addEventListener("keydown", event => { if (event.key === "Escape" && stream) stop(); });
follow();
