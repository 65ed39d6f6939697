"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const stage = find("stage"), after = find("after"), before = find("before"), line = find("line");
  const plane = find("plane"), mix = find("mix"), flip = find("flip"), text = find("plane-text");
  const last = data.planes.length - 1;
  let at = Number(plane.value), share = 50, flipped = false;

  stage.style.aspectRatio = String(data.aspect);
  stage.style.setProperty("--aspect", String(data.aspect));

  const source = (image) => "data:image/webp;base64," + image;

  function showPlane(number) {
    at = Math.max(0, Math.min(last, number));
    after.src = source(data.after[at]);
    if (before) before.src = source(data.before[at]);
    plane.value = String(at);
    const one = data.planes[at];
    plane.setAttribute("aria-valuetext", one.text);
    text.textContent = one.text;
  }

  function showShare(percent) {
    if (!before) return;
    share = Math.max(0, Math.min(100, percent));
    mix.value = String(share);
    const shown = flipped ? 100 - share : share;
    before.style.clipPath = flipped ? `inset(0 0 0 ${share}%)` : `inset(0 ${100 - share}% 0 0)`;
    line.style.left = share + "%";
    stage.classList.toggle("flipped", flipped);
    mix.setAttribute("aria-valuetext", `${Math.round(shown)} % before`);
    stage.classList.toggle("only-left", share > 92);
    stage.classList.toggle("only-right", share < 8);
  }

  // The first shown plane of the section before or after; of this one, where the plane is not its first.
  function stepSection(direction) {
    const row = data.planes[at].row;
    const first = (wanted) => data.planes.findIndex((one) => one.row === wanted);
    if (direction < 0) {
      const own = first(row);
      if (at > own) return showPlane(own);
      const previous = own > 0 ? data.planes[own - 1].row : row;
      return showPlane(first(previous));
    }
    const next = data.planes.findIndex((one, index) => index > at && one.row !== row);
    showPlane(next < 0 ? last : next);
  }

  function turn() {
    flipped = !flipped;
    flip.setAttribute("aria-pressed", String(flipped));
    const [left, right] = stage.querySelectorAll(".tag");
    left.textContent = flipped ? "after" : "before";
    right.textContent = flipped ? "before" : "after";
    showShare(share);
  }

  const keys = {
    ArrowLeft: () => showPlane(at - 1),
    ArrowRight: () => showPlane(at + 1),
    ArrowUp: () => showPlane(at - 1),
    ArrowDown: () => showPlane(at + 1),
    PageUp: () => stepSection(-1),
    PageDown: () => stepSection(1),
    Home: () => showPlane(0),
    End: () => showPlane(last),
    ",": () => showShare(share - 5),
    ".": () => showShare(share + 5),
    b: () => before && turn(),
    B: () => before && turn(),
  };
  find("viewer").addEventListener("keydown", (event) => {
    // Sliders have arrows of their own.
    const ownKeys = event.target.type === "range" && !["b", "B", ",", "."].includes(event.key);
    if (ownKeys || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    keys[event.key]();
    event.preventDefault();
  });

  plane.addEventListener("input", () => showPlane(Number(plane.value)));
  find("previous").addEventListener("click", () => showPlane(at - 1));
  find("next").addEventListener("click", () => showPlane(at + 1));
  find("previous-section").addEventListener("click", () => stepSection(-1));
  find("next-section").addEventListener("click", () => stepSection(1));
  if (before) {
    mix.addEventListener("input", () => showShare(Number(mix.value)));
    flip.addEventListener("click", turn);
    const drag = (event) => {
      const box = stage.getBoundingClientRect();
      showShare((100 * (event.clientX - box.left)) / box.width);
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) drag(event);
    });
  }
  showPlane(at);
  showShare(share);
})();
