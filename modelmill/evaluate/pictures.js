// Shows what a mark of a picture tells, at once and on touch too, and shows the same trial in all pictures; without it
// the browser shows the same, later.
(() => {
  const tip = document.getElementById("tip");
  const told = (mark) => {
    const title = mark.querySelector(":scope > title");
    if (title) {
      mark.dataset.tip = title.textContent;
      title.remove();
    }
    return mark.dataset.tip ? mark : null;
  };
  let shown = null;
  const near = (number) => {
    if (number === shown) return;
    for (const mark of document.querySelectorAll(".near")) mark.classList.remove("near");
    shown = number;
    if (!number) return;
    for (const mark of document.querySelectorAll(`[data-n="${number}"]`)) {
      mark.classList.add("near");
      if (mark.tagName === "polyline" && mark.matches(".thread")) mark.parentNode.insertBefore(mark, mark.parentNode.querySelector("line"));
    }
  };
  // Lines are thin: in parallel coordinates the one nearest to the pointer counts.
  const nearest = (picture, event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    let found = null, least = 9;
    for (const thread of picture.querySelectorAll(".thread")) {
      const points = thread.points;
      for (let i = 1; i < points.numberOfItems; i++) {
        const a = points.getItem(i - 1), b = points.getItem(i);
        if (at.x < a.x || at.x > b.x) continue;
        const away = Math.abs(a.y + ((b.y - a.y) * (at.x - a.x)) / (b.x - a.x) - at.y);
        if (away < least) { least = away; found = thread; }
      }
    }
    return found;
  };
  const show = (event) => {
    const over = event.target.closest ? event.target : document.body;
    const picture = over.closest(".parallel");
    const marked = picture ? nearest(picture, event) : over.closest("svg circle, svg path, svg polyline, svg rect");
    const mark = marked && told(marked);
    near(mark ? mark.dataset.n : null);
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const width = Math.min(tip.offsetWidth, innerWidth - 16);
    tip.style.left = Math.max(8, Math.min(event.clientX - width / 2, innerWidth - width - 8)) + "px";
    tip.style.top = (event.clientY > 70 ? event.clientY - tip.offsetHeight - 14 : event.clientY + 18) + "px";
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
